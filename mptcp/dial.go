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
	// Memory, if there is one and Mode is Prefer, spares dials what earlier ones have learned:
	// a server that has no MPTCP is dialled by plain TCP for a while, and a SYN that asks for
	// it and gets no answer is raced by one plain connect. nil: each dial stands alone.
	Memory *Memory
	// SourceSelector, if there is one and neither Source nor Interface is given, leads around paths
	// that do not carry.
	SourceSelector SourceSelector
}

const defaultKeepAlive = 15 * time.Second

// Result is the outcome of a dial.
type Result struct {
	// Transport is what the socket said right after the handshake.
	Transport Transport
	// Reason is why it is Fallback: inferred, as nobody tells.
	Reason Reason
	// Learned: MPTCP was not asked for this time, because of what earlier dials met, or as the host
	// is short of memory. Transport is then Fallback, since that is what the operator gets, and
	// Reason the one that was learned.
	Learned bool
}

// ErrRequired is the error of a dial with Require that connected and got TCP.
var ErrRequired = errors.New("MPTCP is required and the connection does not speak it")

// ErrNoPort is inside the error of a dial for which this host had no local port left towards the
// peer: connections that are open, or were a short while ago, have all of them
// (net.ipv4.ip_local_port_range).
var ErrNoPort = errors.New("no local port is free")

// noPortError is ErrNoPort with what the kernel said.
type noPortError struct{ err error }

func (e *noPortError) Error() string   { return e.err.Error() + ": " + ErrNoPort.Error() }
func (e *noPortError) Unwrap() []error { return []error{ErrNoPort, e.err} }

// Dial makes one attempt to connect; with a Memory, see there, two SYNs may be out at
// once for it. The socket is made once: TCP replaces MPTCP
// only where this host has none, never because the connect failed, so a dead
// server is asked once. It leaves no goroutine behind. The error is a
// *net.OpError with the errno, or the context's error, inside; with Require it
// may hold a *UnableError or ErrRequired. Result is right also beside an
// ErrRequired.
func (d *Dialer) Dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, Result, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	c, r, err := d.dialSelected(ctx, to)
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
