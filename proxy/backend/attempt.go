package backend

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// ErrNoServer means that every server was tried, or could not be reached a moment ago.
var ErrNoServer = errors.New("no server is available")

// Attempt finds a connection to a server for one request. It must be Reset before its first use,
// and End must be called after the exchange.
type Attempt struct {
	lot        uint32  // for servers that start slowly, see usesSlow; 0: not drawn
	passedOver bool    // such a server was not used
	key        uint64  // a hash of the key of the request; 0: none
	sticky     *Server // that a cookie of the request names; nil: none

	backend   *Backend
	rules     *Retry            // when the request is sent again
	tried     [MaxTries]*Server // that are not picked again
	tries     int               // servers in tried
	spent     int               // tries of Retry.Tries
	sent      int               // see Tries
	server    *Server           // that was picked last
	place     *Server           // where the request has a place; nil: nowhere, or without a limit
	granted   *Server           // that the queue has picked; place is there
	last      error             // why the last server could not be reached
	short     *ShortError
	shortages uint16        // bits of the servers in tried that a shortage kept from being dialled
	counted   *atomic.Int64 // the Request.ServerConns that this attempt counts in; nil: none

	other      route     // of the second copy of a request, to the same server
	elsewhere  bool      // it may be why a server has failed, and is not sent there again
	busy       bool      // the last choice found only servers without a free place
	served     bool      // it had a place before: it need not queue behind others
	queueUntil time.Time // when it leaves the queue; zero: it never was in it
	ownUntil   time.Time // until when it waits for sticky alone; zero: it has not begun to
	queued     time.Duration
}

// Reset prepares the attempt for another request, which is sent again as the backend says.
func (a *Attempt) Reset(b *Backend) {
	*a = Attempt{backend: b}
	if b != nil {
		a.rules = &b.retry
	}
}

// Tries returns how often the request was sent, or a connect for it failed.
func (a *Attempt) Tries() int { return a.sent }

// Queued returns how long the request has waited for a place at a server.
func (a *Attempt) Queued() time.Duration { return a.queued }

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
	Unsent        bool          // nothing of it was sent in the last try
	Now           time.Time     // when the server is chosen; updated before each further try
	Route         string        // its name; the queue serves routes in turn
	Client        Client        // is watched while the request is in the queue; nil: it is not
}

// Open picks a server and returns a connection to it. It tries further servers while one cannot be
// reached, and waits in the queue while all are busy.
func (a *Attempt) Open(ctx context.Context, r *Request) (up Stream, err error) {
	a.backend.budget.requests.Add(1)
	return a.open(ctx, r)
}

func (a *Attempt) open(ctx context.Context, r *Request) (up Stream, err error) {
	err = a.try(ctx, r, func() (err error) {
		up, err = a.connect(ctx, r, false)
		return err
	})
	return up, err
}

// OpenRaw is Open for a connection whose bytes are forwarded without parsing them.
func (a *Attempt) OpenRaw(ctx context.Context, route string, from Addresses) (l *Link, err error) {
	err = a.try(ctx, &Request{Now: time.Now(), Route: route}, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, a.backend.options.ConnectTimeout)
		defer cancel()
		a.server.countInFlight(1)
		began := time.Now()
		l, err = a.server.openLink(ctx, from, true)
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
		full, fulls := false, 1 // servers that can take no further connection
		for !full && a.next(r.Now, r.Owner) {
			err := connect()
			if err == nil {
				a.reached()
				return nil
			}
			if err == errFull {
				full = fulls >= len(a.backend.list())
				fulls++
				a.undo()
				a.busy = true
				continue
			}
			a.failed(err)
			if ctx.Err() != nil || a.short == nil && a.rules.On&OnConnect == 0 {
				return a.failure()
			}
			r.Now = time.Now()
		}
		switch {
		case a.short != nil:
			if !a.wait(ctx, &q) {
				return a.failure()
			}
		case a.busy:
			switch err := a.backend.queue.wait(ctx, a, r); {
			case err == ErrBusy && a.awaitsOwn(time.Now()): // another server may have a place
				a.ownUntil = epoch
			case err != nil:
				return err
			}
		case a.tries == 0 && a.backend.waitForServers(ctx):
		default:
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
		a.leavePlace()
		a.server, r.Now = same, time.Now()
	}
	if a.place == nil && !a.reserve(a.server) { // its place went to another request
		return a.open(ctx, r)
	}
	a.server.meter.Retry()
	if !r.Unsent {
		a.sent++
	}
	up, err := a.connect(ctx, r, true)
	if err == nil {
		return up, nil
	}
	if err == errFull && a.tries > 0 && a.tried[a.tries-1] == a.server {
		a.undo()
		return a.open(ctx, r) // it may wait for that server
	}
	a.failed(err)
	if errors.Is(err, ErrNotProcessed) || a.short == nil && a.rules.On&OnConnect == 0 {
		return nil, err // the caller decides whether to go on
	}
	r.Now = time.Now()
	return a.open(ctx, r)
}

// Another returns a connection for a request that has failed, after MayRetry has allowed that: to a
// server that was not tried, also if it is busy; if there is none, after a pause to one that was,
// but not after OnReset.
func (a *Attempt) Another(ctx context.Context, r *Request) (Stream, error) {
	a.leavePlace()
	up, err := a.open(ctx, r)
	if err == nil || a.elsewhere || a.short != nil || errors.Is(err, context.Canceled) || a.spent >= a.rules.Tries ||
		a.last != nil && a.rules.On&OnConnect == 0 {
		return up, err
	}
	const pause = 25 * time.Millisecond
	timer := time.NewTimer(pause/2 + rand.N(pause))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	clear(a.tried[:a.tries])
	a.tries, a.shortages = 0, 0
	r.Now = time.Now()
	return a.open(ctx, r)
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
	s := a.granted
	a.busy = false
	if a.granted = nil; s == nil {
		before := a.place
		a.place = nil
		if a.spent < a.rules.Tries {
			s = a.choose(now, o)
		}
		if s == nil {
			a.place = before
			return false
		}
		before.leave()
	}
	a.server, a.tried[a.tries] = s, s
	a.tries++
	a.spent++
	if a.sent++; a.sent > 1 {
		s.meter.Retry()
	}
	return true
}

// choose picks a server and takes a place there. It returns nil if there is none; then a.busy tells
// whether there is one without a free place.
func (a *Attempt) choose(now time.Time, o *Owner) *Server {
	if a.busy = !a.served && a.backend.queue.waiting.Load() > 0; a.busy {
		return nil // others were first
	}
	if s := o.serverFor(a); s != nil && a.reserve(s) {
		return s
	}
	if a.busy = a.awaitsOwn(now); a.busy {
		return nil
	}
	const most = 1000 // other requests may take the place first
	for range most {
		s := a.pick(now)
		if s == nil {
			break
		}
		if a.reserve(s) {
			return s
		}
	}
	a.busy = a.awaitsPlace(now)
	return nil
}

// undo takes back the last try: the server could not take another connection.
func (a *Attempt) undo() {
	a.leavePlace()
	a.tries--
	a.tried[a.tries] = nil
	a.spent--
	a.sent--
	a.served = a.sent > 0 || !a.queueUntil.IsZero()
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
	a.leavePlace()
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
	if a.busy {
		return ErrBusy
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
