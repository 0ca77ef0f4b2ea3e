package proxy

import (
	"errors"
	"net"
	"os"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/netio"
	"mpgate/proxy/passthrough"
	"mpgate/proxy/preread"
	"mpgate/telemetry"
)

// helloStep is how many further bytes make it worth while to read a ClientHello from its beginning
// once more, so that one that comes byte by byte costs no more than it should.
const helloStep = 64

// passthrough looks whether the server name of a ClientHello is one that is passed through, and if
// so does it. What it read is in ahead.
func (c *conn) passthrough(v *view, ahead *netio.Buffer) (done bool, err error) {
	parsed := -helloStep
	for {
		if ahead.Len()-parsed >= helloStep || ahead.Len() > 0 && c.base.Idle() {
			parsed = ahead.Len()
			hello, n, err := preread.ParseHello(ahead.Bytes())
			if err == nil {
				r, ok := v.Passthrough.table.Match([]byte(hello.ServerName), nil, c.listener.name)
				if !ok {
					return false, nil
				}
				c.pass(v, r, passed{hello.ServerName, ahead, n})
				return true, nil
			}
			if err != preread.ErrMore {
				return false, nil // not for us to judge: TLS or HTTP will
			}
		}
		if err := c.base.Fill(ahead); err != nil {
			c.end = c.silence(err)
			return false, err
		}
	}
}

// passed is what was read of a connection that is passed through.
type passed struct {
	name  string // the server name
	ahead *netio.Buffer
	hello int // how many bytes of ahead are the ClientHello
}

// pass forwards a connection unopened and logs it as one exchange.
func (c *conn) pass(v *view, r *Route, p passed) {
	start := c.accepted
	rec := telemetry.Record{}
	rec.Reset()
	rec.Time, rec.ID, rec.Listener, rec.Route, rec.Backend = start, telemetry.NewID(), c.listener.name, r.Name, r.Backend.Name()
	rec.Peer, rec.Client, rec.Proto, rec.SNI = c.socket, c.peer.Addr(), telemetry.ProtoTLS, p.name
	meter := v.passed.of(r)
	meter.Start()
	c.setBusy() // for drain: it is not one that has yet to say what it wants
	c.take(nil, r.Lease)
	defer func() {
		c.giveBack(nil, r.Lease)
		rec.Duration = time.Since(start)
		t, n := c.info.Refresh(time.Now())
		rec.ClientTransport, rec.ClientSubflows = t.String(), n
		meter.End(&rec)
		c.proxy.accessLog.Load().Log(&rec)
		c.end = connEnd(rec.End)
	}()
	room := c.proxy.options.Room
	if !room.enter() {
		c.proxy.shed(errNoRoom)
		rec.End = connectOutcome(errNoRoom).end
		return
	}
	defer room.leave()
	passing := c.proxy.loops.pass(endsOf(c.base.RemoteAddr(), c.base.LocalAddr()), r.Name, p.ahead.Bytes()[:p.hello])
	if passing == nil {
		rec.End = telemetry.EndLimit
		c.proxy.loops.report(c.proxy, "connection loop: a passed-through connection returned to this gateway and was closed; check the addresses of the servers",
			"listener", rec.Listener, "route", r.Name, "backend", rec.Backend, "sni", p.name, "id", rec.ID.String())
		return
	}
	var attempt backend.Attempt
	attempt.Reset(r.Backend)
	chosen := time.Now()
	server, err := attempt.OpenRaw(c.proxy.ctx, c.addresses())
	rec.Tries = attempt.Tries()
	if s := attempt.Server(); s != nil {
		rec.Server = s.Address
	}
	if err != nil {
		passing.end()
		c.proxy.shed(err)
		rec.End = connectOutcome(err).end
		return
	}
	defer server.Close()
	defer passing.end() // before the port is free for others
	passing.to(endsOf(server.LocalAddr(), server.RemoteAddr()), r.Name)
	rec.BackendTime = time.Since(chosen)
	c.relayRaw(server, r, p.ahead, &rec)
}

// relayRaw moves the bytes of a connection that is passed on, and notes how it ended.
func (c *conn) relayRaw(server *backend.Link, r *Route, ahead *netio.Buffer, rec *telemetry.Record) {
	_, _ = server.Conn.Write(ahead.Bytes()) // held; an error shows in the relay
	sent := int64(ahead.Len())
	ahead.Discard(ahead.Len())
	_ = c.base.SetReadDeadline(time.Time{})
	result := passthrough.Relay(c.base, server.Conn, r.Backend.IdleTimeout())
	rec.BytesIn, rec.BytesOut = sent+result.ToServer, result.ToClient
	t, n := server.State(time.Now())
	rec.ServerTransport, rec.ServerSubflows = t.String(), n
	switch {
	case result.Err == nil:
		rec.End = telemetry.EndOK
	case result.ByServer && !errors.Is(result.Err, os.ErrDeadlineExceeded): // silence is both sides', as in a tunnel
		rec.End = telemetry.EndBackendReset
	default:
		rec.End = clientEnd(result.Err)
	}
	if rec.End != telemetry.EndOK && (c.cut.Load() || c.proxy.ctx.Err() != nil) {
		rec.End = telemetry.EndDrain
	}
	c.broken = rec.End != telemetry.EndOK
}

// Passthroughs is a table of server names whose connections are passed through.
type Passthroughs Routes

// NewPassthroughs builds the table; Route.Host is the server name, its Path is empty.
func NewPassthroughs(list []Route) (*Passthroughs, error) {
	r, err := NewRoutes(list)
	return (*Passthroughs)(r), err
}

// addresses are what a PROXY header to a server says of the client.
func (c *conn) addresses() backend.Addresses {
	a := backend.Addresses{Client: c.peer, Gateway: c.destination}
	if a.Gateway.IsValid() {
		return a
	}
	if local, ok := c.base.LocalAddr().(*net.TCPAddr); ok {
		a.Gateway = local.AddrPort()
	}
	return a
}
