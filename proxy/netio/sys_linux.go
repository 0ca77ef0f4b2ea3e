//go:build linux && !race

package netio

import (
	"syscall"
	"unsafe"
)

// The calls below do not tell the scheduler that they begin: no descriptor blocks here. On a socket
// rawRecv(2) and send(2) do the same as read(2) and write(2), and take a shorter way through the
// kernel.

// rawLimit is the most bytes one raw call moves. While it runs neither its P nor a stop-the-world
// moves on, so larger ones tell the scheduler.
const rawLimit = 96 << 10

// msgMore is MSG_MORE of send(2), which package syscall lacks.
const msgMore = 0x8000

func rawRecv(fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

func rawSend(fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// sysRead reads into p.
func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	return rawRecv(fd, p[:min(len(p), rawLimit)], 0)
}

// sysPeek looks for a byte to read, without taking it and without waiting.
func sysPeek(fd uintptr) (int, syscall.Errno) {
	var b [1]byte
	return rawRecv(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
}

// sysDrop reads and discards up to len(p) bytes. The kernel copies them to p only on sockets that
// do not support MSG_TRUNC.
func sysDrop(fd uintptr, p []byte) (int, syscall.Errno) {
	n, errno := rawRecv(fd, p, syscall.MSG_TRUNC)
	if errno == syscall.EOPNOTSUPP { // MPTCP before Linux 5.14
		return sysRead(fd, p)
	}
	return n, errno
}

// sysWrite sends a and then b, of which one may be empty, in one call. With finNext the kernel may
// hold back the end of a single piece, because a FIN follows.
func sysWrite(fd uintptr, iov *[2]syscall.Iovec, a, b []byte, finNext bool) (int, syscall.Errno) {
	if len(a)+len(b) > rawLimit {
		return sysWriteLong(fd, iov, a, b)
	}
	flags := uintptr(syscall.MSG_NOSIGNAL)
	if finNext {
		flags |= msgMore
	}
	switch {
	case len(b) == 0:
		return rawSend(fd, a, flags)
	case len(a) == 0:
		return rawSend(fd, b, flags)
	}
	for {
		setVec(iov, a, b)
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(iov)), 2)
		*iov = [2]syscall.Iovec{}
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// sysSplice moves up to n bytes from a socket to a pipe or back, without copying them.
func sysSplice(from, to int, n int64) (int64, syscall.Errno) {
	for {
		k, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), spliceNonblock)
		if errno != syscall.EINTR {
			return int64(k), errno
		}
	}
}
