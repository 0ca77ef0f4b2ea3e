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

// conn is a client's connection.
type conn struct {
	client
	base   *netio.Conn
	stream netio.Stream // what is spoken on: base, or TLS above it; nil before that is known
	http   *http1.ServerConn

	parked atomic.Bool   // see park
	late   bool          // accepted while the proxy drained
	last   time.Time     // until when the last request of a drain may come
	looked bool          // see awaitsArrived
	state  atomic.Uint32 // connState
	// Held while state becomes busy, and by callers that require another state.
	waiting sync.Mutex
	end     telemetry.ConnEnd
	err     error // why no request came
	broken  bool  // must be reset, so that its end does not look orderly
}

// connState is the state of a connection as Shutdown needs it:
//
//	fresh ─► busy ⇄ idle
type connState = uint32

const (
	fresh connState = iota // no request has begun
	busy
	idle
)

// Accept takes ownership of nc and serves it in a new goroutine until it ends. offersMPTCP reports
// whether the kernel granted MPTCP to the listening socket.
func (p *Proxy) Accept(nc net.Conn, l *Listener, offersMPTCP bool) {
	var added *conn
	defer func() {
		if v := recover(); v != nil {
			p.logPanic("panic while accepting a connection", "", v)
			_ = nc.Close()
			if added != nil {
				p.remove(added)
			} else {
				p.reject(nc)
			}
		}
	}()
	base, err := netio.New(nc)
	if err != nil {
		p.options.Logger.Error("cannot serve a connection", "listener", l.name, "err", err)
		p.reject(nc)
		return
	}
	v := l.view.Load()
	c := &conn{base: base, client: client{
		proxy: p, listener: l, meter: v.conns, limits: p.limits.Load(), accepted: time.Now(),
	}}
	c.setAddresses(nc)
	if !p.add(c) {
		p.reject(nc)
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
	task.Go("connection", c.serve, c.abortAfterPanic)
}

func (p *Proxy) reject(nc net.Conn) {
	_ = nc.Close()
	if p.options.Closed != nil {
		p.options.Closed()
	}
}

func (c *conn) serve() {
	v := c.listener.view.Load()
	if !c.rejectTCP() {
		c.stream = c.trySetup(v)
	}
	switch {
	case c.stream == nil:
		c.close()
	case v.TCP != nil:
		task.Go("connection", func() { c.serveTCP(v) }, c.abortAfterPanic)
	case c.tls != nil:
		// A handshake grows the stack to at least 16 KiB, which an idle connection would keep.
		task.Go("connection", c.serveHTTP, c.abortAfterPanic)
	default:
		c.serveHTTP()
	}
}

// trySetup calls setup. A panic ends this connection only.
func (c *conn) trySetup(v *view) (s netio.Stream) {
	defer func() {
		if v := recover(); v != nil {
			c.notePanic(v)
			s = nil
		}
	}()
	return c.setup(v)
}

// notePanic records a panic outside of any exchange.
func (c *conn) notePanic(v any) {
	c.proxy.logPanic("panic in a connection", "", v)
	c.broken, c.end = true, telemetry.ConnInternal
}

// abortAfterPanic ends the connection after a panic that prevented its orderly end.
func (c *conn) abortAfterPanic(*task.Panic) {
	_ = c.base.Abort()
	c.tunnels.stop(nil)
}

// serveHTTP serves the requests of a connection, after its setup.
func (c *conn) serveHTTP() {
	parked := false
	defer func() { c.endServing(parked, recover()) }()
	switch two, err := c.detectHTTP2(); {
	case err == errOnlyHTTP2:
		c.end = telemetry.ConnBadRequest
		return
	case err == errPreface:
		c.end = telemetry.ConnBadRequest
		c.refusePreface()
		return
	case err != nil:
		c.end = c.waitEnd(err)
		return
	case two:
		c.serveHTTP2()
		return
	}
	c.http = http1.NewServerConn(c.stream, &c.limits.http)
	deadline := c.firstDeadline()
	parked = c.serveRequests(deadline, deadline)
}

// serveRequests serves one request after the other. It waits for the first until patience; if that
// is before the deadline, it parks the connection, which another goroutine then owns.
func (c *conn) serveRequests(patience, deadline time.Time) (parked bool) {
	for {
		switch {
		case c.shed.Load():
			if c.base.Resume(); c.base.Idle() { // else a request has come, which is the last
				c.end = telemetry.ConnIdle
				return false
			}
		case c.ending() && c.state.Load() != fresh:
			if c.last.IsZero() { // not from the last request: clients send at equal intervals
				c.last = time.Now().Add(time.Duration(c.proxy.lastGrace.Load()))
			}
			deadline, patience = c.last, c.last
		}
		if c.looked {
			deadline = time.Now().Add(arrivedTime)
			patience = deadline
		}
		if err := c.http.Wait(patience); err != nil {
			if errors.Is(err, netio.ErrInterrupted) && c.state.Load() == idle {
				c.base.Resume()
				continue
			}
			if patience.Before(deadline) && errors.Is(err, os.ErrDeadlineExceeded) {
				task.Late(func() { c.park(deadline) }, "connection", func() { c.unpark(deadline) }, c.abortAfterPanic)
				return true
			}
			if c.awaitsArrived(err) {
				continue
			}
			c.end = c.waitEnd(err)
			return false
		}
		c.looked = false
		if c.setBusy() && c.rejectTCP() {
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

// arrivedTime is how long a connection at the end of its wait has to read what has already arrived.
const arrivedTime = time.Second

// awaitsArrived is called when the wait for a request has ended with err, before the connection is
// closed. It reports whether something has arrived that is to be read: a read whose deadline has
// passed does not look. It does so once for each wait, because TLS records may come in pieces.
func (c *conn) awaitsArrived(err error) bool {
	if c.looked || !errors.Is(err, netio.ErrInterrupted) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.looked = true
	c.base.Resume()
	return !c.base.Idle()
}

// park waits for the next request on a new goroutine's stack of 2 KiB. A goroutine that has served
// a request keeps 4 KiB, with TLS more, which is most of the memory of an idle connection.
func (c *conn) park(deadline time.Time) {
	c.parked.Store(true)
	c.base.ReadBy(deadline)
	_ = c.base.WaitReadable() // the next read returns the same error
	c.parked.Store(false)
}

func (c *conn) unpark(deadline time.Time) {
	parked := false
	defer func() { c.endServing(parked, recover()) }()
	parked = c.serveRequests(deadline, deadline)
}

// tryShed ends the connection if it has been idle for long.
func (c *conn) tryShed() bool {
	if m := c.mux.Load(); m != nil {
		return m.http.EndIdle(c.proxy.options.ParkAfter)
	}
	if !c.parked.Load() || c.shed.Swap(true) {
		return false
	}
	c.interrupt(idle)
	return true
}

// endServing is deferred by goroutines that serve the connection. It closes the connection unless
// that is parked.
func (c *conn) endServing(parked bool, panicked any) {
	if panicked != nil {
		c.notePanic(panicked)
	}
	if !parked {
		c.close()
	}
}

// rejectTCP reports whether a connection must end because the listener requires MPTCP. It is called
// at the accept and at the first request, when a fallback has become visible.
func (c *conn) rejectTCP() bool {
	if !c.listener.view.Load().RequireMPTCP {
		return false
	}
	if t, err := mptcp.TransportOf(c.base.Raw()); err == nil && t == mptcp.MPTCP {
		return false
	}
	c.end = telemetry.ConnMPTCPRequired
	return true
}

// waitEnd returns the outcome of a connection whose wait for a request failed with err.
func (c *conn) waitEnd(err error) telemetry.ConnEnd {
	c.err = err
	first := c.state.Load() == fresh
	switch {
	case errors.Is(err, netio.ErrInterrupted):
		return telemetry.ConnDrain
	case errors.Is(err, io.EOF) && first, errors.Is(err, os.ErrDeadlineExceeded) && first:
		return telemetry.ConnSilent
	case errors.Is(err, io.EOF):
		return telemetry.ConnOK
	case errors.Is(err, os.ErrDeadlineExceeded) && c.ending():
		return telemetry.ConnDrain
	case errors.Is(err, os.ErrDeadlineExceeded):
		return telemetry.ConnIdle
	}
	return telemetry.ConnReset
}

// linger is what a client may still send after its last answer, so that it can read that: a close
// with unread input would reset the connection. What it sends is discarded, so mostly time limits
// it: a client within a body may send for a while, a silent one is not waited for.
var linger = netio.Linger{Bytes: 1 << 30, Silence: 5 * time.Second, Time: 30 * time.Second}

func (c *conn) close() {
	defer c.proxy.remove(c) // also after a panic: Shutdown waits for it
	c.owner.Close()
	if c.http != nil {
		if !c.broken && c.state.Load() == busy && c.http.Unread() {
			c.http.Linger(linger)
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
		c.closeInOrder()
	}
	c.logUnused()
	c.meter.Closed(c.end)
	if c.counted.IsValid() {
		c.proxy.clients.release(c.counted)
	}
}

// logUnused logs a connection without an exchange.
func (c *conn) logUnused() {
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

// closeInOrder sends what is held and closes the connection in order.
func (c *conn) closeInOrder() {
	if t, _ := c.info.State(); t == mptcp.TCP && c.stream == c.base {
		_ = c.base.Finish()
		return
	}
	_ = c.stream.Flush()
	_ = c.stream.Close()
}

// firstDeadline returns the deadline of the first request.
func (c *conn) firstDeadline() time.Time {
	limit := c.limits.http.HeaderTime
	if c.late {
		limit = min(limit, c.proxy.options.DrainGrace)
	}
	return c.accepted.Add(limit)
}

// setBusy ends the wait for a request: from now on, drain does not interrupt reads. first reports
// whether this is the first request.
func (c *conn) setBusy() (first bool) {
	c.waiting.Lock()
	first = c.state.Swap(busy) == fresh
	c.waiting.Unlock()
	c.base.Resume()
	return first
}

// interrupt ends the wait for a request if the connection is in state s.
func (c *conn) interrupt(s connState) {
	c.waiting.Lock()
	defer c.waiting.Unlock()
	if c.state.Load() == s {
		c.base.Interrupt()
	}
}

// drain ends the connection after the present request. If it waits for one, it ends after
// Options.DrainGrace (the first one) or Options.LastRequestGrace.
func (c *conn) drain() {
	if m := c.mux.Load(); m != nil {
		m.http.Shutdown()
		return
	}
	if c.state.Load() == fresh {
		task.AfterFunc(c.proxy.options.DrainGrace, "connection: end of its grace", func() { c.interrupt(fresh) })
		return
	}
	c.interrupt(idle)
}

// abort ends the connection at a deadline, also during an exchange. WebSockets get close frames
// first.
func (c *conn) abort() {
	c.expired.Store(true)
	if c.tunnels.startClose(nil) {
		task.AfterFunc(closeFrameTime, "connection: end of its startClose", c.abortNow)
		return
	}
	c.abortNow()
}

func (c *conn) abortNow() {
	_ = c.base.Abort()
	c.tunnels.stop(nil)
}
