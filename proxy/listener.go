package proxy

import (
	"net/netip"
	"sync/atomic"

	"mpgate/telemetry"
)

// ListenerOptions are what the data plane knows of a listener.
type ListenerOptions struct {
	Trusted   []netip.Prefix // whose X-Forwarded-* count
	TrustUnix bool           // those of peers on unix sockets count
	// OwnNames are fields that only the gateway may send to a server, on whichever listener a
	// client comes.
	OwnNames      []string
	HealthPath    string // answered here; "" is none
	RequireMPTCP  bool   // connections that are not MPTCP, or no longer, are closed
	RedirectHTTPS bool   // answer everything with a 308 to the same target by https
	Routes        *Routes
	Passthrough   *Passthroughs // nil: none
	TCP           *Passthroughs // nil: HTTP is spoken; else connections take its route for the listener
	TLS           Policies      // nil: plain
	H2C           bool          // HTTP/2 is spoken without TLS by clients that begin so
	NoH1          bool          // and nothing else
	// Challenge answers a CA that asks for proof of a name (http-01), before redirects and routes;
	// nil: never.
	Challenge func(host, path []byte) (body string, ours bool)

	ProxyHeader     ProxyHeader
	ProxyHeaderFrom []netip.Prefix // who may send one
}

// Listener is a front listener as the data plane sees it. It stays the same over reloads, while
// what it does is swapped by Update.
type Listener struct {
	name    string
	metrics *telemetry.Instruments
	view    atomic.Pointer[view]
}

// view is one generation of a listener.
type view struct {
	ListenerOptions
	conns   *telemetry.ListenerMeter
	noRoute *telemetry.ExchangeMeter
	meters  *meters // of Routes
	passed  *meters // of Passthrough
	tcp     *meters // of TCP
}

// NewListener makes a listener that serves o.
func (p *Proxy) NewListener(name string, o ListenerOptions) *Listener {
	l := &Listener{name: name, metrics: p.options.Instruments}
	l.Update(o)
	return l
}

// Update makes requests that begin from now on see o.
func (l *Listener) Update(o ListenerOptions) {
	v := &view{
		ListenerOptions: o, conns: l.metrics.Listener(l.name), noRoute: l.metrics.Exchange(l.name, ""),
		meters: l.newMeters(l.metrics.Exchange, o.Routes),
		passed: l.newMeters(l.metrics.Passthrough, (*Routes)(o.Passthrough)),
		tcp:    l.newMeters(l.metrics.Passthrough, (*Routes)(o.TCP)),
	}
	l.view.Swap(v).end(v)
}

// Close gives the listener's metrics back. No connection may come after it.
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
	v.passed.end(next.passed)
	v.tcp.end(next.tcp)
}

// trusts says whether what a says about others is believed.
func (v *view) trusts(a netip.Addr) bool { return contains(v.Trusted, a) }
