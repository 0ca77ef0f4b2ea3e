package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/conninfo"
	"mpgate/proxy/http1"
	"mpgate/proxy/netio"
	"mpgate/task"
	"mpgate/telemetry"
)

// conn is a client's connection: its bytes, and the exchanges on it.
type conn struct {
	client
	base   *netio.Conn
	stream netio.Stream // what is spoken on: base, or TLS above it; nil before that is known
	http   *http1.ServerConn

	parked  atomic.Bool   // see park
	shed    atomic.Bool   // closed while it was parked, to make room for others
	late    bool          // accepted while the proxy drained
	state   atomic.Uint32 // connState
	waiting sync.Mutex    // held while state becomes busy, and while something depends on that it is not
	end     telemetry.ConnEnd
	err     error // why no request came
	broken  bool  // must not look as if it ended in order
}

// connState tells Shutdown what it may do to a connection:
//
//	fresh ─► busy ⇄ idle
type connState = uint32

const (
	fresh connState = iota // no request has begun
	busy
	idle
)

// Accept serves nc, which it owns, until it ends, in a goroutine of its own. offersMPTCP says what
// the kernel granted to the listening socket.
func (p *Proxy) Accept(nc net.Conn, l *Listener, offersMPTCP bool) {
	var added *conn
	defer func() {
		if v := recover(); v != nil {
			p.caught("panic while accepting a connection", "", v)
			_ = nc.Close()
			if added != nil {
				p.remove(added)
			} else {
				p.turnAway(nc)
			}
		}
	}()
	base, err := netio.New(nc)
	if err != nil {
		p.options.Logger.Error("cannot serve a connection", "listener", l.name, "err", err)
		p.turnAway(nc)
		return
	}
	v := l.view.Load()
	c := &conn{base: base, client: client{proxy: p, listener: l, meter: v.conns, limits: p.limits.Load(), accepted: time.Now()}}
	c.setAddresses(nc)
	if !p.add(c) {
		p.turnAway(nc)
		return
	}
	added = c
	count := conninfo.Options{Side: telemetry.SideListener, Instruments: p.options.Instruments}
	switch {
	case offersMPTCP:
		count.Reason, count.Registry = mptcp.NotOffered, p.options.Live
		c.info.Open(base.Raw(), count)
	case c.socket.IsValid():
		c.info.OpenAs(mptcp.TCP, base.Raw(), count)
	default:
		c.info.OpenAs(mptcp.Unix, base.Raw(), count)
	}
	c.meter.Opened()
	task.Go("connection", c.serve, c.panickedOutside)
}

func (p *Proxy) turnAway(nc net.Conn) {
	_ = nc.Close()
	if p.options.Leave != nil {
		p.options.Leave()
	}
}

func (c *conn) serve() {
	v := c.listener.view.Load()
	if !c.refusesTCP() {
		c.stream = c.guarded(v)
	}
	switch {
	case c.stream == nil:
		c.close()
	case v.TCP != nil:
		task.Go("connection", func() { c.serveTCP(v) }, c.panickedOutside)
	case c.tls != nil:
		// A handshake grows the stack to 16 KiB and more, which an idle connection would keep.
		task.Go("connection", c.serveHTTP, c.panickedOutside)
	default:
		c.serveHTTP()
	}
}

// guarded is setup, of which a panic ends this connection and nothing else.
func (c *conn) guarded(v *view) (s netio.Stream) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked(v)
			s = nil
		}
	}()
	return c.setup(v)
}

// panicked notes a panic outside of any exchange.
func (c *conn) panicked(v any) {
	c.proxy.caught("panic in a connection", "", v)
	c.broken, c.end = true, telemetry.ConnInternal
}

// panickedOutside is for a panic beyond what ends the connection in order.
func (c *conn) panickedOutside(*task.Panic) {
	_ = c.base.Abort()
	c.tunnels.cut(nil)
}

// serveHTTP serves the requests of a connection, after what comes before them.
func (c *conn) serveHTTP() {
	parked := false
	defer func() { c.leave(parked, recover()) }()
	switch two, err := c.speaksHTTP2(); {
	case err == errOnlyHTTP2:
		c.end = telemetry.ConnBadRequest
		return
	case err == errPreface:
		c.end = telemetry.ConnBadRequest
		c.refusePreface()
		return
	case err != nil:
		c.end = c.silence(err)
		return
	case two:
		c.serveHTTP2()
		return
	}
	c.http = http1.NewServerConn(c.stream, &c.limits.http)
	deadline := c.firstDeadline()
	parked = c.serveRequests(deadline, deadline)
}

// serveRequests serves one request after the other. It waits for the first until patience is over;
// if that is before the deadline it parks the connection, which then is another goroutine's.
func (c *conn) serveRequests(patience, deadline time.Time) (parked bool) {
	for {
		switch {
		case c.shed.Load():
			if c.base.Resume(); c.base.Idle() { // else the request that has come is the last
				c.end = telemetry.ConnIdle
				return false
			}
		case c.ending() && c.state.Load() != fresh:
			c.end = telemetry.ConnDrain
			return false
		}
		if err := c.http.Wait(patience); err != nil {
			if patience.Before(deadline) && errors.Is(err, os.ErrDeadlineExceeded) {
				task.Late(func() { c.park(deadline) }, "connection", func() { c.unpark(deadline) }, c.panickedOutside)
				return true
			}
			c.end = c.silence(err)
			return false
		}
		if c.setBusy() && c.refusesTCP() {
			return false
		}
		end, next := c.exchange(time.Now())
		if !next {
			return false
		}
		idleTime := c.limits.http.IdleTime
		patience, deadline = end.Add(min(c.proxy.options.ParkAfter, idleTime)), end.Add(idleTime)
		c.state.Store(idle)
	}
}

// park waits for the next request on the stack that a goroutine begins with, 2 KiB. One that has
// served a request keeps 4 KiB, with TLS more, which is most of what an idle connection costs.
func (c *conn) park(deadline time.Time) {
	c.parked.Store(true)
	c.base.ReadBy(deadline)
	_ = c.base.WaitReadable() // the next read says the same
	c.parked.Store(false)
}

func (c *conn) unpark(deadline time.Time) {
	parked := false
	defer func() { c.leave(parked, recover()) }()
	parked = c.serveRequests(deadline, deadline)
}

// makesRoom ends the connection if it has waited for long.
func (c *conn) makesRoom() bool {
	if m := c.mux.Load(); m != nil {
		return m.http.EndIdle(c.proxy.options.ParkAfter)
	}
	if !c.parked.Load() || c.shed.Swap(true) {
		return false
	}
	c.interrupt(idle)
	return true
}

// leave ends what serves the connection, and the connection unless that is parked.
func (c *conn) leave(parked bool, panicked any) {
	if panicked != nil {
		c.panicked(panicked)
	}
	if !parked {
		c.close()
	}
}

// refusesTCP ends connections that are not MPTCP where that is required. It is asked at the accept
// and at the first request, when a fallback has shown.
func (c *conn) refusesTCP() bool {
	if !c.listener.view.Load().RequireMPTCP {
		return false
	}
	if t, err := mptcp.TransportOf(c.base.Raw()); err == nil && t == mptcp.MPTCP {
		return false
	}
	c.end = telemetry.ConnMPTCPRequired
	return true
}

// silence says what it means that no request came.
func (c *conn) silence(err error) telemetry.ConnEnd {
	c.err = err
	first := c.state.Load() == fresh
	switch {
	case errors.Is(err, netio.ErrInterrupted):
		return telemetry.ConnDrain
	case errors.Is(err, io.EOF) && first, errors.Is(err, os.ErrDeadlineExceeded) && first:
		return telemetry.ConnSilent
	case errors.Is(err, io.EOF):
		return telemetry.ConnOK
	case errors.Is(err, os.ErrDeadlineExceeded):
		return telemetry.ConnIdle
	}
	return telemetry.ConnReset
}

const (
	// A client that is still sending when it has been answered needs to see the answer before the
	// connection goes: closing on unread input would reset it. What it sends meanwhile is thrown
	// away, so time is the bound.
	lingerTime  = 5 * time.Second
	lingerBytes = 1 << 30
)

func (c *conn) close() {
	defer c.proxy.remove(c) // whatever happens here: Shutdown waits for it
	c.owner.Close()
	if c.http != nil {
		if !c.broken && c.state.Load() == busy && c.http.Unread() {
			c.http.Linger(lingerTime, lingerBytes)
		}
		c.http.Release()
	}
	c.info.Close()
	switch {
	case c.broken:
		_ = c.base.Abort()
	case c.stream == nil:
		_ = c.base.Close()
	default:
		c.finish()
	}
	c.tell()
	c.meter.Closed(c.end)
	if c.counted.IsValid() {
		c.proxy.clients.leave(c.counted)
	}
}

// tell logs a connection that never became an exchange.
func (c *conn) tell() {
	log := c.proxy.options.Logger
	if c.state.Load() != fresh || !log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	attrs := []any{"listener", c.listener.name, "end", c.end.String()}
	if c.socket.IsValid() {
		attrs = append(attrs, "peer", c.socket.String())
	}
	if c.err != nil {
		attrs = append(attrs, "err", c.err)
	}
	log.Debug("connection without a request", attrs...)
}

// finish sends what is held and closes the connection in order.
func (c *conn) finish() {
	if t, _ := c.info.State(); t == mptcp.TCP && c.stream == c.base {
		_ = c.base.Finish()
		return
	}
	_ = c.stream.Flush()
	_ = c.stream.Close()
}

// firstDeadline is until when the first request may take to come.
func (c *conn) firstDeadline() time.Time {
	limit := c.limits.http.HeaderTime
	if c.late {
		limit = min(limit, graceForNew)
	}
	return c.accepted.Add(limit)
}

// setBusy is called when the connection is no longer one that waits for a request: drain leaves its
// reading alone from then on. first says whether none came before.
func (c *conn) setBusy() (first bool) {
	c.waiting.Lock()
	first = c.state.Swap(busy) == fresh
	c.waiting.Unlock()
	c.base.Resume()
	return first
}

// interrupt ends the wait for a request of a connection that is in that state, and touches no
// other.
func (c *conn) interrupt(s connState) {
	c.waiting.Lock()
	defer c.waiting.Unlock()
	if c.state.Load() == s {
		c.base.Interrupt()
	}
}

// drain ends the connection if it is between requests; one that has sent nothing yet gets a moment.
// Shutdown calls it.
func (c *conn) drain() {
	if m := c.mux.Load(); m != nil {
		m.http.Shutdown()
		return
	}
	if c.state.Load() == fresh {
		task.AfterFunc(graceForNew, "connection: end of its grace", func() { c.interrupt(fresh) })
		return
	}
	c.interrupt(idle)
}

// abort ends the connection whatever it is doing, at the deadline of what it was part of.
func (c *conn) abort() {
	c.cut.Store(true)
	if c.tunnels.startClose(nil) {
		task.AfterFunc(closeFrameTime, "connection: end of its startClose", c.cutOff)
		return
	}
	c.cutOff()
}

func (c *conn) cutOff() {
	_ = c.base.Abort()
	c.tunnels.cut(nil)
}
