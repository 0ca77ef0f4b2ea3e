package proxy

import (
	"context"
	"sync/atomic"
	"time"

	"mpgate/proxy/http1"
	"mpgate/telemetry"
)

// Limits hold for the connections that are accepted while they are set. What is zero gets its default.
type Limits struct {
	HeaderBytes  int           // of a request's head; 32 KiB
	HeaderFields int           // 100
	HeaderTime   time.Duration // from a request's first byte, or the accept, to the end of its head; 10 s
	IdleTime     time.Duration // between requests, and the longest silence in a body; 60 s
	MinRate      int64         // bytes a second of a body in transit, averaged over IdleTime; 256
	PerClient    int           // connections from one address (IPv6: one /64); 0 is no limit
}

// limits are those of a connection.
type limits struct {
	http      http1.ServerOptions
	perClient int
}

// SetLimits changes the limits for connections that are accepted from now on.
func (p *Proxy) SetLimits(l Limits) {
	setDefault(&l.HeaderBytes, 32<<10)
	setDefault(&l.HeaderFields, 100)
	setDefault(&l.HeaderTime, 10*time.Second)
	setDefault(&l.IdleTime, 60*time.Second)
	setDefault(&l.MinRate, 256)
	p.limits.Store(&limits{
		http: http1.ServerOptions{
			Limits:     http1.Limits{HeaderBytes: l.HeaderBytes, HeaderFields: l.HeaderFields},
			HeaderTime: l.HeaderTime, IdleTime: l.IdleTime, MinRate: l.MinRate,
		},
		perClient: l.PerClient,
	})
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// SetAccessLog makes exchanges that end from now on go to another log; nil: to none. One that ends just
// now may still go to the one before.
func (p *Proxy) SetAccessLog(l *telemetry.AccessLog) { p.accessLog.Store(l) }

// Lease is what the exchanges on a route, or on the routes of a generation that are the same, last by: they may
// last for as long as they like, until the lease is retired, and then to a deadline.
//
//	live ─► retired ─► cut
//
// The zero value is live.
type Lease struct{ state atomic.Uint32 }

const (
	leaseLive uint32 = iota
	leaseRetired
	leaseCut
)

// retired says whether the route is gone, or leads elsewhere by now.
func (l *Lease) retired() bool { return l != nil && l.state.Load() != leaseLive }

// cut says whether exchanges were ended because their time was over.
func (l *Lease) cut() bool { return l != nil && l.state.Load() == leaseCut }

// take notes by what the present exchange lasts. On a connection that stays with one route it only looks.
func (c *conn) take(l *Lease) {
	if c.lease.Load() != l {
		c.lease.Store(l)
	}
}

// giveBack is called at the end of an exchange.
func (c *conn) giveBack(l *Lease) {
	if l.retired() {
		c.lease.Store(nil)
	}
}

// Ending are parts of a generation that is no longer the one that serves.
type Ending struct {
	Leases    []*Lease    // of routes that are gone, or lead elsewhere
	Listeners []*Listener // that accept no more
}

// expirePace is how often Expire looks whether the work is done.
const expirePace = 100 * time.Millisecond

// Expire lets the exchanges under the leases, and the connections of the listeners, come to their end, and cuts
// what is left when ctx ends. Connections of the listeners that are between requests end at once. It returns
// when nothing is left, and says how many connections it had to cut.
func (p *Proxy) Expire(ctx context.Context, e Ending) (cut int) {
	for _, l := range e.Leases {
		l.state.CompareAndSwap(leaseLive, leaseRetired)
	}
	for _, l := range e.Listeners {
		p.dismiss(func(c *conn) bool { return c.listener == l })
	}
	tick := time.NewTicker(expirePace)
	defer tick.Stop()
	left := p.using(&e)
	for ; len(left) > 0 && ctx.Err() == nil; left = p.using(&e) {
		select {
		case <-tick.C:
		case <-ctx.Done():
		case <-p.ctx.Done():
		}
		if p.ctx.Err() != nil {
			return 0 // everything ends
		}
	}
	for _, l := range e.Leases {
		l.state.Store(leaseCut)
	}
	for _, c := range left {
		c.abort()
	}
	cut = len(left)
	for len(left) > 0 && p.ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-p.ctx.Done():
		}
		left = p.using(&e)
	}
	return cut
}

// using are the connections that the parts still serve.
func (p *Proxy) using(e *Ending) (list []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if c.uses(e) {
			list = append(list, c)
		}
	}
	return list
}

func (c *conn) uses(e *Ending) bool {
	for _, l := range e.Listeners {
		if c.listener == l {
			return true
		}
	}
	if l := c.lease.Load(); l != nil && c.state.Load() != idle {
		for _, other := range e.Leases {
			if l == other {
				return true
			}
		}
	}
	return false
}

// dismiss ends connections after their present request, those between requests at once.
func (p *Proxy) dismiss(which func(*conn) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if which(c) {
			c.leaving.Store(true)
			c.drain()
		}
	}
}

// ending says that no request may follow the present one.
func (c *conn) ending() bool { return c.leaving.Load() || c.proxy.draining.Load() }
