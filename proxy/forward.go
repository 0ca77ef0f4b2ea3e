package proxy

import (
	"errors"
	"os"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/target"
	"mpgate/proxy/template"
)

// Forward is the action that forwards requests to a backend.
type Forward struct {
	Backend *backend.Backend
	// Key is the text by which a backend with the balance hash chooses a server.
	Key template.Template
	// Retry says when requests are sent again; nil: as the backend says.
	Retry *backend.Retry
}

func (f *Forward) serve(x *exchange) {
	x.backend = f.Backend
	x.rec.Backend = f.Backend.Name()
	if !x.detectLoop() {
		x.forward(&f.Key, f.Retry)
	}
}

// forward sends the request to a server of the backend, and the response to the client.
func (x *exchange) forward(key *template.Template, rules *backend.Retry) {
	room := x.proxy.options.Room
	if !room.acquire() {
		x.proxy.recordShortage(errNoRoom)
		x.answer(connectAnswer(errNoRoom))
		return
	}
	defer room.release()
	x.attempt.Reset(x.backend)
	x.attempt.SetRules(rules)
	x.attempt.FindCookie(&x.req.Header)
	x.setKey(key)
	defer x.attempt.End()
	r := x.backendRequest()
	up, err := x.attempt.Open(x.proxy.ctx, r)
	x.again = retries{until: r.Now.Add(x.backend.ResponseTimeout())}
	var before error // of the last try that reached a server
	for {
		if s := x.attempt.Server(); s != nil {
			x.rec.Server, x.rec.ServerHost = s.Address, s.Host()
		}
		asked, next := err == nil, never
		if asked {
			x.up = up
			if next, err = x.exchangeWith(r); err == nil && next == never {
				return
			}
			before = err
		} else if notProcessed(err) {
			next = sameServer
		}
		if next == never || !x.again.wait(x.proxy.ctx, r, err) {
			if asked {
				if !x.forwardReset(err) {
					x.answer(serverAnswer(err))
				}
				return
			}
			x.answerUnreached(err, before)
			return
		}
		r.Now = time.Now()
		if next == otherServer {
			up, err = x.attempt.Another(x.proxy.ctx, r)
		} else {
			up, err = x.attempt.Reopen(x.proxy.ctx, r)
		}
	}
}

// backendRequest returns what the backend must know about the request, and sets how it may be sent
// again.
func (x *exchange) backendRequest() *backend.Request {
	x.source = x.chain.RequestBody(&x.filter, x.down.Body())
	rules := x.attempt.Rules()
	r := &x.serverRequest
	*r = backend.Request{
		Now:           time.Now(), // x.start is when the head began to come
		Bodyless:      x.req.ContentLength == 0,
		Upgrade:       x.req.Upgrade != nil,
		Authenticates: backend.Authenticates(&x.req.Header),
		Owner:         &x.client.owner,
		Repeatable:    (x.req.Idempotent() || rules.AnyMethod) && x.req.Upgrade == nil,
		ServerConns:   x.client.serverConns(),
		Route:         x.rec.Route,
		Client:        (*queueing)(x),
	}
	if r.Repeatable && !r.Bodyless {
		n := x.req.ContentLength
		r.Repeatable = 0 < n && n <= int64(rules.Body) && x.keep(n)
	}
	if x.tryTime = 0; r.Repeatable {
		x.tryTime = x.attempt.TryTime()
	}
	if x.hedging.armed = x.mayHedge(r); x.hedging.armed {
		x.hedging.after = x.backend.HedgeAfter()
	}
	if x.backend.SendsProxy() {
		r.From = x.client.addresses()
	}
	return r
}

// answerUnreached answers a request for which no connection could be had. before is the error of an
// earlier try, which reached a server; nil: there was none.
func (x *exchange) answerUnreached(err, before error) {
	switch {
	case x.clientGone.Load():
		x.answer(serverAnswer(x.cause(err)))
	case before != nil && errors.Is(err, backend.ErrNoServer):
		x.answer(serverAnswer(before))
	default:
		x.proxy.recordShortage(err)
		x.answer(connectAnswer(err))
	}
}

// setKey sets the key by which a server is chosen.
func (x *exchange) setKey(key *template.Template) {
	if len(key.Parts()) > 0 {
		x.scratch = x.filter.Append(x.scratch[:0], key)
		x.attempt.SetKey(x.scratch)
	}
}

// exchangeWith exchanges messages with the selected server. With a next other than never, nothing
// was sent to the client, and the request may be sent again; after an error nothing was sent
// either.
func (x *exchange) exchangeWith(r *backend.Request) (next repeat, err error) {
	meter := x.attempt.Meter()
	asked := r.Now
	if !x.up.Reused() {
		asked = time.Now() // the dial had a timeout of its own
	}
	if !r.Bodyless {
		x.keepBody(r)
	}
	err = x.roundTrip(r, asked)
	if x.settleHedge(r, asked, &err) {
		meter, asked = x.attempt.Meter(), x.hedging.asked
	}
	if err == nil {
		if x.refusedWith(r) {
			meter.Request(x.resp.Status)
			now := time.Now()
			x.attempt.NoteAnswer(x.waited(asked, now), x.resp.Status, now)
			x.noteAnswer(x.resp.Status, x.starved(asked, now))
			err = x.discardResponse()
			x.releaseServer()
			if err != nil {
				return never, err
			}
			return otherServer, nil
		}
		x.dropBody()
		now := time.Now()
		x.rec.BackendTime = now.Sub(r.Now)
		meter.FirstByte(x.rec.BackendTime)
		x.attempt.NoteAnswer(x.waited(asked, now), x.resp.Status, now)
		if x.attempt.NeedsCookie() {
			x.setCookie(x.attempt.SetCookie(x.clientUsesTLS()))
		}
		x.up.NoteAuthentication(&x.resp.Header, &x.client.owner)
		status := x.resp.Status
		meter.Request(status)
		starved := x.starved(asked, now)
		x.deliver(now)
		x.end = x.releaseServer()
		x.noteAnswer(status, starved)
		return never, nil
	}
	meter.Request(0)
	now := time.Now()
	x.attempt.NoteAnswer(x.waited(asked, now), 0, now)
	x.noteNoAnswer(err, x.starved(asked, now))
	next = x.mayRetry(r, err)
	x.up.Abort() // the rest of the exchange must not keep the connection
	if next != never {
		if fault := x.pauseUpload(); fault != nil {
			next, err = never, &clientError{fault}
		}
		if !r.Bodyless && x.down.BodyStarted() && !x.kept.canRewind() {
			next = never
		}
	}
	x.joinUpload()
	x.releaseServer()
	return next, err
}

// clientUsesTLS reports whether the client uses TLS, to this gateway or to a trusted proxy before
// it: then X-Forwarded-Proto, which nobody else can set, says so.
func (x *exchange) clientUsesTLS() bool {
	return x.client.tls != nil || message.EqualFold(x.req.Header.Get(message.XForwardedProto), "https")
}

// waited returns how long the server has been waited for since it had the request; 0 if it does not
// have all of it.
func (x *exchange) waited(asked, now time.Time) time.Duration {
	if x.upload.done == nil {
		return now.Sub(asked)
	}
	if sent := x.upload.sent.Load(); sent > 0 {
		return now.Sub(x.start.Add(time.Duration(sent)))
	}
	return 0
}

// keepBody makes sure that the body can be sent again if the server may return the request
// unprocessed, or its connection may be dead.
func (x *exchange) keepBody(r *backend.Request) {
	needed := x.up.MayReturn() || r.Repeatable && (x.up.Reused() || x.attempt.Rules().AfterSending())
	switch {
	case x.kept.active() && x.down.BodyStarted():
		x.kept.rewind()
	case x.down.BodyStarted():
	case needed && !x.kept.active():
		x.keep(x.req.ContentLength)
	case !needed:
		x.kept.reset()
	}
}

// keep begins to keep the body, of which nothing has been read and n bytes are expected. It returns
// false if there is no memory for it.
func (x *exchange) keep(n int64) bool {
	return x.kept.begin(x.source, &x.proxy.keptBodies, n, x.attempt.Rules().Body)
}

// keepArrived reads what has arrived of a small body.
func (x *exchange) keepArrived() {
	n := x.req.ContentLength
	if n <= 0 || n > int64(x.attempt.Rules().Body) || x.req.Expect || x.down.Multiplexed() ||
		!x.kept.active() && !x.keep(n) {
		return
	}
	for {
		if _, err := x.kept.Next(false); err != nil {
			break // sendBody gets it, too
		}
	}
	x.kept.rewind()
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
func (x *exchange) roundTrip(r *backend.Request, asked time.Time) error {
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
	if x.tryTime > 0 && x.tryTime < backend.ClientCheckDelay {
		deadline = asked.Add(x.tryTime)
	}
	deadline = x.hedging.before(deadline, asked)
	for {
		x.resp.Reset()
		err := x.up.ReadHead(&x.resp, deadline)
		if err == nil && x.resp.Interim() {
			if x.route.AccelRedirect {
				filter.RemoveAccel(&x.resp.Header)
			}
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
		x.hedgeIfDue(r, asked)
		if deadline, err = x.nextDeadline(asked); err != nil {
			return err
		}
		deadline = x.hedging.before(deadline, asked)
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
	if x.tryTime > 0 {
		end := since.Add(x.tryTime)
		if now.Before(end) {
			limit = end
		} else if x.tryTime = 0; !x.up.Answered() && !now.After(x.again.until) && x.attempt.MayRetry(backend.OnTimeout) {
			x.tryTime = x.attempt.TryTime()
			return limit, errTryTimeout
		}
	}
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
