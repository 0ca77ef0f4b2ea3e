package mptcp

import (
	"encoding/binary"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// FixReceiveStall enlarges the receive buffer of a connection that stalls because the buffer is
// full of out-of-order data: Linux (6.18 does) takes nothing more in then, also not the piece that
// is missing, which the peer sends again and again. It is seen with transfers over several paths,
// one of which ends. The sign of it is a full buffer in which there is nothing to read; one that is
// full because its reader is slow is left alone. It reports whether it enlarged the buffer. A check
// that finds nothing is one system call.
//
// The buffer is enlarged by way of SO_RCVLOWAT, which needs no privilege and leaves the kernel's
// own tuning on (mptcp_set_rcvlowat; tried on 6.18), by about two thirds. The kernel stops near
// net.ipv4.tcp_rmem's largest; a connection that is full there stays stalled. A peer that leaves a
// hole on purpose can have its buffer grow so far, as one that uploads fast can; it has to send
// what fills it, and is ended when its time to be idle is over.
func FixReceiveStall(rc syscall.RawConn) (bool, error) {
	q := queries.Get().(*query)
	err := q.run(rc, (*query).fixReceiveStall)
	did := q.count > 0
	q.free()
	return did, err
}

func (q *query) fixReceiveStall(fd int) {
	q.count = 0
	held, room := q.receiveBuffer(fd)
	if q.err != nil || held < room {
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
	if _, now := q.receiveBuffer(fd); now > room {
		q.count = 1
	}
}

// memInfoSize is that of struct sk_meminfo, nine numbers (SO_MEMINFO;
// include/uapi/linux/sock_diag.h): the first is what the receive buffer holds, the second what it
// may, in bytes with the kernel's own for each packet.
const memInfoSize = 9 * 4

func (q *query) receiveBuffer(fd int) (held, room uint32) {
	n, e := getsockopt(fd, unix.SOL_SOCKET, unix.SO_MEMINFO, q.meminfo[:])
	switch {
	case e != 0:
		q.err = os.NewSyscallError("getsockopt SO_MEMINFO", e)
	case n < 2*4:
		q.err = os.NewSyscallError("getsockopt SO_MEMINFO", unix.EMSGSIZE)
	default:
		return binary.NativeEndian.Uint32(q.meminfo[:]), binary.NativeEndian.Uint32(q.meminfo[4:])
	}
	return 0, 0
}
