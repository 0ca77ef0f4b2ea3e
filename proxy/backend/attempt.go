package backend

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// ErrNoServer means that every server was tried, or could not be reached a moment ago.
var ErrNoServer = errors.New("no server is available")

// maxTries bounds the servers that are tried for one request.
const maxTries = 3

// Attempt finds a connection to a server for one request. It must be Reset before its first use.
type Attempt struct {
	lot        uint32 // for servers that start slowly, see usesSlow; 0: not drawn
	passedOver bool   // such a server was not used
	backend    *Backend
	tried      [maxTries]*Server
	tries      int
	server     *Server // that was picked last
	key        uint64  // a hash of the key of the request; 0: none
	sticky     *Server // that a cookie of the request names; nil: none
	last       error   // why the last server could not be reached
	short      *ShortError
	shortages  uint8         // bits of the servers in tried that a shortage kept from being dialled
	counted    *atomic.Int64 // the Request.ServerConns that this attempt counts in; nil: none
}

// Reset prepares the attempt for another request.
func (a *Attempt) Reset(b *Backend) { *a = Attempt{backend: b} }

// Tries returns how many servers were tried.
func (a *Attempt) Tries() int { return a.tries }

// Server returns the server that was picked last, or nil before Open.
func (a *Attempt) Server() *Server { return a.server }

// Meter returns the meter of the server that was picked last.
func (a *Attempt) Meter() *telemetry.ServerMeter { return a.server.meter }

// Request is what Open needs to know about a request.
type Request struct {
	From          Addresses     // for a PROXY header
	Repeatable    bool          // it may be sent again if the connection turns out to be dead
	Bodyless      bool          // it has no body
	Upgrade       bool          // it asks for another protocol
	Authenticates bool          // it authenticates its connection; see the function Authenticates
	Owner         *Owner        // of connections that only this client may use; nil: none
	ServerConns   *atomic.Int64 // to servers, that the client's connection uses; nil: at most one
	NewConnection bool          // a shared connection must be new: the others returned it
	Returned      int           // how often a server returned it unprocessed
	Now           time.Time     // when the server is chosen; updated before each further try
}

// Open picks a server and returns a connection to it. It tries further servers while one cannot be
// reached.
func (a *Attempt) Open(ctx context.Context, r *Request) (up Stream, err error) {
	err = a.try(ctx, r, func() (err error) {
		up, err = a.connect(ctx, r, false)
		return err
	})
	return up, err
}

// OpenRaw is Open for a connection whose bytes are forwarded without parsing them.
func (a *Attempt) OpenRaw(ctx context.Context, from Addresses) (l *Link, err error) {
	err = a.try(ctx, &Request{Now: time.Now()}, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, a.backend.options.ConnectTimeout)
		defer cancel()
		a.server.countInFlight(1)
		began := time.Now()
		l, err = a.server.openLink(ctx, from)
		a.server.noteConnect(err)
		if err != nil {
			a.server.countInFlight(-1)
			return err
		}
		l.unparsed = true
		now := time.Now()
		a.NoteAnswer(now.Sub(began), 200, now)
		return nil
	})
	return l, err
}

// try calls connect with each server that it picks until one succeeds.
func (a *Attempt) try(ctx context.Context, r *Request, connect func() error) error {
	var q queueWait
	for {
		for a.next(r.Now, r.Owner) {
			err := connect()
			if err == nil {
				a.reached()
				return nil
			}
			a.failed(err)
			if ctx.Err() != nil {
				break
			}
			r.Now = time.Now()
		}
		if !(a.tries == 0 && a.backend.waitForServers(ctx)) && !a.wait(ctx, &q) {
			return a.failure()
		}
		r.Now = time.Now()
	}
}

// Reopen returns another connection to the same server, after the idle one that Open returned
// turned out to be dead, or the server did not process the request. If that fails it tries further
// servers, as Open does. For a request that was returned more than once it tries another server
// first.
func (a *Attempt) Reopen(ctx context.Context, r *Request) (Stream, error) {
	if same := a.server; r.Returned > 1 && a.next(r.Now, r.Owner) {
		if up, err := a.connect(ctx, r, true); err == nil {
			return up, nil
		}
		a.server, r.Now = same, time.Now()
	}
	a.server.meter.Retry()
	up, err := a.connect(ctx, r, true)
	if err == nil {
		return up, nil
	}
	a.failed(err)
	if errors.Is(err, ErrNotProcessed) { // the caller decides whether to go on
		return nil, err
	}
	r.Now = time.Now()
	return a.Open(ctx, r)
}

// connect returns a stream on a connection to the server that was picked. If renew is true, the
// connection is not an idle one.
func (a *Attempt) connect(ctx context.Context, r *Request, renew bool) (Stream, error) {
	s := a.server
	if !renew {
		if c := s.takeOwned(r.Owner); c != nil {
			return c.begin(r), nil
		}
	}
	if s.mayShare(r) {
		return s.openShared(ctx, r)
	}
	if err := a.countConn(r); err != nil {
		return nil, err
	}
	if !renew {
		if c := s.takeIdle(r.Repeatable, r.Bodyless); c != nil {
			return c.begin(r), nil
		}
	}
	_, c, err := s.dial(ctx, r.From, false)
	if err != nil {
		return nil, err
	}
	return c.begin(r), nil
}

// next picks another server, and returns false if there is none. A server with an idle connection
// of the owner is preferred.
func (a *Attempt) next(now time.Time, o *Owner) bool {
	if a.tries == maxTries {
		return false
	}
	s := o.serverFor(a)
	if s == nil {
		s = a.pick(now)
	}
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

func (a *Attempt) wasTried(s *Server) bool {
	for _, t := range a.tried[:a.tries] {
		if t == s {
			return true
		}
	}
	return false
}

// failed records why the server that was picked last could not be reached.
func (a *Attempt) failed(err error) {
	a.last = err
	if errors.As(err, &a.short) && a.tries > 0 {
		a.shortages |= 1 << (a.tries - 1)
	}
}

// failure returns the error of an attempt without success.
func (a *Attempt) failure() error {
	if a.short != nil {
		return a.short
	}
	if a.last != nil {
		return a.last
	}
	return a.backend.noServer()
}

// MayAvoid reports whether Avoids can become true of up.
func (a *Attempt) MayAvoid(up Stream, now time.Time) bool {
	if a.server.dialer.Mode != mptcp.Prefer {
		return false
	}
	t, _ := up.State(now)
	return t == mptcp.MPTCP
}

// Avoids reports whether a new exchange would not get the connection of up now: see Server.avoids.
func (a *Attempt) Avoids(up Stream, now time.Time) bool {
	return a.backend.options.MemoryShort() && a.MayAvoid(up, now)
}
