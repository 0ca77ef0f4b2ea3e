package backend

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// leastShare is the part of its weight that a server has when its slow start begins.
const leastShare = 0.1

// slowStart lets the share of a server that has come back grow from a tenth of its weight to all of
// it, linearly over Options.SlowStart: its caches are cold, and it must not get the requests of all
// others that wait for it at once.
type slowStart struct {
	since atomic.Int64 // when the server came back, ns since epoch; 0: it has its whole weight
}

// slowShare returns the part of its weight that the server has at a time.
func (s *Server) slowShare(now time.Time) float64 {
	since := s.slow.since.Load()
	if since == 0 {
		return 1
	}
	full := s.backend.options.SlowStart
	passed := now.Sub(epoch) - time.Duration(since)
	if passed >= full {
		s.slow.since.CompareAndSwap(since, 0)
		return 1
	}
	return max(leastShare, float64(passed)/float64(full))
}

// useSlow is an Attempt.lot with which all servers are used that start slowly.
const useSlow = 1

// usesSlow reports whether the attempt may use a server that starts slowly: one of a part of all
// attempts, which is the share of the weight that the server has. An attempt draws one lot for all
// such servers, so that a balancer which looks at a server twice gets the same answer.
func (a *Attempt) usesSlow(s *Server, now time.Time) bool {
	if a.lot == 0 {
		a.lot = max(useSlow, rand.Uint32())
	}
	if float64(a.lot) <= s.slowShare(now)*(1<<32) {
		return true
	}
	a.passedOver = true
	return false
}

// startSlowly begins the slow start of a server that has come back or is new, if the backend has
// one.
func (s *Server) startSlowly(now time.Time) {
	if s.backend.options.SlowStart > 0 {
		s.slow.since.Store(max(1, int64(now.Sub(epoch))))
	}
}
