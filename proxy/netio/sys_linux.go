//go:build linux && !race

package netio

import (
	"syscall"
	"unsafe"
)

// rawLimit is the most bytes one raw call moves. While it runs neither its P nor a stop-the-world
// moves on, so larger ones tell the scheduler.
const rawLimit = 96 << 10

// msgMore is MSG_MORE of send(2), which package syscall lacks.
const msgMore = 0x8000

// sysRead is recv(2) without telling the scheduler: fd must not block. On a socket it does the same
// as read(2) and takes a shorter way through the kernel; likewise send(2).
func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), rawLimit)), 0, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// sysWrite is send(2), or writev(2) where both pieces hold something. more lets the kernel hold
// back the end of what a single piece has, since a FIN follows.
func sysWrite(fd uintptr, iov *[2]syscall.Iovec, a, b []byte, more bool) (int, syscall.Errno) {
	if len(a)+len(b) > rawLimit {
		return sysWriteLong(fd, iov, a, b)
	}
	flags := uintptr(syscall.MSG_NOSIGNAL)
	if more {
		flags |= msgMore
	}
	for {
		var n uintptr
		var errno syscall.Errno
		switch {
		case len(b) == 0:
			n, _, errno = syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(len(a)), flags, 0, 0)
		case len(a) == 0:
			n, _, errno = syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		default:
			setVec(iov, a, b)
			n, _, errno = syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(iov)), 2)
			*iov = [2]syscall.Iovec{}
		}
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// sysPeek looks whether there is a byte to read, without taking it and without waiting.
func sysPeek(fd uintptr) (int, syscall.Errno) {
	var b [1]byte
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// sysDrop is sysRead of what nobody wants. p takes what comes where the socket is of a kind that
// copies all the same.
func sysDrop(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_TRUNC, 0, 0)
		switch errno {
		case syscall.EINTR:
		case syscall.EOPNOTSUPP: // MPTCP before Linux 5.14
			return sysRead(fd, p)
		default:
			return int(n), errno
		}
	}
}
