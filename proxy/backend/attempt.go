package backend

import (
	"context"
	"errors"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// ErrNoServer: every server was tried, or rests.
var ErrNoServer = errors.New("no server is available")

// maxTries bounds the servers that are asked for one request.
const maxTries = 3

// Attempt is the way of one request to a server. The zero value begins with Reset.
type Attempt struct {
	backend *Backend
	tried   [maxTries]*Server
	tries   int
	server  *Server
	last    error // why the last server could not be reached
}

// Reset begins for another request.
func (a *Attempt) Reset(b *Backend) { *a = Attempt{backend: b} }

// Tries is how many servers were asked.
func (a *Attempt) Tries() int { return a.tries }

// Server is the one that was picked last, nil before Open.
func (a *Attempt) Server() *Server { return a.server }

// Meter is that server's.
func (a *Attempt) Meter() *telemetry.ServerMeter { return a.server.meter }

// Open picks a server and gives a connection to it, trying further servers while one cannot be reached.
// repeatable: the request may be sent again if the connection turns out dead. renew: the last one did; ask
// the same server once more by a new connection. from is for a PROXY header.
func (a *Attempt) Open(ctx context.Context, from Addresses, repeatable, renew bool) (Stream, error) {
	if renew {
		c, err := a.server.dial(ctx, from)
		if err == nil {
			return c, nil
		}
		a.last = err
	}
	for a.next() {
		if c := a.server.take(repeatable); c != nil {
			return c, nil
		}
		c, err := a.server.dial(ctx, from)
		if err == nil {
			return c, nil
		}
		a.last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, a.failure()
}

// OpenRaw picks a server and dials it, for bytes that are not looked at.
func (a *Attempt) OpenRaw(ctx context.Context, from Addresses) (*Link, error) {
	for a.next() {
		ctx, cancel := context.WithTimeout(ctx, a.backend.options.ConnectTimeout)
		l, err := a.server.open(ctx, from)
		cancel()
		if err == nil {
			return l, nil
		}
		a.last = err
	}
	return nil, a.failure()
}

// next picks another server; false where there is none.
func (a *Attempt) next() bool {
	if a.tries == maxTries {
		return false
	}
	s := a.pick(time.Now())
	if s == nil {
		return false
	}
	a.server, a.tried[a.tries] = s, s
	a.tries++
	if a.tries > 1 {
		s.meter.Retry()
	}
	return true
}

func (a *Attempt) failure() error {
	if a.last != nil {
		return a.last
	}
	return ErrNoServer
}

// pick gives the next server in turn that was not tried and does not rest.
func (a *Attempt) pick(now time.Time) *Server {
	b := a.backend
	n := len(b.turns)
	start := b.turn.Add(1) - 1
	for i := range n {
		s := b.servers[b.turns[(start+uint64(i))%uint64(n)]]
		if !s.resting(now) && !a.wasTried(s) {
			return s
		}
	}
	return nil
}

func (a *Attempt) wasTried(s *Server) bool {
	for _, t := range a.tried[:a.tries] {
		if t == s {
			return true
		}
	}
	return false
}

// NeedsMPTCP says whether err means that MPTCP was required and not to be had.
func NeedsMPTCP(err error) bool {
	var unable *mptcp.UnableError
	return errors.Is(err, mptcp.ErrRequired) || errors.As(err, &unable)
}

// TimedOut says whether err means that a server did not answer the connect in time.
func TimedOut(err error) bool { return connectResult(err) == telemetry.ConnectTimeout }
