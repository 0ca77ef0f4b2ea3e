package backend

import (
	"math"
	"sync/atomic"
	"time"
)

const latencyName = "latency"

const (
	// latencyDecay is the time in which the weight of an answer in the average falls to 1/e.
	latencyDecay = 10 * time.Second
	// latencyRecent is how long an answer says something about a server.
	latencyRecent = 10 * time.Second
	// minProbeWait and maxProbeWait bound the time until a server without recent answers gets
	// another request, if it has not answered the last one.
	minProbeWait = time.Second
	maxProbeWait = 8 * time.Second
	// probeShare is the share of requests, one of so many, that may probe a server which would
	// otherwise not be chosen.
	probeShare = 16
	// maxPairs bounds how often two servers are drawn for one request.
	maxPairs = 3
)

// fastest uses the one of two random servers that is likely to answer sooner: by the average time
// of its answers, times the requests that it has. The average follows a slower answer at once, and
// faster ones slowly (peak EWMA, as in Finagle): a server that becomes slow loses requests before
// many of them wait.
//
// A server that has not answered recently, or never, is probed: it gets one request at a time until
// it answers. If its connections are slower than the answers of others, that has time: see rtt.go.
type fastest struct {
	sampler
	weight float64 // of an average server
}

func newLatency(servers []*Server) balancer {
	total := int64(0)
	for _, s := range servers {
		total += s.weight.Load()
	}
	return &fastest{newSampler(servers), float64(total) / float64(len(servers))}
}

func (f *fastest) pick(a *Attempt, now time.Time) *Server {
	at := int64(now.Sub(epoch))
	var s *Server
	for range maxPairs {
		first, second := f.two(a, now)
		if first == nil {
			return nil
		}
		if second == nil {
			s = first
			break
		}
		var sure bool
		if s, sure = f.faster(first, second, at); sure {
			break
		}
	}
	s.latency.begin(at, s.inFlight.Load() == 0)
	return s
}

// faster chooses one of two servers. It is not sure if both are already being probed.
func (f *fastest) faster(s, t *Server, at int64) (best *Server, sure bool) {
	if f.cost(t, at) < f.cost(s, at) {
		s, t = t, s
	}
	recent, other := s.latency.recent(at), t.latency.recent(at)
	if !other && recent && f.random()%probeShare == 0 && t.latency.probe(at) {
		return t, true
	}
	switch {
	case recent || s.latency.probe(at):
		return s, true
	case other || t.latency.probe(at):
		return t, true
	case t.lighter(s):
		return t, false
	}
	return s, false
}

// latency is what is known about the time in which a server answers. Times are in ns since epoch; 0
// is never.
type latency struct {
	average  atomic.Uint64 // of the time to the head of a response: a float64, in ns
	answered atomic.Int64  // when it last answered
	waiting  atomic.Int64  // when the first request since then was sent
	probed   atomic.Int64  // when it was last probed
	rtt      atomic.Int64  // of a connection, in ns; 0: not known
}

// recent reports whether the server has answered recently.
func (l *latency) recent(at int64) bool {
	t := l.answered.Load()
	return t != 0 && at-t < int64(latencyRecent)
}

// probe reports whether the server may be probed now, and notes that it is.
func (l *latency) probe(at int64) bool {
	last, answered := l.probed.Load(), l.answered.Load()
	wait := max(int64(minProbeWait), min((last-answered)/2, int64(maxProbeWait)))
	free := last == 0 || answered >= last || at-last >= wait
	return free && l.probed.CompareAndSwap(last, at)
}

// cost is how long a request to the server is likely to take. The average decays while no answers
// come, down to the round-trip time. A server that lets requests wait for longer than the average
// has no better cost than the time that they have waited.
func (f *fastest) cost(s *Server, at int64) float64 {
	l := &s.latency
	average := math.Float64frombits(l.average.Load())
	// The decay of a shorter time does not matter.
	if age := at - l.answered.Load(); age > int64(latencyDecay)/64 {
		average *= math.Exp(-float64(age) / float64(latencyDecay))
	}
	if !l.recent(at) {
		average = max(average, float64(l.rtt.Load()))
	}
	n := s.load()
	if since := l.waiting.Load(); since != 0 && n > 0 {
		average = max(average, float64(at-since))
	}
	return average * (1 + float64(n)*f.weight/float64(s.weight.Load()))
}

// begin notes that a request is being sent. alone: it is the only one.
func (l *latency) begin(at int64, alone bool) {
	if alone || l.waiting.Load() == 0 {
		l.waiting.Store(at)
	}
}

// answer notes an answer that took so long. Without recent answers before it, the average begins
// anew. One that reports a failure of the server does not lower the average: it says nothing about
// the time of a proper answer. A server that has only failed is probed like one that does not
// answer.
func (l *latency) answer(took time.Duration, failed bool, at int64) {
	l.waiting.Store(0)
	if failed && !l.recent(at) {
		l.late(took)
		return
	}
	age := at - l.answered.Swap(max(1, at))
	keep := math.Exp(-float64(max(0, age)) / float64(latencyDecay))
	for {
		old := l.average.Load()
		average, sample := math.Float64frombits(old), float64(max(1, took))
		switch {
		case sample >= average || age >= int64(latencyRecent):
			average = sample
		case !failed:
			average = average*keep + sample*(1-keep)
		}
		if l.average.CompareAndSwap(old, math.Float64bits(average)) {
			return
		}
	}
}

// late notes that the server has not answered within that time.
func (l *latency) late(waited time.Duration) {
	for {
		old := l.average.Load()
		if float64(waited) <= math.Float64frombits(old) || l.average.CompareAndSwap(old, math.Float64bits(float64(waited))) {
			return
		}
	}
}

// NoteAnswer tells how long the server has taken from the request to the head of its final
// response, or how long it was waited for in vain, with the status 0. took is 0 if the server did
// not have the whole request.
func (a *Attempt) NoteAnswer(took time.Duration, status int, now time.Time) {
	switch {
	case !a.backend.notesLatency:
	case status == 0:
		a.server.latency.late(took)
	default:
		a.server.latency.answer(took, status >= 500 || took == 0, int64(now.Sub(epoch)))
	}
}
