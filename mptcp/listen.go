package mptcp

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// ListenOptions say how to listen. The zero value prefers MPTCP.
type ListenOptions struct {
	Mode Mode
	// Interface names a device to bind to.
	Interface string
	// Backlog is the length of the queue; 0 takes the host's net.core.somaxconn.
	Backlog int
	// ReusePort allows several sockets at one address, of the same user.
	ReusePort bool
	// KeepAlive is as in Dialer. It is set on the listening socket, and
	// accepted ones inherit it.
	KeepAlive time.Duration
}

// Listen opens host:port and says what the kernel granted: TCP where MPTCP was
// preferred on a host that has none. "0.0.0.0:80" is IPv4 only, "[::]:80" IPv6
// only, ":80" both. With Require a host without MPTCP is a *UnableError, inside
// a *net.OpError.
//
// The listener sets no keep-alive on each accepted connection as Go's do.
func Listen(ctx context.Context, address string, o ListenOptions) (*net.TCPListener, Transport, error) {
	network := networkOf(address)
	if o.Mode == Require {
		if s := Probe(); !s.Usable {
			return nil, Unknown, listenError(network, address, &UnableError{Support: s})
		}
	}
	lc := net.ListenConfig{
		KeepAlive: -1,
		Control: func(_, _ string, rc syscall.RawConn) error {
			var err error
			if e := rc.Control(func(fd uintptr) { err = o.prepare(int(fd)) }); e != nil {
				return e
			}
			return err
		},
	}
	// Explicitly also where it is off: since Go 1.24 listeners ask for MPTCP by
	// default. Go retries as TCP whatever the error was, and does not tell:
	// hence the question to the socket.
	lc.SetMultipathTCP(o.Mode != Off && !Disabled())
	nl, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, Unknown, err
	}
	l := nl.(*net.TCPListener)
	granted, err := o.finish(l)
	if err == nil && o.Mode == Require && granted != MPTCP {
		s := Probe()
		if s.Usable {
			s.Why, s.Remedy = "the kernel granted TCP only for this address", "check whether a socket option of the listener is not supported on MPTCP sockets"
		}
		err = &UnableError{Support: s}
	}
	if err != nil {
		l.Close()
		return nil, Unknown, listenError(network, address, err)
	}
	return l, granted, nil
}

func listenError(network, address string, err error) error {
	var a net.Addr
	if ap, e := netip.ParseAddrPort(address); e == nil {
		a = net.TCPAddrFromAddrPort(ap)
	}
	return &net.OpError{Op: "listen", Net: network, Addr: a, Err: err}
}

// networkOf keeps to the IP version that is written: Go's "tcp" would make
// 0.0.0.0 and :: the same, open to both.
func networkOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "tcp"
	}
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "tcp"
	case a.Unmap().Is4():
		return "tcp4"
	}
	return "tcp6"
}

func keepAlive(d time.Duration) time.Duration {
	if d == 0 {
		return defaultKeepAlive
	}
	return d
}
