package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/http1"
	"mpgate/proxy/http2"
	"mpgate/proxy/message"
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

// retries limits how often one request is sent again; see backend.Retry.
type retries struct {
	until time.Time // no retry starts after it
	once  bool      // it was sent again after a failure of a connection that was used before
}

// repeat is how a request is sent again.
type repeat uint8

const (
	never       repeat = iota
	sameServer         // its connection was at fault, or the server did not process the request
	otherServer        // the server was at fault
)

// mayRetry reports whether and how a request that failed on x.up may be sent again.
func (x *exchange) mayRetry(r *backend.Request, err error) repeat {
	again := &x.again
	switch {
	case x.clientGone.Load():
		return never
	case notProcessed(err):
		return sameServer
	case err == errTryTimeout: // nextDeadline has asked MayRetry
		return otherServer
	case !r.Repeatable || x.up.Answered() || time.Now().After(again.until):
		return never
	case errors.Is(err, errStalled):
		if again.once {
			return never
		}
		again.once = true
		return sameServer
	}
	cause := causeOf(err)
	if cause == backend.OnReset && x.up.Reused() && !again.once && !isReset(err) {
		again.once = true
		if x.attempt.MayRepeat(cause) {
			return sameServer
		}
		return never
	}
	if cause != 0 && x.attempt.MayRetry(cause) {
		return otherServer
	}
	return never
}

// causeOf returns the cause that the error of a try without a response is, or 0 if no other server
// could do better.
func causeOf(err error) backend.Cause {
	var fault *message.Error
	var client *clientError
	switch {
	case errors.As(err, &client), errors.As(err, &fault), errors.Is(err, errPanic), errors.Is(err, backend.ErrInternal),
		errors.Is(err, http1.ErrBodyLength), errors.Is(err, http2.ErrNoConnect):
		return 0
	case errors.Is(err, errResponseTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return backend.OnTimeout
	}
	return backend.OnReset
}

// isReset reports whether the server has reset the stream: its connection is not at fault.
func isReset(err error) bool {
	var reset *http2.ResetError
	return errors.As(err, &reset)
}

// errTryTimeout means that the server did not answer within the time for a try, and that another
// try follows.
var errTryTimeout = fmt.Errorf("%w of one try", errResponseTimeout)

// refusedWith reports whether the final response, whose head has come, has a status for which the
// request is sent again.
func (x *exchange) refusedWith(r *backend.Request) bool {
	cause := x.attempt.Rules().OnStatus(x.resp.Status)
	return cause != 0 && r.Repeatable && !x.clientGone.Load() && !time.Now().After(x.again.until) && x.attempt.MayRetry(cause)
}

// maxRefusedBody is how much of the body of a response that is not used is read, so that the
// connection can be kept.
const maxRefusedBody = 64 << 10

// discardResponse ends the exchange with a server whose response is not used. The connection is
// kept if the request was sent, and the rest of the response has come.
func (x *exchange) discardResponse() error {
	if x.upload.done != nil {
		x.up.Abort()
		fault := x.pauseUpload()
		x.joinUpload()
		if fault != nil {
			return &clientError{fault}
		}
		return nil
	}
	for n := 0; !x.resp.NoBody; {
		p, err := x.up.Body().Next(false)
		if n += len(p); err == io.EOF {
			break
		}
		if err != nil || n > maxRefusedBody {
			x.up.Abort()
			break
		}
	}
	return nil
}

// queueing is an exchange whose request waits for a place at a server: a backend.Client.
type queueing exchange

// WatchClient also reads a small body that has arrived, because an HTTP/1 connection can be watched
// only behind it.
func (q *queueing) WatchClient(gone func()) {
	x := (*exchange)(q)
	x.keepArrived()
	x.WatchClient(gone)
}

// StopWatchClient implements backend.Client.
func (q *queueing) StopWatchClient() { (*exchange)(q).StopWatchClient() }

// notProcessed reports whether err means that the server has not processed the request.
func notProcessed(err error) bool {
	return err == netio.ErrNotIdle || errors.Is(err, backend.ErrNotProcessed)
}

// wait is called before a request that failed with err is sent again. It pauses if the request was
// returned before, so that servers which refuse everything are not flooded. It returns false if the
// request must not be sent again.
func (a *retries) wait(ctx context.Context, r *backend.Request, err error) bool {
	r.Unsent = err == netio.ErrNotIdle
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
