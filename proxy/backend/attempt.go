package backend

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// ErrNoServer: every server was tried, or could not be reached a moment ago.
var ErrNoServer = errors.New("no server is available")

// maxTries bounds the servers that are asked for one request.
const maxTries = 3

// Attempt is the way of one request to a server. The zero value begins with Reset.
type Attempt struct {
	backend   *Backend
	tried     [maxTries]*Server
	tries     int
	server    *Server
	last      error // why the last server could not be reached
	short     *ShortError
	shortages uint8 // bits of those of tried that were not asked for that
	counted   *atomic.Int64
}

// Reset begins for another request.
func (a *Attempt) Reset(b *Backend) { *a = Attempt{backend: b} }

// Tries is how many servers were asked.
func (a *Attempt) Tries() int { return a.tries }

// Server is the one that was picked last, nil before Open.
func (a *Attempt) Server() *Server { return a.server }

// Meter is that server's.
func (a *Attempt) Meter() *telemetry.ServerMeter { return a.server.meter }

// Request is what Open needs to know of a request.
type Request struct {
	From          Addresses     // for a PROXY header
	Repeatable    bool          // it may be sent again if the connection turns out dead
	Bodyless      bool          // it has no body
	Upgrade       bool          // it asks for another protocol
	Authenticates bool          // it authenticates its connection, see Authenticates
	Owner         *Owner        // of connections that only this client may use; nil: none
	ServerConns   *atomic.Int64 // connections to servers that the client's connection uses; nil: one at a time
	NewConnection bool          // it is to be the first on a connection that many share: those that were there gave it back
	Returned      int           // how often a server gave it back unprocessed
	Now           time.Time     // when the server is chosen; Open moves it on with each that it tries
}

// Open picks a server and gives a connection to it, trying further servers while one cannot be
// reached.
func (a *Attempt) Open(ctx context.Context, r *Request) (Stream, error) {
	var t queueWait
	for {
		for a.next(r.Now, r.Owner) {
			up, err := a.connect(ctx, r, false)
			if err == nil {
				a.reached()
				return up, nil
			}
			a.failed(err)
			if ctx.Err() != nil {
				break
			}
			r.Now = time.Now()
		}
		if !a.wait(ctx, &t) {
			return nil, a.failure()
		}
		r.Now = time.Now()
	}
}

// Reopen gives another connection to the same server, after the kept one that Open gave turned out
// dead, or the server did not process the request; then, as Open does, to further servers. A
// request that came back more than once goes to a further server first.
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

// MayMove says whether Avoids can become true of up.
func (a *Attempt) MayAvoid(up Stream, now time.Time) bool {
	if a.server.dialer.Mode != mptcp.Prefer {
		return false
	}
	t, _ := up.State(now)
	return t == mptcp.MPTCP
}

// Avoids says whether a new exchange would not be given up's connection now: see Server.avoids.
func (a *Attempt) Avoids(up Stream, now time.Time) bool {
	return a.server.memoryShort() && a.MayAvoid(up, now)
}

// connect gives a connection to the server that was picked, or a place on one.
func (a *Attempt) connect(ctx context.Context, r *Request, renew bool) (Stream, error) {
	s := a.server
	if !renew {
		if c := s.takeOwned(r.Owner); c != nil {
			return c.prepare(r), nil
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
			return c.prepare(r), nil
		}
	}
	_, c, err := s.dial(ctx, r.From, false)
	if err != nil {
		return nil, err
	}
	return c.prepare(r), nil
}

// carries notes what the connection has to know of a request.
func (c *conn) prepare(r *Request) *conn {
	c.unrepeatable = !r.Repeatable
	if r.Authenticates {
		c.owner = r.Owner
	}
	return c
}

// OpenRaw picks a server and dials it, for bytes that are not looked at.
func (a *Attempt) OpenRaw(ctx context.Context, from Addresses) (*Link, error) {
	var t queueWait
	for {
		for a.next(time.Now(), nil) {
			ctx, cancel := context.WithTimeout(ctx, a.backend.options.ConnectTimeout)
			l, err := a.server.openLink(ctx, from)
			cancel()
			if err == nil {
				a.server.connectSucceeded()
				a.reached()
				return l, nil
			}
			a.failed(err)
		}
		if !a.wait(ctx, &t) {
			return nil, a.failure()
		}
	}
}

// next picks another server; false where there is none. One with a connection of the owner comes
// first.
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

func (a *Attempt) failure() error {
	if a.short != nil {
		return a.short
	}
	if a.last != nil {
		return a.last
	}
	return ErrNoServer
}

// pick gives the next available server in turn that was not tried. Where there is none it is the
// one that has been left alone for the longest time: one that is up again serves at once.
func (a *Attempt) pick(now time.Time) *Server {
	b := a.backend
	n := len(b.turns)
	start := b.turn.Add(1) - 1
	var last *Server
	var lastSince int64
	for i := range n {
		s := b.servers[b.turns[(start+uint64(i))%uint64(n)]]
		if a.wasTried(s) {
			continue
		}
		if s.available() {
			return s
		}
		if since, ok := s.lastResort(now); ok && (last == nil || since < lastSince) {
			last, lastSince = s, since
		}
	}
	return last
}

func (a *Attempt) wasTried(s *Server) bool {
	for _, t := range a.tried[:a.tries] {
		if t == s {
			return true
		}
	}
	return false
}

// NeedsMPTCP says whether err means that MPTCP was required and not available.
func NeedsMPTCP(err error) bool {
	var unable *mptcp.UnableError
	return errors.Is(err, mptcp.ErrRequired) || errors.As(err, &unable)
}

// TimedOut says whether err means that a server did not answer the connect in time.
func TimedOut(err error) bool { return connectResult(err) == telemetry.ConnectTimeout }
