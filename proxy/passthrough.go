package proxy

import (
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/netio"
	"mpgate/proxy/passthrough"
	"mpgate/proxy/preread"
	"mpgate/telemetry"
)

// helloStep is the number of new bytes after which a ClientHello is parsed again, so that one that
// comes byte by byte is not parsed for each.
const helloStep = 64

// passthrough reads the ClientHello into ahead. If its server name is passed through, it serves the
// connection and returns true.
func (c *conn) passthrough(v *view, ahead *netio.Buffer) (done bool, err error) {
	parsed := -helloStep
	for {
		if ahead.Len()-parsed >= helloStep || ahead.Len() > 0 && c.base.Idle() {
			parsed = ahead.Len()
			hello, n, err := preread.ParseHello(ahead.Bytes())
			if err == nil {
				r := v.Passthrough.Match([]byte(hello.ServerName), c.listener.name)
				if r == nil {
					return false, nil
				}
				c.serveRaw(v, r, &rawConn{conn: c, name: hello.ServerName, ahead: ahead, hello: n})
				return true, nil
			}
			if err != preread.ErrMore {
				return false, nil // TLS or HTTP reports the error
			}
		}
		if err := c.base.Fill(ahead); err != nil {
			c.end = c.waitEnd(err)
			return false, err
		}
	}
}

// rawConn is a connection that is passed through.
type rawConn struct {
	*conn
	name  string // the server name of its ClientHello
	ahead *netio.Buffer
	hello int // how many bytes of ahead are the ClientHello

	forwarding bool // bytes were sent to a server: a disorderly end must be visible
}

// serveRaw serves a connection as one exchange.
func (c *conn) serveRaw(v *view, r *Route, raw *rawConn) {
	x := exchanges.Get().(*exchange)
	x.begin(&c.client, nil, c.accepted)
	x.raw = raw
	x.rec.Proto, x.rec.SNI = telemetry.ProtoTLS, raw.name
	c.setBusy() // so that drain does not interrupt it
	x.setRoute(r, v.passthroughMeters)
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
type TCP struct{ Backend *backend.Backend }

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
	passed := x.proxy.loops.pass(addrPairOf(c.base.RemoteAddr(), c.base.LocalAddr()), x.route.Name,
		c.ahead.Bytes()[:c.hello])
	if passed == nil {
		x.rec.End = telemetry.EndLimit
		x.proxy.loops.report(x, "connection loop: a passed-through connection returned to this gateway and was closed; "+
			"check the addresses of the servers", "sni", c.name)
		return
	}
	x.attempt.Reset(x.backend)
	chosen := time.Now()
	server, err := x.attempt.OpenRaw(x.proxy.ctx, c.addresses())
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
	defer passed.end() // before the local port is free
	passed.setServer(addrPairOf(server.LocalAddr(), server.RemoteAddr()), x.route.Name)
	x.rec.BackendTime = time.Since(chosen)
	x.relayRaw(server)
}

// relayRaw forwards the bytes of a connection, and records its outcome.
func (x *exchange) relayRaw(server *backend.Link) {
	c, rec := x.raw, &x.rec
	c.forwarding = true
	_, _ = server.Conn.Write(c.ahead.Bytes()) // held; an error occurs again in the relay
	sent := int64(c.ahead.Len())
	c.ahead.Discard(c.ahead.Len())
	_ = c.base.SetReadDeadline(time.Time{})
	result := passthrough.Relay(c.base, server.Conn, x.backend.IdleTimeout())
	rec.BytesIn, rec.BytesOut = sent+result.ToServer, result.ToClient
	t, n := server.State(time.Now())
	rec.ServerTransport, rec.ServerSubflows = t.String(), n
	rec.End = tunnelEnd(result)
}

// Passthroughs is a table of server names whose connections are passed through.
type Passthroughs Routes

// NewPassthroughs builds the table; Route.Host is the server name, its Path is empty, and its
// Action is a TCP.
func NewPassthroughs(list []Route) (*Passthroughs, error) {
	r, err := NewRoutes(list)
	return (*Passthroughs)(r), err
}
