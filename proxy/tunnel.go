package proxy

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"mpgate/proxy/message"
	"mpgate/task"
	"mpgate/telemetry"
)

// tunnel passes bytes both ways after a 101, until both sides have ended theirs, or nothing has
// moved in either direction for the idle time.
func (x *exchange) tunnel() {
	if !x.awaitUpload() {
		return
	}
	x.up.Tunnel()
	if err := x.sendHead(time.Now()); err != nil {
		var fault *message.Error
		if errors.As(err, &fault) { // the server's 101 is none that the client could be given
			x.up.Abort()
			x.answer(serverAnswer(err))
			return
		}
		x.endResponse(nil, err)
		return
	}
	t := tunnel{exchange: x, idle: x.backend.IdleTimeout(), start: x.start}
	t.toClient.webSocket = message.EqualFold(x.req.Upgrade, "websocket")
	t.toServer.webSocket, t.toServer.masked = t.toClient.webSocket, true
	x.client.tunnels.add(&t)
	defer x.client.tunnels.remove(&t) // also of one that panics
	t.last.Store(int64(time.Since(t.start)))
	done := make(chan struct{})
	task.Go("tunnel", func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				x.proxy.caught("panic in a tunnel", string(x.rec.IDText()), v)
				x.up.Abort() // the other direction says the rest
				x.down.Interrupt()
			}
		}()
		x.rec.BytesIn += t.pass(x.up, x.down.Body(), false)
	}, nil)
	defer func() { // of a panic: the other direction must not outlive the exchange
		select {
		case <-done:
		default:
			x.up.Abort()
			x.down.Interrupt()
			<-done
			x.down.Resume()
		}
	}()
	x.rec.BytesOut = t.pass(x.down, x.up.Body(), true)
	<-done
	x.client.tunnels.remove(&t)
	x.down.Resume()
	x.rec.End = telemetry.EndOK
	cut := t.cut.Load()
	switch {
	case t.leaving.Load():
		x.rec.End = telemetry.EndDrain
		x.broken = cut != nil && !t.toClient.said
	case cut != nil:
		x.broken = true
		x.rec.End = cut.outcome()
	}
}

// tunnel is both directions of one.
type tunnel struct {
	exchange *exchange
	idle     time.Duration
	start    time.Time
	last     atomic.Int64        // when something moved, since start
	cut      atomic.Pointer[cut] // what ended it out of order first

	toClient, toServer direction
	leaving            atomic.Bool // see startClose
	closers            task.Group  // who say it
}

// cut is the failure of one side.
type cut struct {
	err    error
	server bool
}

func (c *cut) outcome() telemetry.End {
	if c.server && !errors.Is(c.err, os.ErrDeadlineExceeded) { // nothing moved: neither side's fault alone
		return serverAnswer(c.err).End
	}
	return clientEnd(c.err)
}

// fail ends both directions, if this is the first failure, and wakes whoever waits in the other
// one.
func (t *tunnel) fail(err error, server bool) {
	if t.cut.CompareAndSwap(nil, &cut{err, server}) {
		t.exchange.up.Abort()
		t.exchange.down.Interrupt()
	}
}

// pass moves one direction to its end, which it hands on.
func (t *tunnel) pass(dst message.BodyWriter, src message.BodyReader, fromServer bool) (n int64) {
	way := &t.toServer
	if fromServer {
		way = &t.toClient
	}
	for {
		p, err := src.Next(false)
		if err == message.ErrWait {
			if err := way.flush(dst); err != nil {
				t.fail(err, !fromServer)
				return n
			}
			if !fromServer && t.leaving.Load() && way.over() {
				err = io.EOF // the client has answered
			} else {
				p, err = src.Next(true)
			}
		}
		switch {
		case err == nil:
			t.last.Store(int64(time.Since(t.start)))
			n += int64(len(p))
			if err := way.forward(dst, p); err != nil {
				t.fail(err, !fromServer)
				return n
			}
		case err == io.EOF:
			if err := way.end(dst); err != nil {
				t.fail(err, !fromServer)
			}
			return n
		case err == message.ErrSlow:
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(t.start)-time.Duration(t.last.Load()) < t.idle:
			// Quiet here, busy there.
		default:
			t.fail(err, fromServer)
			return n
		}
	}
}
