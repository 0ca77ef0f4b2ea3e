package mptcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"mpgate/task"
)

// A SourceSelector knows which of the host's paths do not carry, and leads dials around them. It is
// safe for concurrent use.
type SourceSelector interface {
	// From is the address to connect from to reach to; the zero Addr leaves it to the kernel.
	SelectSource(to netip.Addr) netip.Addr
	// Era is done once the answers of From may be others than before.
	Valid() context.Context
}

// maxRedials bounds how often one dial begins again because the paths have changed.
const maxRedials = 4

// dialSelected is dial, around paths that do not carry where the choice of the address is the
// kernel's. A dial that is waiting on a path that then turns out not to carry begins again on
// another.
func (d *Dialer) dialSelected(ctx context.Context, to netip.AddrPort) (*net.TCPConn, Result, error) {
	if d.SourceSelector == nil || d.Source.IsValid() || d.Interface != "" {
		return d.dial(ctx, to)
	}
	for range maxRedials {
		c, r, err, moved := d.dialWhileValid(ctx, to)
		if !moved {
			return c, r, err
		}
	}
	return d.dial(ctx, to)
}

// dialWhileValid dials until the way to go is another; moved says that it became so before the dial
// had ended.
func (d *Dialer) dialWhileValid(ctx context.Context, to netip.AddrPort) (c *net.TCPConn, r Result, err error, moved bool) {
	era := d.SourceSelector.Valid()
	one := *d
	one.Source = d.SourceSelector.SelectSource(to.Addr())
	dialCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := task.AfterDone(era, "dial: detour", func() {
		if d.SourceSelector.SelectSource(to.Addr()) != one.Source {
			cancel()
		}
	})
	defer stop()
	c, r, err = one.dial(dialCtx, to)
	// The host has just lost the address.
	if one.Source.IsValid() && errors.Is(err, syscall.EADDRNOTAVAIL) {
		c, r, err = d.dial(dialCtx, to)
	}
	return c, r, err, err != nil && dialCtx.Err() != nil && ctx.Err() == nil
}
