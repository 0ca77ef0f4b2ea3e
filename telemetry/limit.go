package telemetry

import "sync/atomic"

// Limit is a limit of a route.
type Limit uint8

const (
	LimitBody     Limit = iota // bytes of a request's body
	LimitRate                  // requests in a time, for each key
	LimitPerKey                // requests at the same time, for each key
	LimitRequests              // requests at the same time
	limitCount
)

var limitNames = [limitCount]string{"body", "rate", "per_key", "requests"}

// String is the key in the configuration.
func (l Limit) String() string {
	if l >= limitCount {
		return ""
	}
	return limitNames[l]
}

// LimitMeter counts the requests beyond the limits of a route. Its methods may be called on nil.
type LimitMeter struct {
	in      *Instruments
	route   string
	refused [limitCount]atomic.Uint64
	dry     [limitCount]atomic.Uint64
	shared  Counter
}

// Limits returns the meter of the limits of a route, like Exchange.
func (in *Instruments) Limits(route string) *LimitMeter {
	if in == nil {
		return nil
	}
	return in.limits.take(route, func() *LimitMeter { return &LimitMeter{in: in, route: route} })
}

// Exceeded counts a request beyond a limit. With dryRun it was served.
func (m *LimitMeter) Exceeded(l Limit, dryRun bool) {
	switch {
	case m == nil || l >= limitCount:
	case dryRun:
		m.dry[l].Add(1)
	default:
		m.refused[l].Add(1)
	}
}

// Shared counts a request whose key found no room in a table.
func (m *LimitMeter) Shared() {
	if m != nil {
		m.shared.Inc()
	}
}

// Release gives the handle back; see Instruments.Limits.
func (m *LimitMeter) Release() {
	if m != nil {
		m.in.limits.release(m.route, m)
	}
}

func (m *LimitMeter) keep() bool {
	for i := range m.refused {
		if m.refused[i].Load()+m.dry[i].Load() > 0 {
			return true
		}
	}
	return m.shared.Value() > 0
}

func (m *LimitMeter) collect(s sink) {
	for i, name := range limitNames {
		if n := m.refused[i].Load(); n > 0 {
			s.counter(descLimitExceeded, n, m.route, name, "false")
		}
		if n := m.dry[i].Load(); n > 0 {
			s.counter(descLimitExceeded, n, m.route, name, "true")
		}
	}
	if n := m.shared.Value(); n > 0 {
		s.counter(descLimitShared, n, m.route)
	}
}
