package telemetry

import (
	"sync/atomic"
	"time"
)

// QueueResult is the outcome of a wait in the queue of a backend.
type QueueResult uint8

const (
	QueueServed  QueueResult = iota // the request got a place at a server
	QueueFull                       // too many requests were waiting
	QueueTimeout                    // it waited as long as it may
	QueueLeft                       // the client left, or the gateway ends
	queueResultCount
)

var queueResultNames = [queueResultCount]string{"served", "full", "timeout", "left"}

// HedgeResult is the outcome of a second copy of a request.
type HedgeResult uint8

const (
	HedgeNone       HedgeResult = iota // there was no copy
	HedgeWon                           // it was answered first
	HedgeLost                          // the first one was answered first, or none was
	HedgeOverBudget                    // it was not sent, because of the budget
	hedgeResultCount
)

var hedgeResultNames = [hedgeResultCount]string{"", "won", "lost", "over_budget"}

// String is the name of the result in the metrics and the access log; "" if there was no copy.
func (r HedgeResult) String() string { return hedgeResultNames[r] }

// BackendMeter counts what is about a backend as a whole. Its methods may be called on nil.
type BackendMeter struct {
	in   *Instruments
	name string

	waiting        atomic.Int64
	results        [queueResultCount]atomic.Uint64
	waited         histogram
	retriesRefused atomic.Uint64
	hedges         [hedgeResultCount]atomic.Uint64
}

// Backend returns the meter of a backend, like Exchange.
func (in *Instruments) Backend(name string) *BackendMeter {
	if in == nil {
		return nil
	}
	return in.backends.take(name, func() *BackendMeter { return &BackendMeter{in: in, name: name} })
}

// Waiting adds delta to the number of requests in the queue.
func (m *BackendMeter) Waiting(delta int) {
	if m != nil {
		m.waiting.Add(int64(delta))
	}
}

// Queued counts a request that was in the queue, or found it full.
func (m *BackendMeter) Queued(r QueueResult, waited time.Duration) {
	if m != nil && r < queueResultCount {
		m.results[r].Add(1)
		m.waited.observe(waited)
	}
}

// RetryRefused counts a request that was not sent again because of the budget.
func (m *BackendMeter) RetryRefused() {
	if m != nil {
		m.retriesRefused.Add(1)
	}
}

// Hedged counts the outcome of a second copy of a request.
func (m *BackendMeter) Hedged(r HedgeResult) {
	if m != nil {
		m.hedges[r].Add(1)
	}
}

func (m *BackendMeter) hedged() bool {
	for i := range m.hedges {
		if m.hedges[i].Load() > 0 {
			return true
		}
	}
	return false
}

// Release ends the use of the handle; see Instruments.Backend.
func (m *BackendMeter) Release() {
	if m != nil {
		m.in.backends.release(m.name, m)
	}
}

func (m *BackendMeter) queued() bool {
	for i := range m.results {
		if m.results[i].Load() > 0 {
			return true
		}
	}
	return m.waiting.Load() != 0
}

func (m *BackendMeter) keep() bool { return m.queued() || m.hedged() || m.retriesRefused.Load() > 0 }

// collect omits what has not happened: most backends have no queue.
func (m *BackendMeter) collect(s sink, inUse bool) {
	if m.queued() {
		s.level(descQueueRequests, m.waiting.Load(), inUse, m.name)
		s.histogram(descQueueTime, &m.waited, m.name)
		for i, name := range queueResultNames {
			if n := m.results[i].Load(); n > 0 {
				s.counter(descQueued, n, m.name, name)
			}
		}
	}
	if n := m.retriesRefused.Load(); n > 0 {
		s.counter(descRetriesRefused, n, m.name)
	}
	for i, name := range hedgeResultNames {
		if n := m.hedges[i].Load(); n > 0 {
			s.counter(descHedged, n, m.name, name)
		}
	}
}
