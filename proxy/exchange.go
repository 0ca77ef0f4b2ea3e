package proxy

import (
	"bytes"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/backend"
	"mpgate/proxy/http1"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/telemetry"
)

// downstream is the client's side of an exchange. It is an interface because HTTP/1 gives a whole
// connection to an exchange and HTTP/2 a part of one.
type downstream interface {
	message.BodyWriter
	// ReadRequest decodes the request, whose first byte came at start, into r, which must be fresh
	// or reset.
	ReadRequest(r *message.Request, start time.Time) error
	Body() message.BodyReader
	BodyDone() bool
	BodyStarted() bool
	// SetProgress is for an exchange that moves in both directions at once: reads is the progress
	// of the request's body, writes that of the response. Nil for both ends that.
	SetProgress(reads, writes *netio.Progress)
	WriteInterim(*message.Response) error
	WriteHead(*message.Response) error
	HeadSent() bool
	SetClose()
	// Interrupt ends the read of the body that is under way, or else the next one, until Resume.
	Interrupt()
	Resume()
	// Watch calls gone, from another goroutine, when the client leaves while its request is worked
	// on. With HTTP/1 that must have been read whole. StopWatch ends that and may be called without
	// it.
	Watch(gone func())
	StopWatch()
	// Multiplexed says whether the connection carries other exchanges too: then the end of this one
	// is not its end.
	Multiplexed() bool
	// Abort ends the exchange at once, from any goroutine; whoever waits in it gets an error. Err
	// is then why, and nil where only the connection as a whole can end.
	Abort()
	Err() error
	// ResetAs says by which code (RFC 9113 section 7) a response is reset that is not complete at
	// the end. It is for multiplexed exchanges.
	ResetAs(code uint32)
}

// exchange is one request and its response. It is reused: an exchange on the common way allocates
// nothing.
type exchange struct {
	conn  *conn
	proxy *Proxy
	view  *view
	down  downstream
	start time.Time
	end   time.Time // of an exchange that a server answered

	req  message.Request
	resp message.Response
	rec  telemetry.Record

	route   *Route
	meter   *telemetry.ExchangeMeter
	counted bool // meter has seen the start
	attempt backend.Attempt
	up      backend.Stream
	upload  upload
	kept    keptBody
	// When each direction last moved, while both do.
	uploaded, downloaded netio.Progress

	hostless  bool // the request came without Host
	continued bool // a 100 was passed on
	closing   bool // the response says that the client's connection ends
	refused   bool // the head was no request, so nobody knows what follows it
	broken    bool // the response must not look as if it ended in order
	watching  bool
	gone      atomic.Bool // the client has left
	cut       atomic.Bool // ended because its time was over, alone of its connection
	leave     func()      // stored once
	panicked  bool
	scratch   []byte
	location  []byte // of a redirect; empty without one
}

var exchanges = sync.Pool{New: func() any {
	x := &exchange{}
	x.rec.Reset()
	x.leave = x.clientLeft
	return x
}}

// exchange serves one request, whose first byte has come. It says when that was over, and whether
// another may follow.
func (c *conn) exchange(start time.Time) (end time.Time, next bool) {
	x := exchanges.Get().(*exchange)
	x.begin(c, c.http, start)
	x.run()
	end = x.finish()
	c.broken = x.broken
	next = c.http.Next() && !c.broken
	if !next && c.end == telemetry.ConnInternal {
		c.end = connEnd(x.rec.End)
	}
	if !x.panicked {
		x.reset()
		exchanges.Put(x)
	}
	return end, next
}

func (x *exchange) begin(c *conn, down downstream, start time.Time) {
	x.conn, x.proxy, x.down, x.start = c, c.proxy, down, start
	x.view = c.listener.view.Load()
	r := &x.rec
	r.Time, r.ID = start, telemetry.NewID()
	r.Listener, r.Peer, r.Client = c.listener.name, c.socket, c.peer.Addr()
	r.Scheme = telemetry.SchemeHTTP
	if s := c.tls; s != nil {
		r.Scheme = telemetry.SchemeHTTPS
		r.TLSVersion, r.TLSCipher, r.TLSGroup, r.TLSResumed, r.SNI = s.version, s.cipher, s.group, s.state.DidResume, s.state.ServerName
	}
}

func (x *exchange) reset() {
	x.req.Reset()
	x.resp.Reset()
	x.rec.Reset()
	x.conn, x.proxy, x.view, x.down, x.route, x.meter, x.up = nil, nil, nil, nil, nil, nil, nil
	x.attempt.Reset(nil)
	x.upload = upload{}
	x.closing = false
	x.hostless, x.continued, x.watching, x.refused, x.broken, x.counted = false, false, false, false, false, false
	x.end = time.Time{}
	x.location = x.location[:0]
	x.gone.Store(false)
	x.cut.Store(false)
}

// run takes the exchange from its first byte to the end of its response. A panic ends this exchange
// and nothing else.
func (x *exchange) run() {
	defer func() {
		if v := recover(); v != nil {
			x.panicked = true
			x.proxy.caught("panic in an exchange", string(x.rec.IDText()), v)
			x.afterPanic()
		}
	}()
	err := x.read()
	if err == nil {
		x.takeID()
	}
	x.count(x.match(err == nil))
	switch {
	case err != nil:
		x.refuse(err)
	case x.misdirected(), x.challenge(), x.health(), x.redirectHTTPS():
	case x.route == nil:
		x.answer(outcome{status: 404, end: telemetry.EndNoRoute, text: "nothing is served here"})
	default:
		if x.pathAllowed() && x.mayPass() && !x.loops() {
			x.vouch()
			x.forward()
		}
	}
}

// afterPanic leaves nothing of the exchange behind.
func (x *exchange) afterPanic() {
	x.rec.End = telemetry.EndInternal
	defer func() {
		if v := recover(); v != nil { // there is no answering
			x.proxy.caught("panic at the end of an exchange", string(x.rec.IDText()), v)
			x.broken = true
			x.down.SetClose()
		}
	}()
	x.broken = x.down.HeadSent()
	if x.up != nil {
		x.up.Abort()
	}
	x.stopWatch()
	x.joinUpload()
	if x.up != nil {
		x.leaveServer()
	}
	x.down.SetClose()
	if !x.broken {
		x.answer(outcome{status: 500, end: telemetry.EndInternal, text: "internal error"})
	}
	x.rec.End = telemetry.EndInternal
}

// errPanic is how a part of an exchange ends that panicked in a goroutine of its own.
var errPanic = errors.New("internal error")

// caught counts a panic that was recovered, and tells of it.
func (p *Proxy) caught(what, id string, v any) {
	if m := p.options.Instruments; m != nil {
		m.Panics.Inc()
	}
	p.options.Logger.Error(what, "id", id, "panic", v, "stack", string(debug.Stack()))
}

// count makes the exchange count with m.
func (x *exchange) count(m *telemetry.ExchangeMeter) {
	m.Start()
	x.meter, x.counted = m, true
}

// read decodes the request's head.
func (x *exchange) read() error {
	err := x.down.ReadRequest(&x.req, x.start)
	r := &x.rec
	r.Method, r.Host, r.Path = x.req.Method, x.req.Host, x.req.Target
	switch x.req.Version {
	case message.HTTP10:
		r.Proto = telemetry.ProtoHTTP10
	case message.HTTP11:
		r.Proto = telemetry.ProtoHTTP11
	case message.HTTP20:
		r.Proto = telemetry.ProtoHTTP2
	}
	x.req.Scheme = x.rec.Scheme.String()
	return err
}

// match finds the route, and the meter that counts the exchange.
func (x *exchange) match(readable bool) *telemetry.ExchangeMeter {
	if !readable {
		return x.view.noRoute
	}
	route, ok := x.view.Routes.table.Match(x.req.Host, x.req.Path, x.conn.listener.name)
	if !ok {
		return x.view.noRoute
	}
	x.route = route
	x.conn.take(x, route.Lease)
	x.rec.Route = route.Name
	x.rec.Backend = route.Backend.Name()
	return x.view.meters.of(route)
}

// health answers the listener's health path.
func (x *exchange) health() bool {
	if x.view.HealthPath == "" || string(x.req.Path) != x.view.HealthPath {
		return false
	}
	if x.proxy.draining.Load() || x.proxy.options.Ready != nil && !x.proxy.options.Ready() {
		x.answer(outcome{status: 503, end: telemetry.EndOK, text: "not ready"})
	} else {
		x.answer(outcome{status: 200, end: telemetry.EndOK, text: "ready"})
	}
	return true
}

// misdirected refuses a request whose host has another TLS policy than the one that its connection
// came by, or whose policy is gone: what was checked at the handshake does not count for it (RFC
// 9110 section 15.5.20).
func (x *exchange) misdirected() bool {
	s, policies := x.conn.tls, x.view.TLS
	if s == nil && policies == nil {
		return false
	}
	if s == nil { // the listener uses TLS by now, and this connection does not
		x.down.SetClose()
		x.answer(outcome{status: 421, end: telemetry.EndMisdirected, text: "this port requires TLS; use https"})
		return true
	}
	if policies == nil { // TLS is no longer asked for: it lets nobody in that a plain connection would not
		x.down.SetClose()
		return false
	}
	if policies.Has(s.policy) && (policies.Single() || policies.PolicyFor(x.req.Host) == s.policy) {
		return false
	}
	if !policies.Has(s.policy) {
		x.down.SetClose()
	}
	x.answer(outcome{status: 421, end: telemetry.EndMisdirected, text: "this host is not served on this connection"})
	return true
}

// challenge answers a CA that asks for proof of a name. A challenge that is not ours is a request
// like any other.
func (x *exchange) challenge() bool {
	if x.view.Challenge == nil || !bytes.HasPrefix(x.req.Path, challengePath) || string(x.req.Method) != "GET" {
		return false
	}
	body, ours := x.view.Challenge(x.req.Host, x.req.Path)
	if ours {
		x.answerText(outcome{status: 200, end: telemetry.EndOK, text: ""}, body)
	}
	return ours
}

var challengePath = []byte("/.well-known/acme-challenge/")

// refuse answers a head that was not a request.
func (x *exchange) refuse(err error) {
	x.refused = true
	var fault *http1.Error
	if errors.As(err, &fault) {
		x.answer(requestOutcome(fault))
		return
	}
	x.rec.End = clientEnd(err)
	x.down.SetClose()
}

func (x *exchange) clientLeft() {
	x.gone.Store(true)
	x.up.Abort()
}

// watch notices that the client leaves. On a connection that carries one exchange at a time the
// body must have been read: what comes behind it says so.
func (x *exchange) watch() {
	if !x.watching && (x.down.Multiplexed() || x.down.BodyDone()) {
		x.watching = true
		x.down.Watch(x.leave)
	}
}

// watchEarly watches at once where that costs nothing: a connection that carries many exchanges is
// read anyway.
func (x *exchange) watchEarly() {
	if x.down.Multiplexed() {
		x.watch()
	}
}

func (x *exchange) stopWatch() {
	if x.watching {
		x.down.StopWatch()
		x.watching = false
	}
}

// finish is the one exit of every exchange, whatever its outcome.
func (x *exchange) finish() (now time.Time) {
	if now = x.end; now.IsZero() {
		now = time.Now()
	}
	x.kept.reset()
	r := &x.rec
	r.Duration = now.Sub(x.start)
	r.Tries = x.attempt.Tries()
	t, n := x.conn.info.Refresh(now)
	r.ClientTransport, r.ClientSubflows = t.String(), n
	if x.route != nil {
		x.conn.giveBack(x, x.route.Lease)
	}
	if r.End != telemetry.EndOK && (x.conn.cut.Load() || x.cut.Load() || x.proxy.ctx.Err() != nil) {
		r.End = telemetry.EndDrain
	}
	if !x.counted { // a panic came first
		x.count(x.view.noRoute)
	}
	x.meter.End(r)
	x.proxy.accessLog.Load().Log(r)
	return now
}

// served notes what carried the request, before the connection to the server is given back.
func (x *exchange) served() {
	t, n := x.up.State(x.start)
	x.rec.ServerTransport = t.String()
	x.rec.ServerSubflows = 0
	if t == mptcp.MPTCP {
		x.rec.ServerSubflows = n
	}
}
