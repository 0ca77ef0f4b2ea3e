//go:build linux && race

package netio

import "syscall"

func sysWrite(fd uintptr, iov *[2]syscall.Iovec, a, b []byte, _ bool) (int, syscall.Errno) {
	return sysWriteLong(fd, iov, a, b)
}

func sysSplice(from, to int, n int64) (int64, syscall.Errno) {
	k, errno := retried(func() (int, error) {
		k, err := syscall.Splice(from, nil, to, nil, int(n), spliceNonblock)
		return int(k), err
	})
	return int64(k), errno
}
