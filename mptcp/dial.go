package mptcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// A Dialer makes TCP connections that are MPTCP where the host, the path and the
// peer allow it. The zero value prefers MPTCP.
type Dialer struct {
	Mode Mode
	// Source is the local address to connect from; its port is the kernel's choice.
	Source netip.Addr
	// Interface names a device to bind to. All subflows of a connection are bound
	// to it then: such a connection has one path.
	Interface string
	// KeepAlive is the idle time before the first probe and the time between
	// probes; 0 means 15 s, below 0 none are sent. A host that refuses the options
	// on MPTCP sockets is not an error.
	KeepAlive time.Duration
}

const defaultKeepAlive = 15 * time.Second

// Result is what became of a dial.
type Result struct {
	// Transport is what the socket said right after the handshake.
	Transport Transport
	// Reason is why it is Fallback: inferred, as nobody tells.
	Reason Reason
}

// ErrRequired is the error of a dial with Require that connected and got TCP.
var ErrRequired = errors.New("MPTCP is required and the connection does not speak it")

// Dial makes one attempt to connect. The socket is made once: TCP replaces MPTCP
// only where this host has none, never because the connect failed, so a dead
// server is asked once. It does not start a goroutine. The error is a
// *net.OpError with the errno, or the context's error, inside; with Require it
// may hold a *UnableError or ErrRequired. Result is right also beside an
// ErrRequired.
func (d *Dialer) Dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, Result, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	c, r, err := d.dial(ctx, to)
	if err == nil {
		return c, r, nil
	}
	op := &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	if d.Source.IsValid() {
		op.Source = &net.TCPAddr{IP: d.Source.AsSlice(), Zone: d.Source.Zone()}
	}
	return nil, r, op
}

// check finds the faults that no system call needs to be asked about.
func (d *Dialer) check(to netip.AddrPort) error {
	if !to.Addr().IsValid() {
		return &net.AddrError{Err: "no address to dial", Addr: to.String()}
	}
	if src := d.Source.Unmap(); src.IsValid() && src.Is4() != to.Addr().Is4() {
		return &net.AddrError{Err: "the source address is of the other IP version", Addr: src.String()}
	}
	return nil
}
