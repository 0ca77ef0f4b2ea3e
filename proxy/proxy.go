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

// Options are what all listeners share.
type Options struct {
	Limits // SetLimits changes them

	Instruments *telemetry.Instruments
	AccessLog   *telemetry.AccessLog // nil: none; SetAccessLog changes it
	Logger      *slog.Logger
	// Live, if set, has the connections that use MPTCP.
	Live *conninfo.Registry
	// Leave, if set, is called once for each connection that ends.
	Leave func()
	// Ready says whether the gateway takes traffic, for health paths.
	Ready func() bool
	// StreamMemory is what all connections of HTTP/2 may be made to hold; 256 MiB.
	StreamMemory int64
	// Room, if set, bounds the exchanges under way.
	Room *Room
	// ParkAfter is how long an HTTP/1 connection keeps the stack that it served a request with
	// while it waits for the next; 5 s.
	ParkAfter time.Duration
}

// Proxy serves the connections of all listeners.
type Proxy struct {
	options    Options
	limits     atomic.Pointer[connLimits]
	accessLog  atomic.Pointer[telemetry.AccessLog]
	draining   atomic.Bool
	clients    perClient
	handshakes turns
	loops      *loops
	memory     http2.Memory // what the connections that carry many exchanges may be made to hold
	keptBodies atomic.Int64 // bytes that all requests keep to be sent again

	// ctx ends when exchanges must end, whatever they are doing.
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	conns map[*conn]struct{}
	empty chan struct{} // if not nil, closed when conns becomes empty
	count atomic.Int64
	vain  time.Time // when Shed last found nobody

	shedder shedder
}

// New makes a proxy. Shutdown ends it.
func New(o Options) *Proxy {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ParkAfter == 0 {
		o.ParkAfter = 5 * time.Second
	}
	p := &Proxy{
		options:    o,
		conns:      map[*conn]struct{}{},
		clients:    perClient{open: map[netip.Addr]int{}},
		handshakes: newTurns(),
		loops:      newLoops(),
	}
	if p.memory.Limit = o.StreamMemory; p.memory.Limit == 0 {
		p.memory.Limit = http2.MemoryLimit()
	}
	p.SetLimits(o.Limits)
	p.SetAccessLog(o.AccessLog)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// SetAccessLog makes exchanges that end from now on go to another log; nil: to none. One that ends
// just now may still go to the one before.
func (p *Proxy) SetAccessLog(l *telemetry.AccessLog) { p.accessLog.Store(l) }

// Connections is how many are open.
func (p *Proxy) Connections() int { return int(p.count.Load()) }

// add makes Shutdown see the connection; false: it came too late.
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

// Shed ends some of the connections that have waited for their next request for long, if there are
// any, to make room for others. HTTP lets a server do that at any time, and clients are used to it.
func (p *Proxy) Shed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	const again = 100 * time.Millisecond // it looks at all connections, and may be asked for each that comes
	if time.Since(p.vain) < again {
		return
	}
	most := max(1, len(p.conns)/100)
	n := 0
	for c := range p.conns {
		if c.makesRoom() {
			if n++; n == most {
				return
			}
		}
	}
	if n == 0 {
		p.vain = time.Now()
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
	if p.options.Leave != nil {
		p.options.Leave()
	}
}

// graceForNew is how long a connection that has sent nothing yet may take to send a request while
// the proxy drains: its client cannot know that it came too late.
const graceForNew = time.Second

// Shutdown lets the exchanges that are under way come to their end, with the last response of each
// connection saying so, and ends connections between requests at once. When ctx ends, whatever is
// left is ended. Connections that are accepted meanwhile are served one request.
func (p *Proxy) Shutdown(ctx context.Context) {
	p.draining.Store(true)
	select {
	case <-p.eachConn((*conn).drain):
	case <-ctx.Done():
	}
	p.cancel()
	<-p.eachConn((*conn).abort)
}

// eachConn calls f for each connection, and gives a channel that is closed once there is none.
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

func (p *perClient) enter(a netip.Addr, limit int) bool {
	key := filter.ClientNetwork(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key] >= limit {
		return false
	}
	p.open[key]++
	return true
}

func (p *perClient) leave(a netip.Addr) {
	key := filter.ClientNetwork(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key]--; p.open[key] == 0 {
		delete(p.open, key)
	}
}
