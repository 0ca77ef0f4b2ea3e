package proxy

import (
	"mpgate/proxy/http1"
	"mpgate/proxy/http2"
	"mpgate/proxy/limits"
)

// Limits apply to the connections that are accepted while they are set. Zero is the value of
// limits.Default; a MinRate below zero is none. The limit of all connections is the listener's.
type Limits = limits.Limits

// connLimits are the limits of a connection.
type connLimits struct {
	http      http1.ServerOptions
	http2     http2.ServerOptions
	perClient int
}

// SetLimits changes the limits for connections that are accepted from now on.
func (p *Proxy) SetLimits(l Limits) {
	l = l.Or(limits.Default)
	p.limits.Store(&connLimits{
		http:      http1.ServerOptions{Limits: l},
		http2:     http2.ServerOptions{Limits: l, Memory: &p.memory},
		perClient: l.PerClient,
	})
}
