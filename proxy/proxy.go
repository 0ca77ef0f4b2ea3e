package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/proxy/conninfo"
	"mpgate/proxy/filter"
	"mpgate/proxy/http2"
	"mpgate/telemetry"
)

// Options apply to all listeners.
type Options struct {
	Limits // SetLimits changes them

	Instruments *telemetry.Instruments
	AccessLog   *telemetry.AccessLog // nil: none; SetAccessLog changes it
	Logger      *slog.Logger
	// Live, if set, lists the connections that use MPTCP.
	Live *conninfo.Registry
	// PathAt, if set, returns the name of the declared path with a local address; "" if there is
	// none. It is called by requests, so it must not block.
	PathAt func(local netip.Addr) string
	// Closed, if set, is called once for each connection that ends.
	Closed func()
	// Ready reports whether the gateway accepts traffic, for health paths.
	Ready func() bool
	// StreamMemory limits the bytes that all HTTP/2 connections hold; 256 MiB.
	StreamMemory int64
	// Room, if set, limits the exchanges in progress by memory.
	Room *Room
	// ParkAfter is how long an idle HTTP/1 connection keeps its large stack; 5 s.
	ParkAfter time.Duration
	// DrainGrace is how long a client may take to send the first request of a connection while the
	// proxy drains, from the beginning of the drain or from its accept; 1 s.
	DrainGrace time.Duration
	// LastRequestGrace is how long an HTTP/1 connection between requests waits for a last one, from
	// the beginning of the drain; 2 s, and at most three quarters of the time for the drain. The
	// response to that request announces the end. A client that sends one while its connection is
	// being closed would lose it: HTTP/1 has no other way to tell it in time.
	LastRequestGrace time.Duration
}

// Proxy serves the connections of all listeners.
type Proxy struct {
	options    Options
	limits     atomic.Pointer[connLimits]
	accessLog  atomic.Pointer[telemetry.AccessLog]
	draining   atomic.Bool
	lastGrace  atomic.Int64 // LastRequestGrace of the present drain, in ns
	clients    perClient
	handshakes slots
	loops      *loops
	memory     http2.Memory // of all HTTP/2 connections
	keptBodies atomic.Int64 // bytes that all requests keep for retries

	// ctx ends when all exchanges must end.
	ctx    context.Context
	cancel context.CancelFunc

	mu             sync.Mutex
	conns          map[*conn]struct{}
	empty          chan struct{} // if not nil, closed when conns becomes empty
	count          atomic.Int64
	lastFailedShed time.Time // when Shed last found no idle connection

	shortages shortageLog
}

// New makes a proxy. Shutdown ends it.
func New(o Options) *Proxy {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ParkAfter == 0 {
		o.ParkAfter = 5 * time.Second
	}
	if o.DrainGrace == 0 {
		o.DrainGrace = time.Second
	}
	if o.LastRequestGrace == 0 {
		o.LastRequestGrace = 2 * time.Second
	}
	p := &Proxy{
		options:    o,
		conns:      map[*conn]struct{}{},
		clients:    perClient{open: map[netip.Addr]int{}},
		handshakes: newSlots(),
		loops:      newLoops(),
	}
	if p.memory.Limit = o.StreamMemory; p.memory.Limit == 0 {
		p.memory.Limit = http2.MemoryLimit()
	}
	p.lastGrace.Store(int64(o.LastRequestGrace))
	p.SetLimits(o.Limits)
	p.SetAccessLog(o.AccessLog)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// SetAccessLog makes exchanges that end from now on go to another log; nil: to none. An exchange
// that is ending may still go to the old one.
func (p *Proxy) SetAccessLog(l *telemetry.AccessLog) { p.accessLog.Store(l) }

// Connections returns the number of open connections.
func (p *Proxy) Connections() int { return int(p.count.Load()) }

// add registers the connection for Shutdown, and returns false if that has ended.
func (p *Proxy) add(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	c.late = p.draining.Load()
	p.conns[c] = struct{}{}
	p.count.Add(1)
	return true
}

// Shed closes some connections that have been idle for long, if there are any, to make room for
// others. HTTP allows a server to do that at any time.
func (p *Proxy) Shed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Shed looks at all connections, and may be called for each new one.
	const again = 100 * time.Millisecond
	if time.Since(p.lastFailedShed) < again {
		return
	}
	most := max(1, len(p.conns)/100)
	n := 0
	for c := range p.conns {
		if c.tryShed() {
			if n++; n == most {
				return
			}
		}
	}
	if n == 0 {
		p.lastFailedShed = time.Now()
	}
}

func (p *Proxy) remove(c *conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.count.Add(-1)
	if len(p.conns) == 0 && p.empty != nil {
		close(p.empty)
		p.empty = nil
	}
	p.mu.Unlock()
	if p.options.Closed != nil {
		p.options.Closed()
	}
}

// Shutdown waits until the exchanges in progress have ended; the last response of each connection
// announces its end. Connections between requests end after Options.LastRequestGrace. When ctx
// ends, Shutdown ends what is left. Connections that are accepted meanwhile are served one request.
func (p *Proxy) Shutdown(ctx context.Context) {
	p.limitGrace(ctx)
	p.draining.Store(true)
	select {
	case <-p.eachConn((*conn).drain):
	case <-ctx.Done():
	}
	p.cancel()
	<-p.eachConn((*conn).abort)
}

// eachConn calls f for each connection, and returns a channel that is closed when none is left.
func (p *Proxy) eachConn(f func(*conn)) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		f(c)
	}
	if p.empty != nil {
		return p.empty
	}
	empty := make(chan struct{})
	if len(p.conns) == 0 {
		close(empty)
	} else {
		p.empty = empty
	}
	return empty
}

// perClient counts connections by the client's network.
type perClient struct {
	mu   sync.Mutex // guards open
	open map[netip.Addr]int
}

func (p *perClient) acquire(a netip.Addr, limit int) bool {
	key := filter.ClientNetwork(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key] >= limit {
		return false
	}
	p.open[key]++
	return true
}

func (p *perClient) release(a netip.Addr) {
	key := filter.ClientNetwork(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key]--; p.open[key] == 0 {
		delete(p.open, key)
	}
}
