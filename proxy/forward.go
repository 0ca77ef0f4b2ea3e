package proxy

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/telemetry"
)

// forward has the request answered by a server of its route's backend.
func (x *exchange) forward() {
	room := x.proxy.options.Room
	if !room.enter() {
		x.proxy.shed(errNoRoom)
		x.answer(connectOutcome(errNoRoom))
		return
	}
	defer room.leave()
	x.attempt.Reset(x.route.Backend)
	r := backend.Request{
		Now:           time.Now(), // x.start is when the head began to come
		Bodyless:      x.req.ContentLength == 0,
		Upgrade:       x.req.Upgrade != nil,
		Authenticates: backend.Authenticates(&x.req.Header),
		Owner:         &x.conn.owner,
		Repeatable:    x.req.Idempotent() && x.req.Upgrade == nil,
	}
	if r.Repeatable && !r.Bodyless {
		n := x.req.ContentLength
		r.Repeatable = 0 < n && n <= maxKeptBody && x.kept.begin(x.down.Body(), &x.proxy.keptBodies, n)
	}
	if m := x.conn.mux; m != nil {
		r.ServerConns = &m.holds
		defer x.attempt.End()
	}
	if x.route.Backend.SendsProxy() {
		r.From = x.conn.addresses()
	}
	again := repeats{until: r.Now.Add(x.route.Backend.ResponseTimeout())}
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
				x.answer(connectOutcome(err))
			case !x.passReset(err):
				x.answer(serverOutcome(err))
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
		x.up.NoteAuthentication(&x.resp.Header, &x.conn.owner)
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
		x.kept.begin(x.down.Body(), &x.proxy.keptBodies, x.req.ContentLength)
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
	return x.down.Body()
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
		x.req.Host, x.req.Port = serverHost(x.rec.Server), nil
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

// serverHost is the Host of a request that came without one (HTTP/1.0, or an empty field): many
// servers refuse an empty one.
func serverHost(address string) []byte {
	if strings.HasPrefix(address, "unix:") {
		return []byte("localhost")
	}
	if a, err := netip.ParseAddrPort(address); err == nil {
		address = netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()).String()
	}
	return []byte(address)
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
	limit := since.Add(x.route.Backend.ResponseTimeout())
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

// deliver gives the response, whose head came at now, to the client.
func (x *exchange) deliver(now time.Time) {
	x.rec.Status = x.resp.Status
	if x.resp.Status == 101 {
		x.tunnel()
		return
	}
	if x.asksTunnel() && x.resp.Status/100 == 2 {
		x.up.Abort()
		x.answer(outcome{status: 502, end: telemetry.EndBackendInvalid, text: "the server did not switch protocols"})
		return
	}
	if !x.resp.Header.Has(message.Date) {
		x.resp.Header.Add(message.Date, date(now))
	}
	x.secure()
	x.closeEarly()
	x.movedDown().Begin()
	if err := x.down.WriteHead(&x.resp); err != nil {
		x.endResponse(nil, err)
		return
	}
	var fromServer, toClient error
	if !x.resp.NoBody {
		x.watchEarly()
		x.rec.BytesOut, fromServer, toClient = relay(x.down, x.up.Body(), x.watch, x.movedDown())
		x.stopWatch()
	}
	if fromServer == nil && toClient == nil {
		if x.unasked() {
			x.stopUpload()
		}
		if fromServer = x.down.End(&x.resp.Trailer); fromServer == nil && x.upload.done != nil {
			toClient = x.down.Flush() // nobody will read from the client, which would send it
		}
	}
	x.endResponse(fromServer, toClient)
}

// closeEarly says in the response that the client's connection ends, where that is known.
func (x *exchange) closeEarly() {
	if x.conn.ending() {
		x.setClose()
		return
	}
	if x.upload.done == nil || x.down.BodyDone() {
		return
	}
	if x.req.Expect {
		// A client that was not told to go on may send its body or not: nobody could tell it from a
		// request.
		x.setClose()
		return
	}
	if x.resp.Status >= 300 && !x.down.Multiplexed() && x.uploading() {
		x.setClose() // the server does not want what the client still sends
	}
}

// uploading says whether the client still sends its request's body. Mostly a server answers when it
// has it whole, and the goroutine that sent it has yet to notice.
func (x *exchange) uploading() bool {
	late := time.NewTimer(5 * time.Millisecond)
	defer late.Stop()
	select {
	case <-x.upload.done:
	case <-late.C:
	}
	return !x.down.BodyDone()
}

// unasked says whether a server of HTTP/1 has answered in full instead of asking for the body, of
// which nothing has come: what the client may still send could be a request to it.
func (x *exchange) unasked() bool {
	return x.req.Expect && !x.continued && x.upload.done != nil && !x.up.MayReturn() && !x.down.BodyStarted()
}

func (x *exchange) setClose() {
	x.closing = true
	x.down.SetClose()
}

// asksTunnel reports whether the request is an extended CONNECT. Any 2xx then tells the client that
// the tunnel stands (RFC 9110 section 9.3.6), so only a switch of protocols may become one: a
// server of HTTP/1 that answers with an ordinary 2xx has declined.
func (x *exchange) asksTunnel() bool { return x.down.Multiplexed() && x.req.Upgrade != nil }

// movedDown is the progress of the response while the request's body is still under way, else nil.
func (x *exchange) movedDown() *netio.Progress {
	if x.upload.done == nil {
		return nil
	}
	return &x.downloaded
}

// endResponse notes how the response ended, and ends the request's body if it is still coming.
func (x *exchange) endResponse(fromServer, toClient error) {
	if x.rec.GRPCStatus = grpcStatus(&x.resp.Trailer); x.rec.GRPCStatus < 0 {
		x.rec.GRPCStatus = grpcStatus(&x.resp.Header) // an answer that is only trailers
	}
	if fromServer == nil && toClient == nil {
		x.rec.End = telemetry.EndOK
		x.settleUpload()
	} else {
		x.passReset(x.blame(fromServer))
		// The body was cut: it must not look complete. A length or chunks say so; the end of a
		// connection would not.
		x.down.SetClose()
		x.broken = x.resp.ContentLength == message.Unknown && x.req.Version == message.HTTP10
		x.up.Abort()
		switch {
		case toClient != nil:
			x.rec.End = clientEnd(toClient)
		case x.gone.Load() && !x.down.Multiplexed():
			x.rec.End = telemetry.EndClientGone
		default:
			x.rec.End = serverOutcome(x.blame(fromServer)).end
		}
	}
	x.joinUpload()
}

// grpcStatus is what a gRPC server says of the outcome, -1 where it says nothing.
func grpcStatus(h *message.Header) (status int) {
	v := h.Get(message.GRPCStatus)
	if len(v) == 0 || len(v) > 3 {
		return -1
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return -1
		}
		status = 10*status + int(c-'0')
	}
	return status
}
