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
	"mpgate/task"
	"mpgate/telemetry"
)

// downstream is the client's side of an exchange. It is an interface because an exchange is a whole
// connection in HTTP/1 and a stream in HTTP/2.
type downstream interface {
	message.BodyWriter
	// ReadRequest decodes the request, whose first byte came at start, into r, which must be new or
	// reset.
	ReadRequest(r *message.Request, start time.Time) error
	Body() message.BodyReader
	BodyDone() bool
	BodyStarted() bool
	// SetProgress is for an exchange that sends and receives at the same time: reads is the
	// progress of the request's body, writes that of the response. Nil for both ends that.
	SetProgress(reads, writes *netio.Progress)
	WriteInterim(*message.Response) error
	WriteHead(*message.Response) error
	HeadSent() bool
	SetClose()
	// Interrupt ends the current read of the body, or else the next one, until Resume.
	Interrupt()
	Resume()
	// Watch calls gone, from another goroutine, when the client disconnects while its request is
	// being processed. With HTTP/1 the request must have been read completely. StopWatch ends that
	// and may be called without it.
	Watch(gone func())
	StopWatch()
	// Multiplexed reports whether the connection carries other exchanges, too: then the end of this
	// one is not the end of the connection.
	Multiplexed() bool
	// Abort ends the exchange at once, from any goroutine; calls that wait return an error. Err
	// then returns the reason; nil if only the whole connection can end.
	Abort()
	Err() error
	// ResetAs sets the code (RFC 9113 section 7) with which an incomplete response is reset. It is
	// for multiplexed exchanges.
	ResetAs(code uint32)
}

// exchange is one request and its response. It is reused: the common exchange allocates nothing.
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
	lease   *Lease        // see holdLease
	chain   *filter.Chain // of the route, once the route answers for the request
	meter   *telemetry.ExchangeMeter
	counted bool  // meter has seen the start
	fault   error // why the request could not be read

	// What Forward needs.
	backend       *backend.Backend
	attempt       backend.Attempt
	serverRequest backend.Request
	again         retries
	tryTime       time.Duration // of one try, if another may follow; 0: no limit of its own
	hedging       hedging
	up            backend.Stream
	source        message.BodyReader // the request's body, after filters
	upload        upload
	kept          keptBody
	// The response's body goes there: down, or a filter in front of it.
	out message.BodyWriter
	// When each direction last moved, while both are open.
	uploaded, downloaded netio.Progress

	raw *rawConn // of an exchange that is a whole connection; see TCP

	hostless     bool // the request came without Host
	continued    bool // a 100 was forwarded
	closing      bool // the response says that the client's connection ends
	refused      bool // the head was not a request, so what follows it cannot be known
	broken       bool // the response must be reset, so that its end does not look orderly
	replaced     bool // the answer is one of a filter's, which is not replaced again
	watching     bool
	clientGone   atomic.Bool // the client has disconnected
	expired      atomic.Bool // ended at a deadline, alone of its connection
	statusOnly   bool        // its end says nothing about the server: see noteAnswer
	accel        *accel      // of an internal redirect; nil without one
	onClientGone func()      // stored once
	abortFilter  func()      // what to end when the client disconnects; nil: up
	panicked     bool
	scratch      []byte
	forwarded    []byte // the X-Forwarded-For of trusted proxies, in one
}

var exchanges = sync.Pool{New: func() any { return newExchange() }}

func newExchange() *exchange {
	x := &exchange{}
	x.rec.Reset()
	x.filter.Request, x.filter.Record = &x.req, &x.rec
	x.asked.Request = &x.req
	x.onClientGone = x.abortForClient
	return x
}

// exchange serves one request, whose first byte has come. It returns the time of its end, and
// whether another request may follow.
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
	x.filter.Conn = c
	r := &x.rec
	r.Time, r.ID = start, telemetry.NewID()
	r.Listener, r.Peer, r.Client = c.listener.name, c.socket, c.peer.Addr()
	if s := c.tls; s != nil {
		r.TLSVersion, r.TLSCipher, r.TLSGroup = s.version, s.cipher, s.group
		r.TLSResumed, r.SNI = s.state.DidResume, s.state.ServerName
	}
}

// noFilters is the chain of an exchange before its route has one.
var noFilters filter.Chain

// recycle returns x to the pool, unless a panic has left it in an unknown state.
func (x *exchange) recycle() {
	if x.panicked {
		return
	}
	x.req.Reset()
	x.resp.Reset()
	x.rec.Reset()
	x.filter.Reset()
	x.matched = matched{}
	x.serverRequest = backend.Request{}
	x.lease = nil
	x.client, x.proxy, x.view, x.down, x.route, x.meter, x.up = nil, nil, nil, nil, nil, nil, nil
	x.chain, x.fault, x.backend, x.source, x.out, x.raw = nil, nil, nil, nil, nil, nil
	x.accel = nil
	x.attempt.Reset(nil)
	x.upload = upload{}
	x.hedging = hedging{}
	x.hostless, x.continued, x.closing, x.refused, x.broken, x.replaced = false, false, false, false, false, false
	x.watching, x.counted, x.statusOnly = false, false, false
	x.end = time.Time{}
	x.forwarded = x.forwarded[:0]
	x.clientGone.Store(false)
	x.expired.Store(false)
	exchanges.Put(x)
}

// run serves the exchange from its first byte to the end of its response: it reads the request,
// finds the route, runs the steps that may end the exchange, and then the action of the route. A
// panic ends this exchange only.
func (x *exchange) run() {
	defer func() {
		if v := recover(); v != nil {
			x.panicked = true
			x.proxy.logPanic("panic in an exchange", string(x.rec.IDText()), v)
			x.afterPanic()
		}
	}()
	x.read()
	x.match()
	if x.step() == "" {
		x.route.Action.serve(x)
		if x.accel != nil {
			x.followAccel()
		}
	}
}

// afterPanic releases what the exchange holds, and answers it if no response has begun.
func (x *exchange) afterPanic() {
	x.rec.End = telemetry.EndInternal
	defer func() {
		if v := recover(); v != nil { // it cannot be answered
			x.proxy.logPanic("panic at the end of an exchange", string(x.rec.IDText()), v)
			x.broken = true
			x.down.SetClose()
		}
	}()
	x.broken = x.down.HeadSent()
	x.dropHedge()
	if x.up != nil {
		x.up.Abort()
	}
	x.stopWatch()
	x.joinUpload()
	if x.up != nil {
		x.releaseServer()
	}
	x.down.SetClose()
	if !x.broken {
		x.answer(errorAnswer(500, telemetry.EndInternal, "internal error"))
	}
	x.rec.End = telemetry.EndInternal
}

// errPanic is the error of a panic in another goroutine of an exchange.
var errPanic = errors.New("internal error")

// logPanic counts and logs a panic that was recovered.
func (p *Proxy) logPanic(what, id string, v any) {
	if m := p.options.Instruments; m != nil {
		m.Panics.Inc()
	}
	stack := debug.Stack()
	if other, ok := v.(*task.Panic); ok { // it came from another goroutine
		v, stack = other.Value, other.Stack
	}
	p.options.Logger.Error(what, "id", id, "panic", v, "stack", string(stack))
}

// startMeter counts the exchange with m.
func (x *exchange) startMeter(m *telemetry.ExchangeMeter) {
	if x.filter.Explain != nil {
		return
	}
	m.Start()
	x.meter, x.counted = m, true
}

// read decodes the request's head.
func (x *exchange) read() {
	x.fault = x.down.ReadRequest(&x.req, x.start)
	x.noteRequestHeader()
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
		if found, ok := x.view.Routes.table.Match(&x.asked); ok && !found.Value.Internal {
			x.matched = matched{found, x.req.Path}
			x.setRoute(found.Value, x.view.meters)
			return
		}
	}
	x.startMeter(x.view.noRoute)
}

// setRoute assigns the exchange to a route.
func (x *exchange) setRoute(r *Route, m *meters) {
	x.route = r
	x.holdLease(r.Lease)
	x.rec.Route = r.Name
	x.startMeter(m.of(r))
}

// holdLease makes the exchange last by a lease, instead of the one before.
func (x *exchange) holdLease(l *Lease) {
	x.lease = l
	x.client.holdLease(x, l)
}

func (x *exchange) abortForClient() {
	x.clientGone.Store(true)
	if x.abortFilter != nil {
		x.abortFilter()
		return
	}
	x.up.Abort()
	x.hedging.clientLeft()
}

// WatchClient implements filter.Watcher.
func (x *exchange) WatchClient(gone func()) {
	x.abortFilter = gone
	x.watch()
}

// StopWatchClient implements filter.Watcher.
func (x *exchange) StopWatchClient() {
	x.stopWatch()
	x.abortFilter = nil
}

// watch detects that the client disconnects. On a connection that carries one exchange at a time,
// the body must have been read: the end of the connection comes after it.
func (x *exchange) watch() {
	if !x.watching && (x.down.Multiplexed() || x.down.BodyDone()) {
		x.watching = true
		x.down.Watch(x.onClientGone)
	}
}

// watchEarly starts the watch if that costs nothing: a multiplexed connection is read anyway.
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
	r.Tries, r.QueueTime, r.Hedged = x.attempt.Tries(), x.attempt.Queued(), x.hedging.result
	t, n := x.client.info.Refresh(now)
	r.ClientTransport, r.ClientSubflows = t.String(), n
	if x.route != nil {
		x.client.releaseLease(x, x.lease)
		if x.accel != nil {
			x.endAccel()
		}
		x.route.Filters.End(&x.filter)
	}
	if r.End != telemetry.EndOK && (x.client.expired.Load() || x.expired.Load() || x.proxy.ctx.Err() != nil) {
		r.End = telemetry.EndDrain
	}
	if !x.counted { // a panic came first
		x.startMeter(x.view.noRoute)
	}
	x.meter.End(r)
	if x.logged().Has(r) {
		x.proxy.accessLog.Load().Log(r)
	}
	return now
}

// recordServer records the transport of the server's connection, before that is released.
func (x *exchange) recordServer() {
	t, n := x.up.State(x.start)
	x.rec.ServerTransport = t.String()
	x.rec.ServerSubflows = 0
	if t == mptcp.MPTCP {
		x.rec.ServerSubflows = n
	}
}
