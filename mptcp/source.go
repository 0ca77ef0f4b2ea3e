package mptcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"mpgate/task"
)

// A SourceSelector chooses the source address of dials, so that they do not use failed paths. It is
// safe for concurrent use. No type of package net does that.
type SourceSelector interface {
	// SelectSource returns the address to connect from to reach to; the zero Addr leaves the choice
	// to the kernel.
	SelectSource(to netip.Addr) netip.Addr
	// Valid returns a context that is done once SelectSource may return other addresses.
	Valid() context.Context
}

// maxRedials limits how often one dial begins again because the paths have changed.
const maxRedials = 4

// dialSelected is dial with an address from the SourceSelector, unless the caller has chosen one. A
// dial that waits on a path which fails meanwhile begins again on another.
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

// dialWhileValid dials until the selected address changes; moved reports that it changed before the
// dial had ended.
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
