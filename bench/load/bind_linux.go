package load

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func bindLate(rc syscall.RawConn) error {
	// Refused on some MPTCP sockets: ports are then chosen early, which does while they last.
	return rc.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}
