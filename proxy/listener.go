package proxy

import (
	"net/netip"
	"sync/atomic"

	"mpgate/telemetry"
)

// ListenerOptions configure a listener.
type ListenerOptions struct {
	Trusted   []netip.Prefix // trusted proxies
	TrustUnix bool           // peers on unix sockets are trusted proxies
	// TrustCertificate makes peers with a verified client certificate trusted proxies.
	TrustCertificate bool
	// OwnNames are header fields that only the gateway may send to a server, for clients of all
	// listeners.
	OwnNames      []string
	HealthPath    string // answered here; "" is none
	RequireMPTCP  bool   // connections without MPTCP, or after a fallback, are closed
	RedirectHTTPS bool   // answer everything with a 308 to the same target by https
	Routes        *Routes
	Passthrough   *Passthroughs // nil: none
	// TCP has the route that takes every connection of the listener; nil: HTTP is spoken.
	TCP  *Passthroughs
	TLS  Policies // nil: plain
	H2C  bool     // accept HTTP/2 without TLS, by its preface
	NoH1 bool     // and refuse HTTP/1
	// Challenge answers a CA that validates a name (http-01), before redirects and routes; nil:
	// never.
	Challenge func(host, path []byte) (body string, ours bool)

	ProxyHeader     ProxyHeader
	ProxyHeaderFrom []netip.Prefix // peers that may send one
}

// Listener is a front listener of the data plane. It remains the same after a reload; Update
// replaces its options.
type Listener struct {
	name    string
	metrics *telemetry.Instruments
	view    atomic.Pointer[view]
}

// view is the state of a listener in one generation.
type view struct {
	ListenerOptions
	conns             *telemetry.ListenerMeter
	noRoute           *telemetry.ExchangeMeter
	meters            *meters // of Routes
	passthroughMeters *meters // of Passthrough
	tcpMeters         *meters // of TCP
}

// NewListener makes a listener that serves o.
func (p *Proxy) NewListener(name string, o ListenerOptions) *Listener {
	l := &Listener{name: name, metrics: p.options.Instruments}
	l.Update(o)
	return l
}

// Update applies o to requests that begin from now on.
func (l *Listener) Update(o ListenerOptions) {
	v := &view{
		ListenerOptions: o, conns: l.metrics.Listener(l.name), noRoute: l.metrics.Exchange(l.name, ""),
		meters:            l.newMeters(l.metrics.Exchange, o.Routes),
		passthroughMeters: l.newMeters(l.metrics.Passthrough, (*Routes)(o.Passthrough)),
		tcpMeters:         l.newMeters(l.metrics.Passthrough, (*Routes)(o.TCP)),
	}
	l.view.Swap(v).end(v)
}

// Close releases the listener's metrics. No connection may be accepted after it.
func (l *Listener) Close() { l.view.Load().end(nil) }

// end releases the metrics of a view; next, if not nil, follows it.
func (v *view) end(next *view) {
	if v == nil {
		return
	}
	v.conns.Release()
	v.noRoute.Release()
	if next == nil {
		next = new(view)
	}
	v.meters.end(next.meters)
	v.passthroughMeters.end(next.passthroughMeters)
	v.tcpMeters.end(next.tcpMeters)
}

// trusts reports whether a is the address of a trusted proxy.
func (v *view) trusts(a netip.Addr) bool { return containsAddr(v.Trusted, a) }
