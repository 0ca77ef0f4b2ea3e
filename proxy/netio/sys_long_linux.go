package netio

import (
	"syscall"
	"unsafe"
)

// sysWriteLong is writev(2) by the ordinary call, for pieces that take long to copy.
func sysWriteLong(fd uintptr, iov *[2]syscall.Iovec, a, b []byte) (int, syscall.Errno) {
	if len(a) == 0 {
		a, b = b, nil
	}
	for {
		setVec(iov, a, b)
		count := uintptr(2)
		if len(b) == 0 {
			count = 1
		}
		n, _, errno := syscall.Syscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(iov)), count)
		*iov = [2]syscall.Iovec{}
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

func setVec(iov *[2]syscall.Iovec, a, b []byte) {
	iov[0].Base = unsafe.SliceData(a)
	iov[0].SetLen(len(a))
	iov[1].Base = unsafe.SliceData(b)
	iov[1].SetLen(len(b))
}
