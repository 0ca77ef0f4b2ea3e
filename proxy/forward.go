package proxy

import (
	"errors"
	"os"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

// Forward is the action that forwards requests to a backend.
type Forward struct{ Backend *backend.Backend }

func (f *Forward) serve(x *exchange) {
	x.backend = f.Backend
	x.rec.Backend = f.Backend.Name()
	if !x.detectLoop() {
		x.forward()
	}
}

// forward sends the request to a server of the backend, and the response to the client.
func (x *exchange) forward() {
	room := x.proxy.options.Room
	if !room.acquire() {
		x.proxy.recordShortage(errNoRoom)
		x.answer(connectAnswer(errNoRoom))
		return
	}
	defer room.release()
	x.source = x.chain.RequestBody(&x.filter, x.down.Body())
	x.attempt.Reset(x.backend)
	r := backend.Request{
		Now:           time.Now(), // x.start is when the head began to come
		Bodyless:      x.req.ContentLength == 0,
		Upgrade:       x.req.Upgrade != nil,
		Authenticates: backend.Authenticates(&x.req.Header),
		Owner:         &x.client.owner,
		Repeatable:    x.req.Idempotent() && x.req.Upgrade == nil,
	}
	if r.Repeatable && !r.Bodyless {
		n := x.req.ContentLength
		r.Repeatable = 0 < n && n <= maxKeptBody && x.kept.begin(x.source, &x.proxy.keptBodies, n)
	}
	if r.ServerConns = x.client.serverConns(); r.ServerConns != nil {
		defer x.attempt.End()
	}
	if x.backend.SendsProxy() {
		r.From = x.client.addresses()
	}
	again := retries{until: r.Now.Add(x.backend.ResponseTimeout())}
	up, err := x.attempt.Open(x.proxy.ctx, &r)
	for {
		if s := x.attempt.Server(); s != nil {
			x.rec.Server, x.rec.ServerHost = s.Address, s.Host()
		}
		asked, repeat := err == nil, notProcessed(err)
		if asked {
			x.up = up
			if repeat, err = x.exchangeWith(&r, &again); err == nil {
				return
			}
		}
		if !repeat || !again.wait(x.proxy.ctx, &r, err) {
			switch {
			case !asked:
				x.proxy.recordShortage(err)
				x.answer(connectAnswer(err))
			case !x.forwardReset(err):
				x.answer(serverAnswer(err))
			}
			return
		}
		r.Now = time.Now()
		up, err = x.attempt.Reopen(x.proxy.ctx, &r)
	}
}

// exchangeWith exchanges messages with the selected server. After an error nothing was sent to the
// client, and repeat reports whether the request may be sent again.
func (x *exchange) exchangeWith(r *backend.Request, again *retries) (repeat bool, err error) {
	meter := x.attempt.Meter()
	asked := r.Now
	if !x.up.Reused() {
		asked = time.Now() // the dial had a timeout of its own
	}
	if !r.Bodyless {
		x.keepBody(r)
	}
	if err = x.roundTrip(asked); err == nil {
		x.dropBody()
		now := time.Now()
		x.rec.BackendTime = now.Sub(r.Now)
		meter.FirstByte(x.rec.BackendTime)
		x.up.NoteAuthentication(&x.resp.Header, &x.client.owner)
		meter.Request(x.resp.Status)
		x.deliver(now)
		x.end = x.releaseServer()
		return false, nil
	}
	meter.Request(0)
	repeat = x.mayRetry(r, again, err)
	x.up.Abort() // the rest of the exchange must not keep the connection
	if repeat {
		if fault := x.pauseUpload(); fault != nil {
			repeat, err = false, &clientError{fault}
		}
		repeat = repeat && (r.Bodyless || !x.down.BodyStarted() || x.kept.canRewind())
	}
	x.joinUpload()
	x.releaseServer()
	return repeat, err
}

// keepBody makes sure that the body can be sent again if the server may return the request
// unprocessed, or its connection may be dead.
func (x *exchange) keepBody(r *backend.Request) {
	needed := x.up.MayReturn() || r.Repeatable && x.up.Reused()
	switch {
	case x.kept.active() && x.down.BodyStarted():
		x.kept.rewind()
	case x.down.BodyStarted():
	case needed && !x.kept.active():
		x.kept.begin(x.source, &x.proxy.keptBodies, x.req.ContentLength)
	case !needed:
		x.kept.reset()
	}
}

// dropBody releases a kept body when the request will not be sent again.
func (x *exchange) dropBody() {
	if !x.kept.active() {
		return
	}
	if x.upload.done != nil {
		x.kept.unneeded.Store(true)
		select {
		case <-x.upload.done:
		default:
			return // the reader of the body drops it
		}
	}
	x.kept.drop()
}

// body returns the request's body.
func (x *exchange) body() message.BodyReader {
	if x.kept.active() {
		return &x.kept
	}
	return x.source
}

// releaseServer releases the connection to the server, and returns the time.
func (x *exchange) releaseServer() (now time.Time) {
	x.recordServer()
	now = time.Now()
	x.up.Release(now)
	x.up = nil
	return now
}

// roundTrip sends the request and waits for the head of the final response. Interim responses go to
// the client.
func (x *exchange) roundTrip(asked time.Time) error {
	defer x.stopWatch()
	x.watchEarly()
	if x.hostless || len(x.req.Host) == 0 {
		x.hostless = true
		x.req.Host, x.req.Port = []byte(target.ServerHost(x.rec.ServerName())), nil
	}
	if err := x.up.WriteHead(&x.req); err != nil {
		return x.cause(err)
	}
	if err := x.sendBody(); err != nil {
		return x.cause(err)
	}
	// The response to a pipelined request before this one may still be held: it is sent before the
	// wait.
	if err := x.down.Flush(); err != nil {
		return &clientError{err}
	}
	deadline := asked.Add(backend.ClientCheckDelay)
	for {
		x.resp.Reset()
		err := x.up.ReadHead(&x.resp, deadline)
		if err == nil && x.resp.Interim() {
			x.downProgress().Mark()
			if err := x.down.WriteInterim(&x.resp); err != nil {
				return &clientError{err}
			}
			x.continued = x.continued || x.resp.Status == 100
			continue
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return x.cause(err)
		}
		if deadline, err = x.nextDeadline(asked); err != nil {
			return err
		}
	}
}

// nextDeadline is called when the server has not answered by a deadline. It returns the next one,
// or an error.
func (x *exchange) nextDeadline(asked time.Time) (time.Time, error) {
	now := time.Now()
	since := asked
	if x.upload.done != nil {
		sent := x.upload.sent.Load()
		switch {
		case sent > 0:
			since = x.start.Add(time.Duration(sent))
		case x.waitsFor100(): // since it was sent
		default: // the request is being sent; the minimum rate limits that
			return now.Add(backend.ClientCheckDelay), nil
		}
	}
	limit := since.Add(x.backend.ResponseTimeout())
	if !now.Before(limit) {
		return limit, errResponseTimeout
	}
	x.watch()
	if !x.repeatable() || !x.attempt.MayAvoid(x.up, now) {
		return limit, nil
	}
	look := asked.Add(stallTime)
	if !now.Before(look) {
		if x.attempt.Avoids(x.up, now) && !x.up.Answered() {
			return limit, errStalled
		}
		look = now.Add(stallTime)
	}
	if look.After(limit) {
		look = limit
	}
	return look, nil
}

// repeatable reports whether the request may be sent again although the server may have processed
// it.
func (x *exchange) repeatable() bool {
	return x.req.Idempotent() && x.req.ContentLength == 0 && x.req.Upgrade == nil
}

// stallTime is how long a request waits before it is moved from a connection that may stall to
// another.
const stallTime = time.Second

// errStalled is an error of a connection that may stall because the kernel lacks memory.
var errStalled = errors.New("the server's MPTCP connection may stall: the host is short of memory for sockets")

// waitsFor100 reports whether the client waits for a 100 before it sends its body.
func (x *exchange) waitsFor100() bool {
	return x.req.Expect && !x.continued && !x.down.Multiplexed() && !x.down.BodyStarted()
}

// cause returns the client's error if that is why the gateway ended the server's connection, else
// err.
func (x *exchange) cause(err error) error {
	if x.clientGone.Load() {
		if why := x.down.Err(); why != nil {
			err = why
		}
		return &clientError{err}
	}
	if fault := x.upload.fault.Load(); fault != nil {
		return &clientError{*fault}
	}
	return err
}
