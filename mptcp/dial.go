package mptcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// A Dialer makes connections that use MPTCP if the host, the path and the peer support it, and TCP
// otherwise. The zero value prefers MPTCP.
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
	// Memory, if set and Mode is Prefer, holds what earlier dials have learned: a server that does
	// not support MPTCP is dialled by plain TCP for a while, and an MPTCP SYN that is not answered
	// is raced by one plain connect. nil: nothing is learned.
	Memory *Memory
	// SourceSelector, if set, chooses the source address of dials without Source and Interface.
	SourceSelector SourceSelector

	touch bool // close the connection at once, and return none
}

const defaultKeepAlive = 15 * time.Second

// Result is the outcome of a dial.
type Result struct {
	// Transport is what the socket reports right after the handshake.
	Transport Transport
	// Reason is why it is Fallback. It is inferred, because the kernel does not report it.
	Reason Reason
	// Learned: MPTCP was not requested, because of the outcome of earlier dials, or because the
	// host is short of memory. Transport is then Fallback, and Reason the one that was learned.
	Learned bool
}

// ErrRequired is the error of a dial with Require that connected and got TCP.
var ErrRequired = errors.New("MPTCP is required and the connection does not use it")

// ErrNoPort is wrapped in the error of a dial if this host has no local port left towards the peer:
// connections that are open, or were until recently, use all of them
// (net.ipv4.ip_local_port_range).
var ErrNoPort = errors.New("no local port is free")

// noPortError is ErrNoPort with the kernel's error.
type noPortError struct{ err error }

func (e *noPortError) Error() string   { return e.err.Error() + ": " + ErrNoPort.Error() }
func (e *noPortError) Unwrap() []error { return []error{ErrNoPort, e.err} }

// Dial makes one attempt to connect; with a Memory two SYNs may be in flight for it. TCP replaces
// MPTCP only if this host does not support it, never because the connect failed, so a dead server
// gets one attempt. No goroutine is left running. The error is a *net.OpError with the errno, or
// the context's error, inside; with Require it may hold a *UnableError or ErrRequired. The Result
// is also valid with an ErrRequired.
func (d *Dialer) Dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, Result, error) {
	return d.open(ctx, to)
}

// Touch is Dial for a test whether the peer accepts connections: it closes the connection at once.
// It costs half of Dial with Close, because it makes no net.Conn.
func (d *Dialer) Touch(ctx context.Context, to netip.AddrPort) (Result, error) {
	one := *d
	one.touch = true
	c, r, err := one.open(ctx, to)
	if c != nil {
		err = c.Close()
	}
	return r, err
}

func (d *Dialer) open(ctx context.Context, to netip.AddrPort) (*net.TCPConn, Result, error) {
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

// check returns the errors that can be found without a system call.
func (d *Dialer) check(to netip.AddrPort) error {
	if !to.Addr().IsValid() {
		return &net.AddrError{Err: "no address to dial", Addr: to.String()}
	}
	if src := d.Source.Unmap(); src.IsValid() && src.Is4() != to.Addr().Is4() {
		return &net.AddrError{Err: "the source address is of the other IP version", Addr: src.String()}
	}
	return nil
}
