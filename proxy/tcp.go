package proxy

import (
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/netio"
	"mpgate/proxy/passthrough"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// rawConn is a connection whose bytes are forwarded unparsed.
type rawConn struct {
	*conn
	stream netio.Stream  // base, or the TLS that ends here
	ahead  *netio.Buffer // what was read of it already; nil: nothing
	hello  int           // how many bytes of ahead are a ClientHello that is passed through
	name   string        // the server name in that

	forwarding bool // bytes were sent to a server: a disorderly end must be visible
}

// serveTCP serves a connection to a listener that does not accept HTTP.
func (c *conn) serveTCP(v *view) {
	defer func() { c.endServing(false, recover()) }()
	if t, ok := c.stream.(*netio.TLS); ok {
		t.NeedsCloseNotify() // the end of the connection may be the end of a message
	}
	r := v.TCP.Match(nil, c.listener.name)
	if r == nil {
		c.end = telemetry.ConnBadRequest
		return
	}
	c.serveRaw(v.tcpMeters, r, &rawConn{conn: c, stream: c.stream})
}

// serveRaw serves a connection as one exchange.
func (c *conn) serveRaw(m *meters, r *Route, raw *rawConn) {
	// For drain, it no longer is one that has yet to say what it wants.
	if c.setBusy() && c.rejectTCP() {
		return
	}
	x := exchanges.Get().(*exchange)
	x.begin(&c.client, nil, c.accepted)
	x.raw = raw
	x.rec.Proto = telemetry.ProtoTCP
	if raw.hello > 0 {
		x.rec.Proto, x.rec.SNI = telemetry.ProtoTLS, raw.name
	}
	x.setRoute(r, m)
	defer func() {
		x.panicked = x.rec.End == telemetry.EndInternal
		x.finish()
		c.end = connEnd(x.rec.End)
		c.broken = x.rec.End != telemetry.EndOK && x.raw.forwarding
		x.recycle()
	}()
	r.Action.serve(x)
}

// TCP is the action that forwards the bytes of a connection to a server of a backend.
type TCP struct {
	Backend *backend.Backend
	Key     template.Template // as of Forward
}

func (t *TCP) serve(x *exchange) {
	x.backend = t.Backend
	x.rec.Backend = t.Backend.Name()
	room := x.proxy.options.Room
	if !room.acquire() {
		x.proxy.recordShortage(errNoRoom)
		x.rec.End = connectAnswer(errNoRoom).End
		return
	}
	defer room.release()
	c := x.raw
	passed := x.proxy.loops.pass(addrPairOf(c.base.RemoteAddr(), c.base.LocalAddr()), x.route.Name, c.helloBytes())
	if passed == nil {
		x.endLoop()
		return
	}
	x.attempt.Reset(x.backend)
	x.setKey(&t.Key)
	defer x.attempt.End()
	chosen := time.Now()
	server, err := x.attempt.OpenRaw(x.proxy.ctx, x.rec.Route, c.addresses())
	if s := x.attempt.Server(); s != nil {
		x.rec.Server = s.Address
	}
	if err != nil {
		passed.end()
		x.proxy.recordShortage(err)
		x.rec.End = connectAnswer(err).End
		return
	}
	defer server.Close()
	defer passed.end() // before the port is free for others
	if !passed.setServer(addrPairOf(server.LocalAddr(), server.RemoteAddr())) {
		x.endLoop()
		return
	}
	x.rec.BackendTime = time.Since(chosen)
	x.relayRaw(server)
}

// endLoop notes that the connection has come back, or would.
func (x *exchange) endLoop() {
	x.rec.End = telemetry.EndLimit
	x.proxy.loops.report(x, "connection loop: a forwarded connection returned to this gateway and was closed; "+
		"check the addresses of the servers", "sni", x.rec.SNI)
}

// helloBytes returns the ClientHello of a connection that is passed through, nil for any other.
func (c *rawConn) helloBytes() []byte {
	if c.hello == 0 {
		return nil
	}
	return c.ahead.Bytes()[:c.hello]
}

// relayRaw moves the bytes of a connection, and notes how it ended.
func (x *exchange) relayRaw(server *backend.Link) {
	c, rec := x.raw, &x.rec
	c.forwarding = true
	_ = c.base.SetReadDeadline(time.Time{})
	result := passthrough.Relay(c.stream, c.ahead, server.Conn, x.backend.IdleTimeout())
	rec.BytesIn, rec.BytesOut = result.ToServer, result.ToClient
	t, n := server.State(time.Now())
	rec.ServerTransport, rec.ServerSubflows = t.String(), n
	rec.End = tunnelEnd(result)
}
