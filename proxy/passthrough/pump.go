// Package passthrough forwards bytes between two connections in both directions, without parsing
// them.
//
// A Pump does that for any two Ends: it hands the end of one direction on while the other one
// continues, flushes one end before it waits for the other, and stops at the first failure or when
// nothing has moved for a while. Relay is a Pump between two connections. A tunnel of package
// proxy, such as a WebSocket, has ends that are exchanges of HTTP/1 or HTTP/2, which are
// message.BodyReaders and message.BodyWriters already; what it adds, such as a WebSocket's close
// frames, wraps these.
package passthrough

import (
	"errors"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"mpgate/proxy/message"
	"mpgate/task"
)

// End is one end of a Pump. One direction reads it while the other one writes it.
//
// It is an interface of pieces, not an io.ReadWriter, because a read must say that it would wait:
// only then is the other end flushed.
type End interface {
	// Next gives what the peer sent, as a message.BodyReader does. When nothing has come for the
	// idle time, it gives os.ErrDeadlineExceeded and may be called again.
	message.BodyReader
	// WriteBody, Flush and End send to the peer; End ends this direction and leaves the other one
	// open. Next may run at the same time.
	message.BodyWriter
	// Abort makes calls that wait, and all later ones, fail. Any goroutine may call it, repeatedly.
	Abort()
}

// Pump moves bytes both ways between a client and a server:
//
//	p := passthrough.Pump{Client: client, Server: server, Idle: time.Minute}
//	result := p.Run()
//
// The end of one direction is handed on, and the other one continues. Run returns when both have
// ended, one end has failed, or nothing has moved in either direction for Idle.
type Pump struct {
	Client, Server End
	Idle           time.Duration

	start    time.Time
	last     atomic.Int64 // when something moved, since start
	failure  atomic.Pointer[failure]
	panicked *task.Panic // in the goroutine of the client's bytes
	toServer int64
	toClient int64
}

// Result is the outcome of a Pump.
type Result struct {
	ToServer, ToClient int64 // bytes that the ends took
	// Err is the first failure, nil when both directions ended in order. ByServer says that it was
	// the server's, else it was the client's.
	Err      error
	ByServer bool
}

type failure struct {
	err      error
	byServer bool
}

var errPanicked = errors.New("internal error")

// Run moves bytes until the pump stops. It is called once. It uses a second goroutine, which has
// ended when it returns. A panic in either goroutine stops the pump and continues to Run's caller,
// as a *task.Panic if it came from the second one.
func (p *Pump) Run() Result {
	p.start = time.Now()
	defer p.watch()()
	var second task.Group
	second.Go("tunnel", func() {
		defer func() {
			if v := recover(); v != nil {
				p.panicked = &task.Panic{Task: "tunnel", Value: v, Stack: debug.Stack()}
			}
		}()
		p.move(p.Server, p.Client, true)
	}, nil)
	defer second.Wait() // also after a panic here
	p.move(p.Client, p.Server, false)
	second.Wait()
	if p.panicked != nil {
		panic(p.panicked)
	}
	r := Result{ToServer: p.toServer, ToClient: p.toClient}
	if f := p.failure.Load(); f != nil {
		r.Err, r.ByServer = f.err, f.byServer
	}
	return r
}

// watch stops the pump when nothing has moved for Idle and both directions wait to write, where no
// read reports that. The function that it returns ends the watch.
func (p *Pump) watch() (end func()) {
	const late = time.Second // a read reports it first
	var timer *time.Timer
	var ended atomic.Bool
	armed := make(chan struct{}) // closed when timer is set
	timer = task.AfterFunc(p.Idle+late, "tunnel: idle time", func() {
		<-armed
		moved := time.Duration(p.last.Load())
		left := moved + p.Idle + late - time.Since(p.start)
		switch {
		case ended.Load():
		case left > 0:
			timer.Reset(left)
		default:
			p.Stop(os.ErrDeadlineExceeded, false)
		}
	})
	close(armed)
	return func() {
		ended.Store(true)
		timer.Stop()
	}
}

// Stop ends both directions with err, unless the pump has failed before. Any goroutine may call it,
// also before Run.
func (p *Pump) Stop(err error, byServer bool) {
	if p.failure.CompareAndSwap(nil, &failure{err, byServer}) {
		p.Client.Abort()
		p.Server.Abort()
	}
}

// move is pass, and stops the pump when that panics.
func (p *Pump) move(dst, src End, toServer bool) {
	panicked := true
	defer func() {
		if panicked {
			p.Stop(errPanicked, !toServer)
		}
	}()
	p.pass(dst, src, toServer)
	panicked = false
}

// pass moves one direction to its end, and hands that on.
func (p *Pump) pass(dst, src End, toServer bool) {
	moved := &p.toClient
	if toServer {
		moved = &p.toServer
	}
	for {
		b, err := src.Next(false)
		if err == message.ErrWait {
			if err := dst.Flush(); err != nil {
				p.Stop(err, toServer)
				return
			}
			b, err = src.Next(true)
		}
		switch {
		case err == nil:
			p.last.Store(int64(time.Since(p.start)))
			if err := dst.WriteBody(b); err != nil {
				p.Stop(err, toServer)
				return
			}
			*moved += int64(len(b))
		case err == io.EOF:
			if err := dst.End(nil); err != nil {
				p.Stop(err, toServer)
			}
			return
		case err == message.ErrSlow:
		case errors.Is(err, os.ErrDeadlineExceeded) && !p.idle():
		default:
			p.Stop(err, !toServer)
			return
		}
	}
}

// idle says whether nothing has moved in either direction for the idle time.
func (p *Pump) idle() bool {
	return time.Since(p.start)-time.Duration(p.last.Load()) >= p.Idle
}
