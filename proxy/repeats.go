package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/http2"
	"mpgate/proxy/netio"
)

const (
	// maxReturns is how often a request is sent again that servers give back unprocessed.
	maxReturns = 12
	// The first times that is done at once. Then it waits, longer each time.
	returnsAtOnce = 2
	firstPause    = 5 * time.Millisecond
	maxPause      = 500 * time.Millisecond
)

// repeats bounds how often one request is sent again. What a server has provably not processed (RFC
// 9113 section 8.7) is sent again several times, whatever its method; what it may have processed
// only if that does no harm, and once.
type repeats struct {
	until time.Time // no longer
	once  bool      // it was sent again though it may have been processed
}

// mayRepeat says whether a request that failed on x.up may be sent again: it was not sent or not
// processed, or, on a connection that had been kept, it can be repeated and nothing of an answer
// came.
func (x *exchange) mayRepeat(r *backend.Request, again *repeats, err error) bool {
	switch {
	case x.gone.Load():
		return false
	case cameBack(err):
		return true
	case again.once, !r.Repeatable, !x.up.Reused() && !errors.Is(err, errStalled), x.up.Answered(), errors.Is(err, errLate):
		return false
	}
	again.once = true
	return true
}

// cameBack says whether err means that the server has not processed the request.
func cameBack(err error) bool {
	return err == netio.ErrNotIdle || errors.Is(err, backend.ErrNotProcessed)
}

// wait comes before a request is sent again that failed with err. It pauses if the request came
// back before, so that servers which refuse everything are not asked without a pause; false: that
// is enough.
func (a *repeats) wait(ctx context.Context, r *backend.Request, err error) bool {
	if !cameBack(err) {
		return true
	}
	r.Returned++
	if r.Returned > maxReturns || r.Returned > 1 && errors.Is(err, http2.ErrTooSlow) {
		return false
	}
	pauses := r.Returned - returnsAtOnce
	if pauses <= 0 {
		return !time.Now().After(a.until)
	}
	// On a new connection it is the first, which a server that ends its connections after some
	// requests does not give back.
	r.NewConnection = !errors.Is(err, http2.ErrRefused)
	pause := min(firstPause<<(pauses-1), maxPause)
	pause = pause/2 + rand.N(pause)
	if time.Now().Add(pause).After(a.until) {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
