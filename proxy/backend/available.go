package backend

import (
	"context"
	"time"
)

// availability is whether requests may be sent to a server.
type availability uint8

const (
	unavailable  availability = iota // no request
	keptOnly                         // only a request that belongs to the server; see mayKeep
	asLastResort                     // only a request for which no server is available
	available                        // any request
)

// panicShare is the share of the servers that must be healthy. With fewer, health counts for less;
// see Backend.recount.
const panicShare = 0.5

// available reports whether requests may be sent to the server. All decisions about that are made
// here, from the first to the last:
//
//  1. What the operator asked for. A server that is down gets nothing; one that is drained gets
//     only what belongs to it.
//  2. A server that did not answer the last connect gets nothing until a probe succeeds, so that no
//     request waits for the connect timeout.
//  3. If too few servers are healthy, those count again that fail a check or were ejected: the
//     others would not carry the load, and what is wrong may be the check.
//  4. A server that is not healthy is a last resort.
//  5. So is one on which a connect has been waiting for longer than a lost packet explains.
func (s *Server) available(now time.Time) availability {
	switch AdminState(s.admin.Load()) {
	case AdminDown:
		return unavailable
	case AdminDrain:
		return keptOnly
	}
	o := s.outage.Load()
	switch {
	case o != nil && o.silent.Load():
		return unavailable
	case o == nil && s.ejected.Load() == nil:
		if s.connecting.tooLong(now) {
			return asLastResort
		}
		return available
	case s.backend.panics.Load() && (o == nil || o.reachable.Load()):
		return available
	}
	return asLastResort
}

// mayKeep reports whether a request that belongs to the server, because of a cookie, may be sent to
// it: also while the server is drained.
func (s *Server) mayKeep(now time.Time) bool {
	switch s.available(now) {
	case available:
		return true
	case keptOnly:
		return s.healthy()
	}
	// A connect that waits does not part a client from its session.
	return s.healthy() && AdminState(s.admin.Load()) == AdminUp
}

// mayTry reports whether the server may be used as a last resort. If it may not because it did not
// answer, it is probed soon.
func (s *Server) mayTry(now time.Time) bool {
	if s.available(now) >= asLastResort {
		return true
	}
	if o := s.outage.Load(); o != nil {
		o.want()
	}
	return false
}

// healthy reports whether neither an outage nor an ejection keeps requests from the server.
func (s *Server) healthy() bool { return s.outage.Load() == nil && s.ejected.Load() == nil }

// recount is called after the health of a server or the list of servers has changed. It decides
// whether too few servers are healthy. Servers that an operator took out do not count.
func (b *Backend) recount() {
	b.healthMu.Lock()
	defer b.healthMu.Unlock()
	healthy, servers := b.countHealthy(false)
	panics := float64(healthy) < panicShare*float64(servers)
	if spare, _ := b.countHealthy(true); spare > 0 {
		panics = false // that is what they are for
	}
	if b.panics.Swap(panics) == panics {
		return
	}
	b.health.Panics(panics)
	if b.options.Panic != nil && !b.panicReports {
		b.panicReports = true
		b.background.start("backend "+b.Name()+": reports", b.reportPanics)
	}
}

// countHealthy counts the servers of the first tier, or those of the others, that an operator has
// not taken out.
func (b *Backend) countHealthy(spare bool) (healthy, servers int) {
	for i, t := range b.members.Load().tiers {
		if spare != (i > 0) {
			continue
		}
		for _, s := range t.servers {
			if AdminState(s.admin.Load()) != AdminUp {
				continue
			}
			servers++
			if s.healthy() {
				healthy++
			}
		}
	}
	return healthy, servers
}

// reportPanics reports a change of panics, in a task of its own, so that no request waits for it.
// Servers that go up and down must not flood the log: the next report follows after a while, if the
// state is then another one.
func (b *Backend) reportPanics(ctx context.Context) {
	timer := time.NewTimer(reportEvery)
	defer timer.Stop()
	for {
		on := b.panics.Load()
		healthy, servers := b.countHealthy(false)
		b.options.Panic(on, healthy, servers)
		timer.Reset(reportEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if b.panicsStay(on) {
			return
		}
	}
}

// panicsStay ends the reports if there is nothing new to report.
func (b *Backend) panicsStay(on bool) bool {
	b.healthMu.Lock()
	defer b.healthMu.Unlock()
	b.panicReports = b.panics.Load() != on
	return !b.panicReports
}

// lastFailure returns when the server last failed in the present outage, in ns since epoch; 0 means
// that there is no outage.
func (s *Server) lastFailure() int64 {
	if o := s.outage.Load(); o != nil {
		return o.lastFailure.Load()
	}
	return 0
}
