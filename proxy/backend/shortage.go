package backend

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// Shortage is what this host has too little of for a connection to a server. It says nothing about
// the server.
type Shortage = telemetry.Shortage

const (
	ShortConnections = telemetry.ShortConnections // of Places
	ShortDescriptors = telemetry.ShortDescriptors
	ShortPorts       = telemetry.ShortPorts
	ShortBuffers     = telemetry.ShortBuffers
	ShortMemory      = telemetry.ShortMemory // of the process
)

// ShortError is a connection to a server that could not be made because of a shortage, for as long
// as a connect may take.
type ShortError struct {
	Of  Shortage
	Err error
}

func (e *ShortError) Error() string { return e.Err.Error() }
func (e *ShortError) Unwrap() error { return e.Err }

var (
	errConnections = errors.New("no place for another connection to a server")
	errShare       = errors.New("the client's connection uses as many connections to servers as it may while they are few")
	errPorts       = errors.New("no local port was free a moment ago")
)

// shortage makes a ShortError of an error of connect that means one.
func shortage(err error) error {
	var of Shortage
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		of = ShortDescriptors
	case errors.Is(err, mptcp.ErrNoPort):
		of = ShortPorts
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		of = ShortBuffers
	default:
		return err
	}
	return &ShortError{of, err}
}

// again is how long a request waits before it tries again unasked: the kernel does not say when it
// has what it lacked. Where many wait each does so less often.
func retryDelay(s Shortage, waiting int) time.Duration {
	const first, most = 25 * time.Millisecond, 500 * time.Millisecond
	return min(first*time.Duration(1+waiting/64), most)
}

// ports keeps connects away from a server for which no local port is free: the kernel looks through
// all of them for each.
type ports struct{ blockedUntil atomic.Int64 } // ns since epoch

const portsPause = 20 * time.Millisecond

// try says whether a connect may look for a port. During a shortage one at a time does.
func (p *ports) allow() bool {
	until := p.blockedUntil.Load()
	if until == 0 {
		return true
	}
	now := int64(time.Since(epoch))
	return now >= until && p.blockedUntil.CompareAndSwap(until, now+int64(portsPause))
}

// note notes how a connect ended.
func (p *ports) noteResult(err error) {
	switch {
	case errors.Is(err, mptcp.ErrNoPort):
		p.blockedUntil.Store(int64(time.Since(epoch) + portsPause))
	case p.blockedUntil.Load() != 0 && !errors.Is(err, os.ErrDeadlineExceeded):
		p.blockedUntil.Store(0)
	}
}

// failed notes why the server that was picked last could not be reached.
func (a *Attempt) failed(err error) {
	a.last = err
	if errors.As(err, &a.short) && a.tries > 0 {
		a.shortages |= 1 << (a.tries - 1)
	}
}

// wait waits for the end of a shortage, and has the servers that were not asked for it count as not
// tried. false: there was none, or it lasted for as long as a connect may take.
func (a *Attempt) wait(ctx context.Context, t *queueWait) bool {
	if a.short == nil {
		return false
	}
	n := 0
	for i, s := range a.tried[:a.tries] {
		if a.shortages&(1<<i) == 0 {
			a.tried[n] = s
			n++
		}
	}
	clear(a.tried[n:])
	a.tries, a.shortages = n, 0
	if !t.wait(ctx, a.backend, a.short.Of) {
		return false
	}
	a.short = nil
	return true
}

// hold notes that the client's connection uses a connection to a server, if it may.
func (a *Attempt) countConn(r *Request) error {
	if r.ServerConns == nil || a.counted != nil {
		return nil
	}
	if !a.backend.connLimit.fairShare(r.ServerConns.Add(1)) {
		r.ServerConns.Add(-1)
		return &ShortError{ShortConnections, errShare}
	}
	a.counted = r.ServerConns
	return nil
}

// Leave notes that the exchange, and its connection to a server, is over.
func (a *Attempt) End() {
	if a.counted != nil {
		a.counted.Add(-1)
		a.counted = nil
	}
}

// found notes that a server was reached: if others wait, they may have what it was that they
// lacked.
func (a *Attempt) reached() {
	if a.short != nil || a.backend.connLimit.waiting.Load() > 0 {
		a.short = nil
		a.backend.connLimit.wake(a.backend)
	}
}
