package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/task"
	"mpgate/telemetry"
)

// A request that waits for long may be sent a second time (backend.Hedge). The goroutine of the
// exchange goes on waiting for the first copy; another one sends the second copy and waits for its
// answer:
//
//	exchange   WriteHead ─► ReadHead ──(hedgeIfDue)──► ReadHead ─────────────► settleHedge ─► deliver
//	hedge                                  └─► OpenSecond ─► WriteHead ─► ReadHead ─┘
//
// The first of the two that sets hedge.winner has won; the other copy is aborted. settleHedge joins
// the goroutine, before anything of the response is used. So the two share nothing but the request,
// which neither changes.

// hedging is what an exchange knows about its second copy. The zero value has none.
type hedging struct {
	armed  bool          // the request may be sent a second time
	after  time.Duration // until that is done; 0: it is not, or no longer
	copy   atomic.Pointer[hedge]
	asked  time.Time // when the copy that has won was sent
	result telemetry.HedgeResult
}

// hedge is a second copy of a request.
type hedge struct {
	attempt backend.Attempt
	request backend.Request
	head    *message.Request // of the exchange; read only
	first   backend.Stream   // of the first copy
	until   time.Time        // the wait for an answer ends
	ctx     context.Context  // ends with stop
	cancel  context.CancelFunc
	winner  atomic.Uint32
	done    chan struct{} // closed when the goroutine has ended; then what follows may be read

	up    backend.Stream // nil: no connection
	resp  message.Response
	asked time.Time // when up was there
	err   error     // why there is no answer

	mu      sync.Mutex // guards stopped, and up until done is closed
	stopped bool
}

// The copies, as values of hedge.winner. 0: neither has won yet.
const (
	firstCopy  = 1
	secondCopy = 2
)

// mayHedge reports whether the request may be sent a second time while the first copy may still be
// processed. That is so for methods that change nothing (RFC 9110 section 9.2.1). A PUT or a DELETE
// may be repeated, but not late: the copy that is not waited for could undo what another request
// has changed since.
func (x *exchange) mayHedge(r *backend.Request) bool {
	if !x.backend.Hedges() || !r.Bodyless || r.Upgrade || r.Authenticates {
		return false
	}
	switch string(x.req.Method) {
	case "GET", "HEAD", "OPTIONS":
		return true
	}
	return false
}

// before returns the time at which a second copy is to be sent, if that is before the deadline;
// else the deadline.
func (h *hedging) before(deadline, asked time.Time) time.Time {
	if h.after > 0 {
		if at := asked.Add(h.after); at.Before(deadline) {
			return at
		}
	}
	return deadline
}

// clientLeft ends the second copy. Any goroutine may call it.
func (h *hedging) clientLeft() {
	if c := h.copy.Load(); c != nil {
		c.stop()
	}
}

// hedgeIfDue sends a second copy of the request if it is time for that. r is the request of the
// first copy, which was sent at asked.
func (x *exchange) hedgeIfDue(r *backend.Request, asked time.Time) {
	h := &x.hedging
	now := time.Now()
	if h.after == 0 || now.Sub(asked) < h.after {
		return
	}
	h.after = 0
	if x.up.Answered() || x.hostless || x.clientGone.Load() {
		return
	}
	c := &hedge{
		request: *r, head: &x.req, first: x.up, until: asked.Add(x.backend.ResponseTimeout()), done: make(chan struct{}),
	}
	c.request.Now, c.request.Client, c.request.Unsent, c.request.NewConnection = now, nil, false, false
	if !x.attempt.Second(&c.attempt, &c.request, x.up) {
		return
	}
	c.ctx, c.cancel = context.WithCancel(x.proxy.ctx)
	h.copy.Store(c)
	if x.clientGone.Load() { // it may have left before the copy could be found
		c.stop()
	}
	task.Go("second copy of a request", c.run, nil)
}

// run sends the second copy and waits for its answer.
func (c *hedge) run() {
	defer close(c.done)
	up, err := c.attempt.OpenSecond(c.ctx, &c.request)
	if err != nil {
		c.err = err
		return
	}
	c.asked = time.Now()
	if !c.begin(up) {
		return
	}
	if c.err = up.WriteHead(c.head); c.err == nil {
		c.err = up.End(nil)
	}
	for c.err == nil {
		c.resp.Reset()
		if c.err = up.ReadHead(&c.resp, c.until); c.err != nil || c.resp.Interim() {
			continue
		}
		if !worthUsing(c.resp.Status) {
			c.err = errHedgeRefused
		} else if c.winner.CompareAndSwap(0, secondCopy) {
			c.first.Abort()
		}
		return
	}
}

// errHedgeRefused means that the second copy got a response that says nothing about the request.
var errHedgeRefused = errors.New("the response to the second copy of the request is an error of its server")

// worthUsing reports whether a response to the second copy may replace the one to the first, which
// has not come. A server that fails quickly must not win.
func worthUsing(status int) bool { return status < 500 && status != 429 }

// begin stores the stream of the copy, for stop. It returns false if stop was called before.
func (c *hedge) begin(up backend.Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up = up
	return !c.stopped
}

// stop makes run return soon. Any goroutine may call it.
func (c *hedge) stop() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.up != nil {
		c.up.Abort()
	}
}

// settleHedge is called when the first copy, which was sent at asked, has been answered or has
// failed with err. It returns true if the answer to the second copy is used: then that is as if the
// request had been sent only there, and had been answered.
func (x *exchange) settleHedge(r *backend.Request, asked time.Time, err *error) (second bool) {
	h := &x.hedging
	if !h.armed {
		return false
	}
	c := h.copy.Load()
	if c == nil || *err == nil && c.winner.CompareAndSwap(0, firstCopy) {
		x.dropHedge()
		if *err == nil && worthUsing(x.resp.Status) {
			x.backend.NoteHedgeable(time.Since(asked))
		}
		return false
	}
	failed := c.winner.Load() == 0 // the first copy
	if failed && mayAwaitCopy(*err) && !x.clientGone.Load() {
		x.awaitCopy(c)
	}
	if x.clientGone.Load() || c.winner.CompareAndSwap(0, firstCopy) {
		x.dropHedge()
		*err = x.cause(*err)
		return false
	}
	c.cancel()
	<-c.done
	now := time.Now()
	x.backend.NoteHedgeable(now.Sub(asked))
	x.attempt.Meter().Request(0)
	x.attempt.NoteAnswer(now.Sub(asked), 0, now)
	if failed {
		x.noteNoAnswer(*err, false)
	}
	c.first.Abort()
	c.first.Release(now)
	x.attempt.Take(&c.attempt)
	x.up, r.Now = c.up, c.request.Now
	x.resp, c.resp = c.resp, x.resp
	x.up.SetTrailer(&x.resp.Trailer)
	s := x.attempt.Server()
	x.rec.Server, x.rec.ServerHost = s.Address, s.Host()
	h.asked = c.asked
	h.end(x.backend, telemetry.HedgeWon)
	*err = nil
	return true
}

// mayAwaitCopy reports whether a second copy may have an answer although the first one has failed
// with err: not if the client has failed, and not if the time is over.
func mayAwaitCopy(err error) bool {
	var client *clientError
	return err != nil && !errors.As(err, &client) && !errors.Is(err, errResponseTimeout)
}

// awaitCopy waits for the end of the second copy, as long as the client is there, and not for
// longer than a try may take.
func (x *exchange) awaitCopy(c *hedge) {
	x.watch()
	defer x.stopWatch()
	wait := time.Until(c.until)
	if x.tryTime > 0 {
		wait = min(wait, x.tryTime)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	}
}

// dropHedge ends the second copy, if there is one that has not won.
func (x *exchange) dropHedge() {
	c := x.hedging.copy.Load()
	if c == nil {
		return
	}
	failed := false
	select {
	case <-c.done:
		failed = c.up != nil && c.err != nil && c.err != errHedgeRefused && !notProcessed(c.err)
	default:
		c.stop()
		<-c.done
	}
	c.cancel()
	if c.up != nil {
		c.attempt.Meter().Request(0)
		c.up.Abort()
		c.up.Release(time.Now())
	}
	x.attempt.Drop(&c.attempt, c.up != nil, failed)
	x.hedging.end(x.backend, telemetry.HedgeLost)
}

// end records the outcome of the copy.
func (h *hedging) end(b *backend.Backend, r telemetry.HedgeResult) {
	h.copy.Store(nil)
	h.result = r
	b.CountHedge(r)
}
