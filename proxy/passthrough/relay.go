// Package passthrough forwards bytes between two connections in both directions, without parsing
// them.
package passthrough

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"mpgate/proxy/netio"
	"mpgate/task"
)

// Result is the outcome of a relay.
type Result struct {
	ToServer, ToClient int64 // bytes
	// Err is nil where both sides ended their direction in order; ByServer says whose fault it is
	// otherwise.
	Err      error
	ByServer bool
}

// Relay moves bytes both ways, until both sides have ended theirs, one of them fails, or nothing
// has moved in either direction for the idle time. Each direction's end is handed on. It uses a
// second goroutine, which is over when it returns.
func Relay(client, server *netio.Conn, idle time.Duration) (r Result) {
	p := pair{idle: idle, start: time.Now()}
	var up, down end
	var second task.Group
	second.Go("passthrough", func() { r.ToServer, up = p.move(server, client) }, nil)
	defer second.Wait() // also after a panic here
	r.ToClient, down = p.move(client, server)
	second.Wait()
	switch {
	case up.first && up.err != nil:
		r.Err, r.ByServer = up.err, up.writing
	case down.err != nil:
		r.Err, r.ByServer = down.err, !down.writing
	case up.err != nil:
		r.Err, r.ByServer = up.err, up.writing
	}
	return r
}

// pair is a client's connection and a server's.
type pair struct {
	idle  time.Duration
	start time.Time
	last  atomic.Int64 // when something moved, since start
	cuts  atomic.Int32
}

// end is how one direction ended.
type end struct {
	err     error
	writing bool // the receiving side failed
	first   bool // before the other direction was cut
}

// cut wakes whoever waits in the other direction. Both connections are beyond use.
func (p *pair) cut(a, b *netio.Conn) {
	p.cuts.Add(1)
	_ = a.Abort()
	_ = b.Abort()
}

func (p *pair) failed(err error, writing bool) end {
	return end{err: err, writing: writing, first: p.cuts.Load() == 0}
}

var errPanicked = errors.New("internal error")

// move is pass, and cuts both connections where that fails or panics.
func (p *pair) move(dst, src *netio.Conn) (n int64, e end) {
	e.err = errPanicked
	defer func() {
		if e.err != nil {
			p.cut(dst, src)
		}
	}()
	n, e = p.pass(dst, src)
	return n, e
}

// pass moves one direction.
func (p *pair) pass(dst, src *netio.Conn) (n int64, e end) {
	var b netio.Buffer
	defer b.Release()
	for {
		if err := dst.Flush(); err != nil {
			return n, p.failed(err, true)
		}
		_ = src.SetReadDeadline(time.Now().Add(p.idle))
		switch err := src.Fill(&b); {
		case err == nil:
			p.last.Store(int64(time.Since(p.start)))
		case err == io.EOF:
			if err := dst.CloseWrite(); err != nil {
				return n, p.failed(err, true)
			}
			return n, end{}
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(p.start)-time.Duration(p.last.Load()) < p.idle:
			continue // quiet here, busy there
		default:
			return n, p.failed(err, false)
		}
		k, err := dst.Write(b.Take(b.Len()))
		n += int64(k)
		if err != nil {
			return n, p.failed(err, true)
		}
	}
}
