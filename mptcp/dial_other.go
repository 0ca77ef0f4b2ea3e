//go:build !linux

package mptcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

func (d *Dialer) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, Result, error) {
	if err := d.check(to); err != nil {
		return nil, Result{}, err
	}
	r := Result{Transport: TCP}
	if d.Mode != Off && !Disabled() {
		r = Result{Transport: Fallback, Reason: HostUnable}
	}
	if d.Mode == Require {
		return nil, r, &UnableError{Support: Host()}
	}
	if d.Interface != "" {
		return nil, r, &net.AddrError{Err: "binding to a device needs Linux", Addr: d.Interface}
	}
	nd := net.Dialer{KeepAlive: d.KeepAlive}
	nd.SetMultipathTCP(false)
	if d.Source.IsValid() {
		nd.LocalAddr = &net.TCPAddr{IP: d.Source.AsSlice(), Zone: d.Source.Zone()}
	}
	c, err := nd.DialContext(ctx, "tcp", to.String())
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err
		}
		return nil, r, err
	}
	return c.(*net.TCPConn), r, nil
}
