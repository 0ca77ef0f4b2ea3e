package mptcp

import (
	"encoding/binary"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Of struct sk_meminfo (SO_MEMINFO; include/uapi/linux/sock_diag.h): nine numbers of 32 bits.
const (
	memInfoSize  = 9 * 4
	memRmemAlloc = 0 * 4
	memRcvbuf    = 1 * 4
)

// Unclog frees a connection that stands still because its receive buffer is full of what came out of order: Linux (6.18 does)
// takes nothing more in then, also not the piece that is missing, which the peer sends again and again. It is seen with
// transfers over several paths, one of which ends. The sign of it is a full buffer in which there is nothing to read; one that
// is full because its reader is slow is left alone. It says whether it did something.
//
// The buffer is enlarged by way of SO_RCVLOWAT, which needs no privilege and leaves the kernel's own tuning on
// (mptcp_set_rcvlowat, since Linux 6.10), by about two thirds. The kernel stops at net.ipv4.tcp_rmem's largest; what
// is clogged there stays so, as a peer can bring about that wants to fill memory: it holds no more than by sending fast, and no
// longer than a connection may be idle. A look that finds nothing is one system call.
func Unclog(rc syscall.RawConn) (bool, error) {
	q := queries.Get().(*query)
	err := q.run(rc, (*query).unclog)
	did := q.count > 0
	q.free()
	return did, err
}

func (q *query) unclog(fd int) {
	q.count = 0
	if n, e := getsockopt(fd, unix.SOL_SOCKET, unix.SO_MEMINFO, q.meminfo[:]); e != 0 || n < memRcvbuf+4 {
		q.err = os.NewSyscallError("getsockopt SO_MEMINFO", e)
		return
	}
	held := binary.NativeEndian.Uint32(q.meminfo[memRmemAlloc:])
	room := binary.NativeEndian.Uint32(q.meminfo[memRcvbuf:])
	if held < room {
		return
	}
	var b [1]byte
	if _, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); err != unix.EAGAIN {
		return // there is something to read, or the end
	}
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, int(min(room, 1<<30)))
	if back := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1); err == nil {
		err = back
	}
	if err != nil {
		q.err = os.NewSyscallError("setsockopt SO_RCVLOWAT", err)
		return
	}
	if n, e := getsockopt(fd, unix.SOL_SOCKET, unix.SO_MEMINFO, q.meminfo[:]); e == 0 && n >= memRcvbuf+4 && binary.NativeEndian.Uint32(q.meminfo[memRcvbuf:]) > room {
		q.count = 1
	}
}
