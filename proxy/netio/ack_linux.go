package netio

import "syscall"

func acknowledge(fd uintptr) {
	// Unix sockets and MPTCP refuse it.
	_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
}
