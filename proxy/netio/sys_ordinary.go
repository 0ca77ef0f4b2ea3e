//go:build unix && (!linux || race)

package netio

import "syscall"

// The ordinary calls, for systems without raw ones and for the race detector, which sees only
// these.

// retried calls f until no signal interrupts it.
func retried(f func() (int, error)) (int, syscall.Errno) {
	for {
		n, err := f()
		if err == nil {
			return n, 0
		}
		if errno := err.(syscall.Errno); errno != syscall.EINTR {
			return 0, errno
		}
	}
}

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	return retried(func() (int, error) { return syscall.Read(int(fd), p) })
}

func sysPeek(fd uintptr) (int, syscall.Errno) {
	var b [1]byte
	return retried(func() (int, error) {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return n, err
	})
}

func sysDrop(fd uintptr, p []byte) (int, syscall.Errno) { return sysRead(fd, p) }
