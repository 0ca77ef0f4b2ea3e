package proxy

import (
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/proxy/route"
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
	client *client
	proxy  *Proxy
	view   *view
	down   downstream
	start  time.Time
	end    time.Time // of an exchange that a server answered

	req    message.Request
	resp   message.Response
	rec    telemetry.Record
	filter filter.Request // refers to req and rec
	asked  route.Request  // refers to req

	route   *Route
	matched matched       // how the route was found
	lease   *Lease        // see hold
	chain   *filter.Chain // of the route, once the route answers for the request
	meter   *telemetry.ExchangeMeter
	counted bool  // meter has seen the start
	fault   error // why the request could not be read

	// What Forward needs.
	backend *backend.Backend
	attempt backend.Attempt
	up      backend.Stream
	source  message.BodyReader // the request's body, after filters
	upload  upload
	kept    keptBody
	out     message.BodyWriter // the response's body goes there: down, or a filter in front of it
	// When each direction last moved, while both do.
	uploaded, downloaded netio.Progress

	raw *rawConn // of an exchange that is a whole connection; see TCP

	hostless  bool // the request came without Host
	continued bool // a 100 was passed on
	closing   bool // the response says that the client's connection ends
	refused   bool // the head was not a request, so what follows it cannot be known
	broken    bool // the response must not look as if it ended in order
	replaced  bool // the answer is one of a filter's, which is not replaced again
	watching  bool
	gone      atomic.Bool // the client has left
	cut       atomic.Bool // ended at a deadline, alone of its connection
	leave     func()      // stored once
	panicked  bool
	scratch   []byte
	forwarded []byte // the X-Forwarded-For of trusted proxies, in one
}

var exchanges = sync.Pool{New: func() any { return newExchange() }}

func newExchange() *exchange {
	x := &exchange{}
	x.rec.Reset()
	x.filter.Request, x.filter.Record = &x.req, &x.rec
	x.asked.Request = &x.req
	x.leave = x.clientLeft
	return x
}

// exchange serves one request, whose first byte has come. It says when that was over, and whether
// another may follow.
func (c *conn) exchange(start time.Time) (end time.Time, next bool) {
	x := exchanges.Get().(*exchange)
	x.begin(&c.client, c.http, start)
	x.run()
	end = x.finish()
	c.broken = x.broken
	next = c.http.Next() && !c.broken
	if !next && c.end == telemetry.ConnInternal {
		c.end = connEnd(x.rec.End)
	}
	x.recycle()
	return end, next
}

func (x *exchange) begin(c *client, down downstream, start time.Time) {
	x.client, x.proxy, x.down, x.start = c, c.proxy, down, start
	x.view = c.listener.view.Load()
	x.chain = &noFilters
	r := &x.rec
	r.Time, r.ID = start, telemetry.NewID()
	r.Listener, r.Peer, r.Client = c.listener.name, c.socket, c.peer.Addr()
	if s := c.tls; s != nil {
		r.TLSVersion, r.TLSCipher, r.TLSGroup, r.TLSResumed, r.SNI = s.version, s.cipher, s.group, s.state.DidResume, s.state.ServerName
	}
}

// noFilters is the chain of an exchange before its route has one.
var noFilters filter.Chain

// recycle gives x back, unless a panic has left it in an unknown state.
func (x *exchange) recycle() {
	if x.panicked {
		return
	}
	x.req.Reset()
	x.resp.Reset()
	x.rec.Reset()
	x.filter.Reset()
	x.matched, x.lease = matched{}, nil
	x.client, x.proxy, x.view, x.down, x.route, x.meter, x.up = nil, nil, nil, nil, nil, nil, nil
	x.chain, x.fault, x.backend, x.source, x.out, x.raw = nil, nil, nil, nil, nil, nil
	x.attempt.Reset(nil)
	x.upload = upload{}
	x.hostless, x.continued, x.closing, x.refused, x.broken, x.replaced = false, false, false, false, false, false
	x.watching, x.counted = false, false
	x.end = time.Time{}
	x.forwarded = x.forwarded[:0]
	x.gone.Store(false)
	x.cut.Store(false)
	exchanges.Put(x)
}

// run takes the exchange from its first byte to the end of its response: it reads the request,
// finds the route, takes the steps that may end the exchange, and lets the action of the route
// answer. A panic ends this exchange and nothing else.
func (x *exchange) run() {
	defer func() {
		if v := recover(); v != nil {
			x.panicked = true
			x.proxy.caught("panic in an exchange", string(x.rec.IDText()), v)
			x.afterPanic()
		}
	}()
	x.read()
	x.match()
	if x.step() == "" {
		x.route.Action.serve(x)
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
		x.answer(filter.Answer{Status: 500, End: telemetry.EndInternal, Text: "internal error"})
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
	if x.filter.Explain != nil {
		return
	}
	m.Start()
	x.meter, x.counted = m, true
}

// read decodes the request's head.
func (x *exchange) read() {
	x.fault = x.down.ReadRequest(&x.req, x.start)
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
	r.Scheme = telemetry.SchemeHTTP
	if x.client.tls != nil {
		r.Scheme = telemetry.SchemeHTTPS
	}
	x.req.Scheme = r.Scheme.String()
	if x.fault == nil {
		x.takeForwarded()
	}
}

// match finds the route, and the meter that counts the exchange.
func (x *exchange) match() {
	if x.fault == nil {
		x.asked.Listener, x.asked.Client, x.asked.TrustedPeer = x.rec.Listener, x.rec.Client, x.peerTrusted()
		if found, ok := x.view.Routes.table.Match(&x.asked); ok {
			x.matched = matched{found, x.req.Path}
			x.enter(found.Value, x.view.meters)
			return
		}
	}
	x.count(x.view.noRoute)
}

// enter makes the exchange one of the route.
func (x *exchange) enter(r *Route, m *meters) {
	x.route = r
	x.hold(r.Lease)
	x.rec.Route = r.Name
	x.count(m.of(r))
}

// hold makes the exchange last by a lease, instead of the one before.
func (x *exchange) hold(l *Lease) {
	x.lease = l
	x.client.take(x, l)
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
	t, n := x.client.info.Refresh(now)
	r.ClientTransport, r.ClientSubflows = t.String(), n
	if x.route != nil {
		x.client.giveBack(x, x.lease)
		x.route.Filters.End(&x.filter)
	}
	if r.End != telemetry.EndOK && (x.client.cut.Load() || x.cut.Load() || x.proxy.ctx.Err() != nil) {
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
