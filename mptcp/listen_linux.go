package mptcp

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// prepare runs between socket and bind; Go has set SO_REUSEADDR.
func (o *ListenOptions) prepare(fd int) error {
	if o.Interface != "" {
		if err := unix.BindToDevice(fd, o.Interface); err != nil {
			return fmt.Errorf("cannot bind to device %q: %w", o.Interface, os.NewSyscallError("setsockopt", err))
		}
	}
	if o.ReusePort {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_REUSEPORT", err)
		}
	}
	setInherited(fd, o.KeepAlive)
	return nil
}

// setInherited sets on a listening socket the options that accepted sockets
// inherit: keep-alive (d as in Dialer.KeepAlive) and TCP_NODELAY. A refusal is
// no error: kernels before 6.10 know fewer options on MPTCP sockets.
func setInherited(fd int, d time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_NODELAY, 1)
	if d < 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		return
	}
	s := int(max(keepAlive(d).Round(time.Second)/time.Second, 1))
	_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_KEEPIDLE, s)
	_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_KEEPINTVL, s)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
}

// finish sets the backlog and asks what was granted.
func (o *ListenOptions) finish(l *net.TCPListener) (Transport, error) {
	rc, err := l.SyscallConn()
	if err != nil {
		return Unknown, err
	}
	granted := Unknown
	var askErr error
	err = rc.Control(func(fd uintptr) {
		if o.Backlog > 0 {
			// Listening again only changes the length of the queue.
			if askErr = os.NewSyscallError("listen", unix.Listen(int(fd), o.Backlog)); askErr != nil {
				return
			}
		}
		granted, askErr = Granted(int(fd))
	})
	if err != nil {
		return Unknown, err
	}
	return granted, askErr
}

// Granted says of a listening socket whether it is TCP, MPTCP or unix. It looks
// at the protocol alone: on a listener nothing can have fallen back.
func Granted(fd int) (Transport, error) {
	p, e := getsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if e != 0 {
		return Unknown, os.NewSyscallError("getsockopt SO_PROTOCOL", e)
	}
	switch p {
	case unix.IPPROTO_MPTCP:
		return MPTCP, nil
	case unix.IPPROTO_TCP:
		return TCP, nil
	}
	d, e := getsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if e != 0 {
		return Unknown, os.NewSyscallError("getsockopt SO_DOMAIN", e)
	}
	if d == unix.AF_UNIX {
		return Unix, nil
	}
	return Unknown, nil
}
