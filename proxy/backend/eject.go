package backend

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"mpgate/telemetry"
)

const (
	// ejectWindow is the time over which the share of errors is counted, in parts of a second.
	ejectWindow = 10
	// ejectVolume is how many requests the window must have for their share to count.
	ejectVolume = 20
	// maxRest bounds an ejection, unless EjectOptions.Rest is longer.
	maxRest = 5 * time.Minute
)

// EjectOptions say which errors of a server, in responses to requests, take it out for a while. An
// error is a response of 5xx apart from 501, 505 and 508, an invalid or incomplete one, or none in
// time.
type EjectOptions struct {
	Errors int     // in a row; 0: they do not count
	Ratio  float64 // of the requests of the last 10 s, at least 20; 0: it does not count
	// Rest is how long the first ejection lasts; 10 s. The next one lasts twice as long, and so on,
	// up to 5 minutes. For each Rest without one it is one less.
	Rest time.Duration
	// Most is the share of the servers that may be ejected at a time; 0: 0.5. One always may be,
	// and never all.
	Most float64
}

// ejection is the time in which a server is ejected.
type ejection struct {
	began, until time.Time
	why          error
}

// text says why the server is ejected, and for how long still.
func (e *ejection) text(now time.Time) string {
	return fmt.Sprintf("ejected for %v: %v", e.until.Sub(now).Round(time.Second), e.why)
}

// outcomes counts how requests to a server ended, without locks: a count that is lost while a part
// of the window begins does no harm.
type outcomes struct {
	inRow atomic.Int32 // errors since the last success
	parts [ejectWindow]struct {
		second      atomic.Int64 // that it counts, since epoch
		all, errors atomic.Uint32
	}
	refused atomic.Int64 // 1 + the second in which an ejection was last refused
	// guarded by Backend.healthMu
	times int       // ejections that count
	ended time.Time // the last one
}

// note counts an outcome at a time since epoch.
func (o *outcomes) note(at time.Duration, failed bool) {
	second := int64(at / time.Second)
	p := &o.parts[second%ejectWindow]
	if was := p.second.Load(); was != second && p.second.CompareAndSwap(was, second) {
		p.all.Store(0)
		p.errors.Store(0)
	}
	p.all.Add(1)
	if !failed {
		if o.inRow.Load() != 0 {
			o.inRow.Store(0)
		}
		return
	}
	p.errors.Add(1)
	o.inRow.Add(1)
}

// recent returns the counts of the window.
func (o *outcomes) recent(at time.Duration) (all, errors uint32) {
	second := int64(at / time.Second)
	for i := range o.parts {
		if p := &o.parts[i]; second-p.second.Load() < ejectWindow {
			all += p.all.Load()
			errors += p.errors.Load()
		}
	}
	return all, errors
}

// reset forgets what was counted.
func (o *outcomes) reset() {
	o.inRow.Store(0)
	for i := range o.parts {
		o.parts[i].all.Store(0)
		o.parts[i].errors.Store(0)
	}
}

// NoteStatus records that the server that was picked last has answered with a status, for
// ejections. The request must have ended.
func (a *Attempt) NoteStatus(status int) {
	if a.server.backend.options.Eject != nil {
		a.server.noteOutcome(isFailure(status), func() string { return fmt.Sprintf("status %d", status) })
	}
}

// isFailure reports whether a status says that the server has failed. 501 and 505 are about what
// the client asked for, and 508 about a loop: this gateway may be a part of it.
func isFailure(status int) bool {
	return status >= 500 && status != 501 && status != 505 && status != 508
}

// NoteFailure records that the server that was picked last has not answered, or not completely.
func (a *Attempt) NoteFailure(why error) {
	if a.server.backend.options.Eject != nil {
		a.server.noteOutcome(true, why.Error)
	}
}

// noteOutcome counts, and ejects the server if it has too many errors.
func (s *Server) noteOutcome(failed bool, what func() string) {
	at := time.Since(epoch)
	s.outcomes.note(at, failed)
	if !failed || s.ejected.Load() != nil || s.outcomes.refused.Load() == 1+int64(at/time.Second) {
		return
	}
	o := s.backend.options.Eject
	if n := s.outcomes.inRow.Load(); o.Errors > 0 && int(n) >= o.Errors {
		text := "an error: " + what()
		if n > 1 {
			text = fmt.Sprintf("%d errors in a row, the last: %s", n, what())
		}
		s.eject(errors.New(text))
		return
	}
	if o.Ratio <= 0 {
		return
	}
	if all, failures := s.outcomes.recent(at); all >= ejectVolume && float64(failures) >= o.Ratio*float64(all) {
		s.eject(fmt.Errorf("%d of %d requests failed within %d s, the last: %s", failures, all, ejectWindow, what()))
	}
}

// eject takes the server out for a while, if enough others are left.
func (s *Server) eject(why error) {
	b := s.backend
	b.healthMu.Lock()
	if s.ejected.Load() != nil || s.isClosed() || !b.mayEject(s) {
		s.outcomes.refused.Store(1 + int64(time.Since(epoch)/time.Second))
		b.healthMu.Unlock()
		return
	}
	now := time.Now()
	rest, o := s.backend.options.Eject.Rest, &s.outcomes
	if o.times > 0 {
		o.times = max(0, o.times-int(now.Sub(o.ended)/rest))
	}
	o.times++
	long := rest
	for range o.times - 1 {
		if long = 2 * long; long >= maxRest {
			break
		}
	}
	e := &ejection{began: now, until: now.Add(max(rest, min(long, maxRest))), why: why}
	s.beginEjection(e, false)
	b.healthMu.Unlock()
	s.changed(telemetry.ChangeEject, telemetry.ServerDown)
}

// isClosed reports whether the server is no longer used for new requests: another generation may
// have one with the same meter.
func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// mayEject reports whether the server may be ejected, too: at most Most of the servers are, and
// another one must be left. healthMu is held.
func (b *Backend) mayEject(s *Server) bool {
	servers, ejected, left := 0, 0, 0
	for _, t := range b.list() {
		if t.weight.Load() == 0 || AdminState(t.admin.Load()) != AdminUp {
			continue
		}
		servers++
		if t.ejected.Load() != nil {
			ejected++
		} else if t != s && t.healthy() {
			left++
		}
	}
	return left > 0 && ejected < max(1, int(b.options.Eject.Most*float64(servers)))
}

// beginEjection begins an ejection; resumed: it was reported before. healthMu is held.
func (s *Server) beginEjection(e *ejection, resumed bool) {
	s.ejected.Store(e)
	s.start("ejection", func(ctx context.Context) {
		reported := s.report(func() error { return errors.New(e.text(time.Now())) }, resumed)
		timer := time.NewTimer(time.Until(e.until))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		s.endEjection(e)
		s.reportUp(reported, e.began)
	})
}

// endEjection lets the server have requests again.
func (s *Server) endEjection(e *ejection) {
	b := s.backend
	b.healthMu.Lock()
	now := time.Now()
	s.outcomes.reset()
	s.outcomes.ended = now
	ended := s.ejected.CompareAndSwap(e, nil)
	s.startSlowly(now)
	b.healthMu.Unlock()
	if ended {
		s.changed(telemetry.ChangeEject, telemetry.ServerUp)
	}
}
