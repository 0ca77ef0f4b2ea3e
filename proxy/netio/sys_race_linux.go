//go:build linux && race

package netio

import "syscall"

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err == nil {
			return n, 0
		}
		if errno := err.(syscall.Errno); errno != syscall.EINTR {
			return 0, errno
		}
	}
}

func sysWrite(fd uintptr, iov *[2]syscall.Iovec, a, b []byte, _ bool) (int, syscall.Errno) {
	return sysWriteLong(fd, iov, a, b)
}

// sysPeek looks whether there is a byte to read, without taking it and without waiting.
func sysPeek(fd uintptr) (int, syscall.Errno) {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err == nil {
			return n, 0
		}
		if errno := err.(syscall.Errno); errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// sysDrop is sysRead of what nobody wants.
func sysDrop(fd uintptr, p []byte) (int, syscall.Errno) { return sysRead(fd, p) }
