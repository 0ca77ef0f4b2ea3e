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

// BackendMeter counts what is about a backend as a whole. Its methods may be called on nil.
type BackendMeter struct {
	in   *Instruments
	name string

	waiting        atomic.Int64
	results        [queueResultCount]atomic.Uint64
	waited         histogram
	retriesRefused atomic.Uint64
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

func (m *BackendMeter) keep() bool { return m.queued() || m.retriesRefused.Load() > 0 }

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
}
