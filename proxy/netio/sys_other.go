//go:build unix && !linux

package netio

import "syscall"

func sysWrite(fd uintptr, _ *[2]syscall.Iovec, a, b []byte, _ bool) (int, syscall.Errno) {
	if len(a) == 0 {
		a = b
	}
	return retried(func() (int, error) { return syscall.Write(int(fd), a) })
}
