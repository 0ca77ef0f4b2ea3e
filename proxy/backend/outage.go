package backend

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/telemetry"
)

const (
	// firstRest is how long a server that could not be reached is left alone at first.
	firstProbeDelay = time.Second
	// longestRest bounds the time between two probes of it. A probe costs no request anything.
	maxProbeDelay = 8 * time.Second
	// reportEvery is the shortest time between two reports that the same server is down.
	reportEvery = 10 * time.Second
)

// outage is the time in which a server cannot be reached. Requests go to other servers meanwhile,
// and one goroutine dials this one until it answers:
//
//	available ── a connect fails ──► outage: rest ─► probe ──fails──► rest twice as long ─► probe …
//	    ▲                                               │
//	    └──────── a connect succeeds, of the probe or of a request that found no other server
type outage struct {
	ended       chan struct{} // closed when a connect has succeeded
	lastFailure atomic.Int64  // when one failed last, ns since epoch
	timedOut    atomic.Bool   // it took all its time to fail
	began       time.Time

	mu  sync.Mutex
	err error // of the connect that failed last
}

// available says whether requests may go to the server. It is the one place that decides.
func (s *Server) available() bool { return s.outage.Load() == nil }

// lastResort says whether a request that finds no available server may try this one, and since when
// it has been left alone. One whose connects take long to fail is spared for a moment, so that
// requests do not pile up.
func (s *Server) lastResort(now time.Time) (since int64, ok bool) {
	o := s.outage.Load()
	if o == nil {
		return 0, true // it has just become available
	}
	since = o.lastFailure.Load()
	return since, !o.timedOut.Load() || int64(now.Sub(epoch))-since >= int64(s.backend.firstProbeDelay)
}

// unreachable notes that a connect failed.
func (s *Server) connectFailed(err error) {
	if !outageBy(err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	o := s.outage.Load()
	begins := o == nil
	if begins {
		o = &outage{ended: make(chan struct{}), began: time.Now()}
	}
	o.mu.Lock()
	o.err = err
	o.mu.Unlock()
	o.lastFailure.Store(int64(time.Since(epoch)))
	o.timedOut.Store(TimedOut(err))
	if begins {
		s.outage.Store(o)
		s.meter.Up(false)
		s.backend.background.start(s.task("probes"), func(ctx context.Context) { s.probeUntilReached(ctx, o) })
	}
}

// reached notes that a connect succeeded.
func (s *Server) connectSucceeded() {
	if s.available() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.outage.Swap(nil); o != nil {
		close(o.ended)
		if !s.closed {
			s.meter.Up(true)
		}
	}
}

// outageBy says whether a failed connect says that the server cannot be reached. The end of the
// gateway, a lack of resources of this host, or MPTCP that is required and was not negotiated, do
// not.
func outageBy(err error) bool {
	var handshake *TLSError
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &handshake), errors.As(err, &dns), errors.Is(err, ErrNoHTTP2):
		return true
	}
	return connectResult(err) != telemetry.ConnectError
}

// task is the name of a task for the server.
func (s *Server) task(what string) string {
	return "backend " + s.backend.Name() + ": " + what + " of " + s.Address
}

// reason is why the last connect failed.
func (o *outage) cause() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// report reports the outage if none of this server has been reported for a while, so that a server
// that fails now and then does not flood the log. told is whether this one has been reported
// before.
func (s *Server) report(o *outage, told bool) bool {
	f := s.backend.options.Down
	if f == nil || told {
		return told
	}
	s.mu.Lock()
	now := time.Now()
	soon := !s.reported.IsZero() && now.Sub(s.reported) < reportEvery
	if !soon {
		s.reported = now
	}
	s.mu.Unlock()
	if !soon {
		f(s.Address, o.cause())
	}
	return !soon
}

// revive probes the server until it answers. It also reports the outage, since no request has to
// wait for the log here.
func (s *Server) probeUntilReached(ctx context.Context, o *outage) {
	told := s.report(o, false)
	defer func() {
		select {
		case <-o.ended:
			if told && s.backend.options.Up != nil {
				s.backend.options.Up(s.Address, time.Since(o.began))
			}
		default:
		}
	}()
	rest := s.backend.firstProbeDelay
	timer := time.NewTimer(rest)
	defer timer.Stop()
	for ; ; timer.Reset(rest) {
		select {
		case <-timer.C:
		case <-o.ended:
			return
		case <-ctx.Done():
			return
		}
		if s.probe(ctx) == nil {
			return
		}
		told = s.report(o, told)
		rest = min(2*rest, maxProbeDelay)
	}
}

// probe dials the server as a request would, and keeps the connection for one that comes.
func (s *Server) probe(ctx context.Context) error {
	shared, one, err := s.dial(ctx, Addresses{}, s.mayShare(&Request{}))
	switch {
	case err != nil:
		return err
	case shared != nil:
		s.addShared(shared)
	case s.backend.options.SendProxy != 0:
		one.close() // its header names no client
	default:
		s.shared.notePick(true)
		s.putIdle(one, time.Now())
	}
	return nil
}

// stale reports that the server's name does not resolve, or with nil that it does again.
func (s *Server) reportStale(why error) {
	if f := s.backend.options.Stale; f != nil {
		f(s.Address, why)
	}
}
