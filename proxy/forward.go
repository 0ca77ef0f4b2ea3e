package proxy

import (
	"errors"
	"os"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

// Forward is the action that has a server of a backend answer.
type Forward struct{ Backend *backend.Backend }

func (f *Forward) serve(x *exchange) {
	x.backend = f.Backend
	x.rec.Backend = f.Backend.Name()
	if !x.returns() {
		x.forward()
	}
}

// forward has the request answered by a server of the backend.
func (x *exchange) forward() {
	room := x.proxy.options.Room
	if !room.enter() {
		x.proxy.shed(errNoRoom)
		x.answer(connectAnswer(errNoRoom))
		return
	}
	defer room.leave()
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
	if r.ServerConns = x.client.holds(); r.ServerConns != nil {
		defer x.attempt.End()
	}
	if x.backend.SendsProxy() {
		r.From = x.client.addresses()
	}
	again := repeats{until: r.Now.Add(x.backend.ResponseTimeout())}
	up, err := x.attempt.Open(x.proxy.ctx, &r)
	for {
		if s := x.attempt.Server(); s != nil {
			x.rec.Server = s.Address
		}
		asked, repeat := err == nil, cameBack(err)
		if asked {
			x.up = up
			if repeat, err = x.exchangeWith(&r, &again); err == nil {
				return
			}
		}
		if !repeat || !again.wait(x.proxy.ctx, &r, err) {
			switch {
			case !asked:
				x.proxy.shed(err)
				x.answer(connectAnswer(err))
			case !x.passReset(err):
				x.answer(serverAnswer(err))
			}
			return
		}
		r.Now = time.Now()
		up, err = x.attempt.Reopen(x.proxy.ctx, &r)
	}
}

// exchangeWith has the server that was picked answer. After an error nothing of an answer has gone
// to the client, and repeat says whether the request may be sent again.
func (x *exchange) exchangeWith(r *backend.Request, again *repeats) (repeat bool, err error) {
	meter := x.attempt.Meter()
	asked := r.Now
	if !x.up.Reused() {
		asked = time.Now() // the connection has taken its time, and had its own limit
	}
	if !r.Bodyless {
		x.keepBody(r)
	}
	if err = x.ask(asked); err == nil {
		x.dropBody()
		now := time.Now()
		x.rec.BackendTime = now.Sub(r.Now)
		meter.FirstByte(x.rec.BackendTime)
		x.up.NoteAuthentication(&x.resp.Header, &x.client.owner)
		meter.Request(x.resp.Status)
		x.deliver(now)
		x.end = x.leaveServer()
		return false, nil
	}
	meter.Request(0)
	repeat = x.mayRepeat(r, again, err)
	x.up.Abort() // what is left of the exchange must not keep the connection
	if repeat {
		if fault := x.pauseUpload(); fault != nil {
			repeat, err = false, &clientError{fault}
		}
		repeat = repeat && (r.Bodyless || !x.down.BodyStarted() || x.kept.again())
	}
	x.joinUpload()
	x.leaveServer()
	return repeat, err
}

// keepBody sees to it that the body can be sent again where the server may give the request back,
// or its connection may turn out to be dead.
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

// dropBody is for a request that will not be sent again.
func (x *exchange) dropBody() {
	if !x.kept.active() {
		return
	}
	if x.upload.done != nil {
		x.kept.done.Store(true)
		select {
		case <-x.upload.done:
		default:
			return // whoever reads the body sees to it
		}
	}
	x.kept.drop()
}

// body is the request's.
func (x *exchange) body() message.BodyReader {
	if x.kept.active() {
		return &x.kept
	}
	return x.source
}

// leaveServer gives the connection to the server back, and says when that was.
func (x *exchange) leaveServer() (now time.Time) {
	x.served()
	now = time.Now()
	x.up.Release(now)
	x.up = nil
	return now
}

// ask sends the request, now, and waits for the head of the final response; interim ones go to the
// client.
func (x *exchange) ask(asked time.Time) error {
	defer x.stopWatch()
	x.watchEarly()
	if x.hostless || len(x.req.Host) == 0 {
		x.hostless = true
		x.req.Host, x.req.Port = []byte(target.ServerHost(x.rec.Server)), nil
	}
	if err := x.up.WriteHead(&x.req); err != nil {
		return x.blame(err)
	}
	if err := x.sendBody(); err != nil {
		return x.blame(err)
	}
	// What the client is still owed, the response before this one, leaves before we wait for the
	// server.
	if err := x.down.Flush(); err != nil {
		return &clientError{err}
	}
	deadline := asked.Add(backend.ClientCheckDelay)
	for {
		x.resp.Reset()
		err := x.up.ReadHead(&x.resp, deadline)
		if err == nil && x.resp.Interim() {
			x.movedDown().Mark()
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
			return x.blame(err)
		}
		if deadline, err = x.stillWaiting(asked); err != nil {
			return err
		}
	}
}

// stillWaiting is asked when the server has not answered by a deadline: until when to wait on.
func (x *exchange) stillWaiting(asked time.Time) (time.Time, error) {
	now := time.Now()
	since := asked
	if x.upload.done != nil {
		sent := x.upload.sent.Load()
		switch {
		case sent > 0:
			since = x.start.Add(time.Duration(sent))
		case x.waitsFor100(): // for the server, that is
		default: // the request is on its way; the pace of the client and the server bounds that
			return now.Add(backend.ClientCheckDelay), nil
		}
	}
	limit := since.Add(x.backend.ResponseTimeout())
	if !now.Before(limit) {
		return limit, errLate
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

// repeatable says whether the request may be sent again though the server may have looked at it.
func (x *exchange) repeatable() bool {
	return x.req.Idempotent() && x.req.ContentLength == 0 && x.req.Upgrade == nil
}

// stallTime is after what silence a request is moved to another connection if the server's may
// stall.
const stallTime = time.Second

// errStalled is a connection that may stall for want of memory in the kernel.
var errStalled = errors.New("the server's MPTCP connection may stall: the host is short of memory for sockets")

// waitsFor100 says whether the client holds its body back until the server asks for it.
func (x *exchange) waitsFor100() bool {
	return x.req.Expect && !x.continued && !x.down.Multiplexed() && !x.down.BodyStarted()
}

// blame finds out whether an error on the server's connection was ours to make: a client that left
// or sent no proper body has it cut.
func (x *exchange) blame(err error) error {
	if x.gone.Load() {
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
