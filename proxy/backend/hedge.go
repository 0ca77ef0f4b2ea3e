package backend

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"mpgate/telemetry"
)

// Hedge says when a request that has no answer is sent a second time while the first copy waits on.
// The first answer is used. The caller decides which requests may be hedged: those that change
// nothing on a server.
type Hedge struct {
	// After is how long a request waits first. 0: as long as the share Quantile of the recent
	// requests took at most, but not less than 1 ms.
	After    time.Duration
	Quantile float64 // from 0 to 1
	// Budget bounds the second copies as a share of the requests of the last 10 s.
	Budget float64
}

// minHedgeAfter is the shortest time until a second copy: what is faster gains nothing from one.
const minHedgeAfter = time.Millisecond

// hedging decides when requests of a backend are sent a second time.
type hedging struct {
	options Hedge
	after   atomic.Int64 // ns; 0: not known yet
	times   *responseTimes
	budget  budget
}

func newHedging(o *Hedge, b *Backend) *hedging {
	if o == nil {
		return nil
	}
	h := &hedging{options: *o, budget: budget{unfloored: true, requestsOf: &b.budget}}
	h.budget.tick(time.Now()) // the requests count from now on
	if o.After > 0 {
		h.after.Store(int64(o.After))
	} else {
		h.times = new(responseTimes)
	}
	return h
}

// tick must be called about once a second.
func (h *hedging) tick(now time.Time) {
	if h == nil {
		return
	}
	h.budget.tick(now)
	if h.times != nil {
		after := h.times.quantile(h.options.Quantile)
		if after > 0 {
			after = max(after, minHedgeAfter)
		}
		h.after.Store(int64(after))
	}
}

// Hedges reports whether requests may be sent a second time.
func (b *Backend) Hedges() bool { return b.hedging != nil }

// HedgeAfter returns how long a request waits for an answer until a second copy is sent; 0: no copy
// is sent.
func (b *Backend) HedgeAfter() time.Duration {
	if b.hedging == nil {
		return 0
	}
	return time.Duration(b.hedging.after.Load())
}

// NoteHedgeable tells how long a request waited that might have been hedged: until its answer came,
// or until its second copy was answered first.
func (b *Backend) NoteHedgeable(waited time.Duration) {
	if h := b.hedging; h != nil && h.times != nil {
		h.times.note(waited)
	}
}

// CountHedge counts the outcome of a second copy.
func (b *Backend) CountHedge(r telemetry.HedgeResult) { b.queue.meter.Hedged(r) }

// route is a way to a server that differs from the one that the kernel would choose.
type route struct {
	source netip.Addr // to connect from; the zero Addr: no such route
	to     netip.AddrPort
}

// Second makes h the attempt for a second copy of the request that waits on up, and takes the copy
// from the budget. The copy goes to another server that works and has a free place; if there is
// none, to the same one, over another path. Second returns false if that is not possible either.
// The Attempt h must end by a call of Take or End.
func (a *Attempt) Second(h *Attempt, r *Request, up Stream) bool {
	b := a.backend
	if a.tries >= len(a.tried) || a.sticky != nil || r.Authenticates || r.Owner != nil && r.Owner.used.Load() ||
		b.queue.waiting.Load() > 0 || b.connLimit.waiting.Load() > 0 {
		return false
	}
	*h = Attempt{backend: b, rules: a.rules, lot: a.lot, key: a.key, tried: a.tried, tries: a.tries, sent: a.sent}
	switch s := h.second(r.Now); {
	case s != nil:
		h.server, h.tried[h.tries] = s, s
		h.tries++
	case a.server.available(r.Now) == available && a.server.findRoute(up, &h.other) && h.reserve(a.server):
		h.server = a.server
	default:
		return false
	}
	if !b.hedging.budget.take(b.hedging.options.Budget, r.Now) {
		h.leavePlace()
		b.CountHedge(telemetry.HedgeOverBudget)
		return false
	}
	h.sent++
	return true
}

// second picks another server that works and takes a place there. It returns nil if there is none.
func (a *Attempt) second(now time.Time) *Server {
	if !a.hasOther(now) {
		return nil
	}
	s := a.pick(now)
	if s == nil || s.available(now) != available || !a.reserve(s) {
		return nil
	}
	return s
}

// findRoute finds a route to the server whose source address is not the one of up.
func (s *Server) findRoute(up Stream, other *route) bool {
	l := linkOf(up)
	if l == nil || s.backend.options.OtherSource == nil || s.dialer.Source.IsValid() || s.dialer.Interface != "" {
		return false
	}
	from, to := l.ends()
	if !from.IsValid() {
		return false
	}
	other.source, other.to = s.backend.options.OtherSource(from, to.Addr()), to
	return other.source.IsValid()
}

func linkOf(up Stream) *Link {
	switch up := up.(type) {
	case *conn:
		return up.link
	case *stream:
		return up.conn.link
	}
	return nil
}

// ends returns the two ends of the connection, or zero values if it has no addresses. With MPTCP
// they are those of the first subflow.
func (l *Link) ends() (local netip.Addr, remote netip.AddrPort) {
	from, ok := l.LocalAddr().(*net.TCPAddr)
	to, _ := l.RemoteAddr().(*net.TCPAddr)
	if !ok || to == nil {
		return local, remote
	}
	remote = to.AddrPort()
	return from.AddrPort().Addr().Unmap(), netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
}

// OpenSecond returns a connection for the second copy of a request. Once the context has ended,
// what is being dialled for it is kept for later copies: usually the first copy is answered before
// a connect succeeds.
func (a *Attempt) OpenSecond(ctx context.Context, r *Request) (Stream, error) {
	if err := a.countConn(r); err != nil {
		return nil, err
	}
	s := a.server
	share := s.mayShare(r)
	if up := s.openSecond(r, share, a.other.source); up != nil {
		return up, nil
	}
	d := &secondDial{server: s, from: r.From, share: share, done: make(chan struct{})}
	d.from.other = a.other
	if s.secondDials.Add(1) > maxSecondDials {
		s.secondDials.Add(-1)
		return nil, errSecondDials
	}
	s.start("connection for second copies", d.run)
	select {
	case <-d.done:
	case <-ctx.Done():
		if d.claimed.CompareAndSwap(false, true) {
			return nil, ctx.Err()
		}
		<-d.done
	}
	return d.begin(r)
}

// maxSecondDials bounds the connections to a server that are dialled for second copies at a time: a
// path may not answer at all.
const maxSecondDials = 4

var errSecondDials = errors.New("enough connections for second copies are being made")

// secondDial is a connection that is dialled for the second copy of a request.
type secondDial struct {
	server *Server
	from   Addresses
	share  bool
	began  bool
	// claimed is set by the copy when it no longer waits, or by run, which then has the result for
	// it.
	claimed atomic.Bool
	done    chan struct{} // closed when the copy may read what follows
	shared  *sharedConn
	alone   *conn
	err     error
}

// run dials. By another path, a connect that fails says nothing about the server.
func (d *secondDial) run(ctx context.Context) {
	if d.began { // a panic ended it
		return
	}
	s := d.server
	d.began = true
	defer s.secondDials.Add(-1)
	defer close(d.done)
	d.err = ErrInternal // if this panics
	if d.from.other.source.IsValid() {
		d.shared, d.alone, d.err = s.reach(ctx, d.from, d.share, true)
	} else {
		d.shared, d.alone, d.err = s.dial(ctx, d.from, d.share)
	}
	switch {
	case d.claimed.CompareAndSwap(false, true), d.err != nil:
	case d.shared != nil:
		s.addShared(d.shared)
	case s.backend.options.SendProxy != 0: // the PROXY header names one client
		d.alone.close()
	default:
		s.putIdle(d.alone, time.Now())
	}
}

// begin returns the stream for the copy.
func (d *secondDial) begin(r *Request) (Stream, error) {
	switch {
	case d.err != nil:
		return nil, d.err
	case d.shared == nil:
		return d.alone.begin(r), nil
	}
	return d.server.addSecondShared(d.shared)
}

// openSecond returns a stream on a connection that exists, from the source address unless that is
// the zero Addr; nil if there is none. It does not wait for a connection that another request
// dials.
func (s *Server) openSecond(r *Request, share bool, source netip.Addr) Stream {
	if share {
		return s.findSecondShared(r, source)
	}
	if c := s.takeFor(r, source); c != nil {
		return c.begin(r)
	}
	return nil
}

// findSecondShared is openSecond for a shared connection.
func (s *Server) findSecondShared(r *Request, source netip.Addr) Stream {
	h := &s.shared
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.backend.options.SendProxy != 0 {
		return nil
	}
	for _, c := range h.conns {
		if !c.ready || c.closeIfRetired() || s.avoids(c.link) || !c.link.isFrom(source) {
			continue
		}
		if cs, err := c.Open(); err == nil {
			return newStream(cs, c)
		}
	}
	if h.picksHTTP1 {
		if c := s.takeFor(r, source); c != nil {
			return c.begin(r)
		}
	}
	return nil
}

// addSecondShared opens a stream on a new connection, which further requests may use, too.
func (s *Server) addSecondShared(c *sharedConn) (Stream, error) {
	h := &s.shared
	h.mu.Lock()
	defer h.mu.Unlock()
	cs, err := c.Open()
	if err != nil {
		c.Close()
		return nil, err
	}
	if h.closed {
		c.Close() // after this exchange
	}
	h.conns = append(h.conns, c)
	return newStream(cs, c), nil
}

// isFrom reports whether the connection is from the source address. Any is if that is the zero
// Addr.
func (l *Link) isFrom(source netip.Addr) bool {
	if !source.IsValid() {
		return true
	}
	local, _ := l.ends()
	return local == source
}

// takeFor is takeIdle for a connection from the source address, unless that is the zero Addr.
func (s *Server) takeFor(r *Request, source netip.Addr) *conn {
	if !source.IsValid() {
		return s.takeIdle(r.Repeatable, r.Bodyless)
	}
	for {
		c := s.popFrom(source)
		if c == nil || c.ready(r.Bodyless) {
			return c
		}
	}
}

// popFrom removes the connection from the source address that was used last.
func (s *Server) popFrom(source netip.Addr) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.idle) - 1; i >= 0; i-- {
		if c := s.idle[i]; c.link.isFrom(source) {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			s.meter.Idle(-1)
			return c
		}
	}
	return nil
}

// Take makes a the attempt of h, whose copy of the request was answered first. What a holds of its
// own server is given back.
func (a *Attempt) Take(h *Attempt) {
	a.leavePlace()
	a.server, a.place, h.place = h.server, h.place, nil
	a.tried, a.tries, a.sent = h.tried, h.tries, h.sent
	h.End()
}

// Drop ends h, whose copy of the request is not used. sent says whether its server got the request,
// and failed that it did not answer: then a retry goes to another one.
func (a *Attempt) Drop(h *Attempt, sent, failed bool) {
	if sent {
		a.sent = h.sent
	}
	if failed {
		a.tried, a.tries = h.tried, h.tries
	}
	h.End()
}
