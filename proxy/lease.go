package proxy

import (
	"context"
	"sync/atomic"
	"time"
)

// Lease is held by the exchanges on a route, or on equal routes of a generation. Until it is
// retired, they may take any time, and then until a deadline.
//
// The zero value is not retired.
type Lease struct{ isRetired atomic.Bool }

// retired reports whether the route was removed or changed.
func (l *Lease) retired() bool { return l != nil && l.isRetired.Load() }

// Ending are the parts of an old generation that the new one does not have.
type Ending struct {
	Leases    []*Lease    // of routes that were removed or changed
	Listeners []*Listener // that no longer accept connections
}

// Expire waits until the exchanges that hold the leases, and the connections of the listeners, have
// ended, and cuts what is left when ctx ends. Connections of the listeners that are between
// requests end after Options.LastRequestGrace. It returns the number of connections that were cut.
func (p *Proxy) Expire(ctx context.Context, e Ending) (cut int) {
	p.limitGrace(ctx)
	leases, listeners := map[*Lease]bool{}, map[*Listener]bool{}
	for _, l := range e.Leases {
		l.isRetired.Store(true)
		leases[l] = true
	}
	for _, l := range e.Listeners {
		p.Dismiss(l)
		listeners[l] = true
	}
	return p.waitClosed(ctx, 100*time.Millisecond, func(c *conn) bool {
		l := c.lease.Load()
		return listeners[c.listener] || l != nil && leases[l] && c.state.Load() != idle || c.mux.Load().usesAny(leases)
	}, func(c *conn) {
		if m := c.mux.Load(); m != nil && !listeners[c.listener] {
			m.abort(leases) // its other exchanges continue
			return
		}
		c.abort()
	})
}

// Dismiss ends the connections of a listener after their present request, and those between
// requests after Options.LastRequestGrace.
func (p *Proxy) Dismiss(l *Listener) {
	for _, c := range p.matching(func(c *conn) bool { return c.listener == l }) {
		c.dismissed.Store(true)
		if m := c.mux.Load(); m != nil {
			m.http.Shutdown()
		} else {
			c.interrupt(idle)
		}
	}
}

// Drain is Shutdown for the connections that are open now. Connections that are accepted meanwhile,
// and after it, are served one request; Shutdown ends them. Drain returns the number of connections
// that were left when ctx ended, and were cut.
func (p *Proxy) Drain(ctx context.Context) (cut int) {
	p.limitGrace(ctx)
	p.draining.Store(true)
	early := p.matching(func(c *conn) bool { return !c.late })
	for _, c := range early {
		c.drain()
	}
	return p.waitClosed(ctx, 10*time.Millisecond, func(c *conn) bool { return !c.late }, (*conn).abort)
}

// limitGrace lets connections between requests end in order before ctx does, which cuts them.
func (p *Proxy) limitGrace(ctx context.Context) {
	grace := p.options.LastRequestGrace
	if end, ok := ctx.Deadline(); ok {
		grace = min(grace, max(0, time.Until(end))*3/4)
	}
	p.lastGrace.Store(int64(grace))
}

// waitClosed waits until no connection matches, and checks at that interval. When ctx ends, it
// aborts those that match.
func (p *Proxy) waitClosed(
	ctx context.Context, interval time.Duration, match func(*conn) bool, abort func(*conn),
) (cut int) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	expired := ctx.Done()
	for {
		left := p.matching(match)
		if len(left) == 0 {
			return cut
		}
		select {
		case <-tick.C:
		case <-expired:
			expired = nil // they do not end at once
			for _, c := range left {
				abort(c)
			}
			cut = len(left)
		case <-p.ctx.Done(): // everything ends
			return cut
		}
	}
}

// matching returns the connections that match.
func (p *Proxy) matching(match func(*conn) bool) (list []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if match(c) {
			list = append(list, c)
		}
	}
	return list
}
