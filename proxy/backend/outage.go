package backend

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
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

// outage is the time in which a server cannot be reached, or fails its checks. Requests go to other
// servers, and a task probes this one, by the check of the backend, until it succeeds as often as
// the check says:
//
//	no outage ── a connect fails, or the last of `fall` checks ──► outage: delay ─► probe ──fails──► longer delay ─► probe …
//	    ▲                                                            │
//	    └─── `rise` probes succeed; without checks: any connect ◄─────┘
//
// There is one probe at a time, beside the requests.
type outage struct {
	began  time.Time
	ended  chan struct{} // closed at the end
	wanted chan struct{} // buffers one signal: a request finds no server; see probeDelay
	reason telemetry.ChangeReason

	lastFailure atomic.Int64 // when a connect or a check last failed, ns since epoch
	silent      atomic.Bool  // the last connect got no answer: another one would wait, too
	reachable   atomic.Bool  // a check failed on a connection that could be made

	mu  sync.Mutex
	err error // of the last failure
}

// connectFailed records a failed connect of a request.
func (s *Server) connectFailed(err error) {
	if meansOutage(err) {
		s.fail(telemetry.ChangeConnect, err)
	}
}

// fail records a failure, and begins an outage if there is none.
func (s *Server) fail(reason telemetry.ChangeReason, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	o := s.outage.Load()
	begins := o == nil
	if begins {
		o = newOutage(reason)
	}
	o.note(err)
	if begins {
		s.begin(o)
	}
	s.mu.Unlock()
	if begins {
		s.changed(reason, telemetry.ServerDown)
	}
}

func newOutage(reason telemetry.ChangeReason) *outage {
	return &outage{ended: make(chan struct{}), wanted: make(chan struct{}, 1), began: time.Now(), reason: reason}
}

// begin begins an outage. s.mu is held.
func (s *Server) begin(o *outage) {
	s.outage.Store(o)
	s.probe(o, false)
}

// probe tries to reach the server until the outage ends; resumed: another process or generation has
// reported it.
func (s *Server) probe(o *outage, resumed bool) {
	s.start("probes", func(ctx context.Context) { s.probeUntilReached(ctx, o, resumed) })
}

// note records a failure.
func (o *outage) note(err error) {
	o.mu.Lock()
	o.err = err
	o.mu.Unlock()
	o.lastFailure.Store(max(1, int64(time.Since(epoch))))
	o.silent.Store(isSilence(err))
	o.reachable.Store(!meansOutage(err))
}

// connectSucceeded records a successful connect of a request. If the backend has checks, only they
// say that a server works.
func (s *Server) connectSucceeded() {
	o := s.outage.Load()
	switch {
	case o == nil:
	case s.backend.options.Check == nil:
		s.endOutage()
	default:
		o.silent.Store(false)
	}
}

// endOutage ends the outage, if there is one.
func (s *Server) endOutage() {
	s.mu.Lock()
	o := s.outage.Swap(nil)
	if o != nil {
		close(o.ended)
		s.startSlowly(time.Now())
	}
	closed := s.closed
	s.mu.Unlock()
	if o != nil && !closed {
		s.changed(o.reason, telemetry.ServerUp)
	}
}

// changed is called after the health of the server has changed, or what an operator asks of it.
func (s *Server) changed(reason telemetry.ChangeReason, to telemetry.ServerChange) {
	s.meter.Changed(reason, to)
	s.showHealth()
	s.backend.recount()
}

// showHealth shows in the metrics whether the server is healthy.
func (s *Server) showHealth() { s.meter.Up(s.healthy()) }

// meansOutage reports whether the error of a connect means that the server cannot be reached. The
// end of the gateway, a shortage on this host, and MPTCP that is required but was not negotiated do
// not mean that.
func meansOutage(err error) bool {
	var handshake *TLSError
	var dns *net.DNSError
	var short *ShortError
	var answer *checkError
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, &short), errors.As(err, &answer):
		return false
	case errors.As(err, &handshake), errors.As(err, &dns), errors.Is(err, ErrNoHTTP2):
		return true
	}
	return connectResult(err) != telemetry.ConnectError
}

// isSilence reports whether a connect failed because nothing answered, which takes long: at the
// timeout, or after the kernel has asked for the address of a neighbour for 3 s.
func isSilence(err error) bool {
	return meansOutage(err) && (TimedOut(err) || errors.Is(err, syscall.EHOSTUNREACH))
}

// cause returns the error of the last failure.
func (o *outage) cause() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// want asks for a probe soon: a request finds no server.
func (o *outage) want() {
	select {
	case o.wanted <- struct{}{}:
	default:
	}
}

// probeUntilReached runs the check of the backend until it has succeeded often enough, or the
// outage ends otherwise. It also reports the outage, so that no request waits for the log.
func (s *Server) probeUntilReached(ctx context.Context, o *outage, resumed bool) {
	reported := s.report(o.cause, resumed)
	defer func() {
		select {
		case <-o.ended:
			s.reportUp(reported, o.began)
		default:
		}
	}()
	first := s.backend.firstProbeDelay
	delay, next := first, s.probeDelay(o, first)
	if resumed {
		next = 0
	}
	for passed := 0; ; {
		if !s.awaitProbe(ctx, o, next) {
			return
		}
		if AdminState(s.admin.Load()) == AdminDown {
			next = delay
			continue
		}
		err := s.check(ctx)
		switch {
		case err == nil:
			if passed++; passed >= s.backend.options.Check.rise() {
				s.endOutage()
				return
			}
			delay = first
			o.silent.Store(false)
		case ctx.Err() != nil:
			return
		case isShortage(err): // it says nothing about the server
		default:
			passed = 0
			o.note(err)
			reported = s.report(o.cause, reported)
		}
		next, delay = s.probeDelay(o, delay), min(2*delay, maxProbeDelay)
	}
}

// probeDelay returns the time to the next probe, given the usual one. Of a server that fails its
// checks it is the interval of the checks, otherwise at most that.
func (s *Server) probeDelay(o *outage, usual time.Duration) time.Duration {
	c := s.backend.options.Check
	if c == nil || usual < c.Interval && !o.reachable.Load() {
		return usual
	}
	return jitter(c.Interval)
}

// awaitProbe waits until it is time for the next probe: after the delay, or sooner if requests find
// no server, but no sooner than firstProbeDelay after a failure. It returns false if the outage or
// the server ends.
func (s *Server) awaitProbe(ctx context.Context, o *outage, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for wanted := o.wanted; ; wanted = nil {
		select {
		case <-timer.C:
			return true
		case <-o.ended:
			return false
		case <-ctx.Done():
			return false
		case <-wanted:
			since := time.Since(epoch) - time.Duration(o.lastFailure.Load())
			timer.Reset(min(delay, max(0, s.backend.firstProbeDelay-since)))
		}
	}
}

// report reports that the server is down, unless that was reported recently: a server that fails
// now and then must not flood the log. It returns whether this outage or ejection has been
// reported, now or before.
func (s *Server) report(why func() error, before bool) bool {
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
		f(s.Address, why())
	}
	return !recent
}

// reportUp reports that the server is back, if it was reported that it is down.
func (s *Server) reportUp(reported bool, began time.Time) {
	if f := s.backend.options.Up; f != nil && reported {
		f(s.Address, time.Since(began))
	}
}
