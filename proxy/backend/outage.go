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
	// firstProbeDelay is the time from a failed connect to the first probe of the server.
	firstProbeDelay = time.Second
	// maxProbeDelay bounds the time between two probes. No request waits for a probe.
	maxProbeDelay = 8 * time.Second
	// reportEvery is the shortest time between two reports that the same server is down.
	reportEvery = 10 * time.Second
)

// outage is the time in which a server cannot be reached. Requests go to other servers, and a task
// probes this one, by the check of the backend, until it can be reached:
//
//	no outage ── a connect fails ──► outage: delay ─► probe ──fails──► twice the delay ─► probe …
//	    ▲                                               │
//	    └─── a connect succeeds: of the probe, or of a request that found no available server
type outage struct {
	began       time.Time
	ended       chan struct{} // closed when a connect has succeeded
	lastFailure atomic.Int64  // when a connect last failed, ns since epoch
	timedOut    atomic.Bool   // that connect took until the timeout to fail

	mu  sync.Mutex
	err error // of that connect
}

// connectFailed records a failed connect.
func (s *Server) connectFailed(err error) {
	if !meansOutage(err) {
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
		s.start("probes", func(ctx context.Context) { s.probeUntilReached(ctx, o) })
	}
}

// connectSucceeded records a successful connect.
func (s *Server) connectSucceeded() {
	if s.outage.Load() == nil {
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

// meansOutage reports whether the error of a connect means that the server cannot be reached. The
// end of the gateway, a shortage on this host, and MPTCP that is required but was not negotiated do
// not mean that.
func meansOutage(err error) bool {
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

// cause returns the error of the last connect.
func (o *outage) cause() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// probeUntilReached runs the check of the backend until it succeeds or the outage ends. It also
// reports the outage, so that no request waits for the log.
func (s *Server) probeUntilReached(ctx context.Context, o *outage) {
	reported := s.report(o, false)
	defer func() {
		select {
		case <-o.ended:
			if reported && s.backend.options.Up != nil {
				s.backend.options.Up(s.Address, time.Since(o.began))
			}
		default:
		}
	}()
	delay := s.backend.firstProbeDelay
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for ; ; timer.Reset(delay) {
		select {
		case <-timer.C:
		case <-o.ended:
			return
		case <-ctx.Done():
			return
		}
		if s.backend.check.run(ctx, s) == nil {
			return
		}
		reported = s.report(o, reported)
		delay = min(2*delay, maxProbeDelay)
	}
}

// report reports the outage, unless an outage of this server was reported recently: a server that
// fails now and then must not flood the log. It returns whether this outage has been reported, now
// or before.
func (s *Server) report(o *outage, before bool) bool {
	f := s.backend.options.Down
	if f == nil || before {
		return before
	}
	s.mu.Lock()
	now := time.Now()
	recent := !s.reported.IsZero() && now.Sub(s.reported) < reportEvery
	if !recent {
		s.reported = now
	}
	s.mu.Unlock()
	if !recent {
		f(s.Address, o.cause())
	}
	return !recent
}
