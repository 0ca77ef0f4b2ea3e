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
	// maxReturns limits how often a request is sent again that servers did not process.
	maxReturns = 12
	// The first ones are sent at once, the others after a pause, which doubles.
	returnsAtOnce = 2
	firstPause    = 5 * time.Millisecond
	maxPause      = 500 * time.Millisecond
)

// retries limits how often one request is sent again: several times if servers have certainly not
// processed it (RFC 9113 section 8.7); else once, and only if it is idempotent.
type retries struct {
	until time.Time // no retry starts after it
	once  bool      // it was sent again though it may have been processed
}

// mayRetry reports whether a request that failed on x.up may be sent again: it was not processed,
// or the connection was a reused one, the request can be repeated and no part of an answer came.
func (x *exchange) mayRetry(r *backend.Request, again *retries, err error) bool {
	switch {
	case x.clientGone.Load():
		return false
	case notProcessed(err):
		return true
	case again.once, !r.Repeatable, x.up.Answered(), errors.Is(err, errResponseTimeout),
		!x.up.Reused() && !errors.Is(err, errStalled):
		return false
	}
	again.once = true
	return true
}

// notProcessed reports whether err means that the server has not processed the request.
func notProcessed(err error) bool {
	return err == netio.ErrNotIdle || errors.Is(err, backend.ErrNotProcessed)
}

// wait is called before a request that failed with err is sent again. It pauses if the request was
// returned before, so that servers which refuse everything are not flooded. It returns false if the
// request must not be sent again.
func (a *retries) wait(ctx context.Context, r *backend.Request, err error) bool {
	if !notProcessed(err) {
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
	// On a new connection the request is the first one: a server that ends its connections after
	// some requests processes it.
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
