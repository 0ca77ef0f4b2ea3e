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

// Shortage is the resource of this host that is missing for a connection to a server. It says
// nothing about the server.
type Shortage = telemetry.Shortage

const (
	ShortConnections = telemetry.ShortConnections // of ConnLimit
	ShortDescriptors = telemetry.ShortDescriptors
	ShortPorts       = telemetry.ShortPorts
	ShortBuffers     = telemetry.ShortBuffers
	ShortMemory      = telemetry.ShortMemory // of the process
)

// ShortError means that no connection to a server could be made because of a shortage that lasted
// as long as a connect may take.
type ShortError struct {
	Of  Shortage
	Err error
}

func (e *ShortError) Error() string { return e.Err.Error() }
func (e *ShortError) Unwrap() error { return e.Err }

var (
	errConnections = errors.New("the limit of connections to servers is reached")
	errShare       = errors.New("the client's connection uses its share of the connections to servers, of which few are left")
	errPorts       = errors.New("no local port was free a moment ago")
)

// shortage returns a ShortError if err, of a connect, means a shortage; otherwise err.
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

// ports limits connects to a server for which no local port is free, because the kernel searches
// all ports for each of them.
type ports struct{ blockedUntil atomic.Int64 } // ns since epoch; 0: not blocked

const portsPause = 20 * time.Millisecond

// allow reports whether a connect may search for a port. During a shortage, one connect at a time
// may.
func (p *ports) allow() bool {
	until := p.blockedUntil.Load()
	if until == 0 {
		return true
	}
	now := int64(time.Since(epoch))
	return now >= until && p.blockedUntil.CompareAndSwap(until, now+int64(portsPause))
}

// noteResult records the result of a connect.
func (p *ports) noteResult(err error) {
	switch {
	case errors.Is(err, mptcp.ErrNoPort):
		p.blockedUntil.Store(int64(time.Since(epoch) + portsPause))
	case p.blockedUntil.Load() != 0 && !errors.Is(err, os.ErrDeadlineExceeded):
		p.blockedUntil.Store(0)
	}
}

// wait waits for the end of a shortage. Servers that were not dialled because of it no longer count
// as tried. It returns false if there was no shortage, or if it lasted as long as a connect may
// take.
func (a *Attempt) wait(ctx context.Context, q *queueWait) bool {
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
	undone := a.tries - n
	a.tries, a.spent, a.sent, a.shortages = n, a.spent-undone, a.sent-undone, 0
	if !q.wait(ctx, a.backend) {
		return false
	}
	a.short = nil
	return true
}

// reached wakes a request that waits for what this one did not lack, after a server was reached.
func (a *Attempt) reached() {
	if a.short != nil || a.backend.connLimit.waiting.Load() > 0 {
		a.short = nil
		a.backend.connLimit.wake(a.backend)
	}
}

// countConn counts a connection to a server in r.ServerConns, if the client's connection may use
// another one.
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

// End must be called after the exchange.
func (a *Attempt) End() {
	a.leavePlace()
	if a.counted != nil {
		a.counted.Add(-1)
		a.counted = nil
	}
}
