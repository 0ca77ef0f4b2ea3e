package telemetry

import "sync/atomic"

// MirrorResult is the outcome of a copy of a request.
type MirrorResult uint8

const (
	MirrorSent       MirrorResult = iota // a server has answered
	MirrorFailed                         // no server has answered
	MirrorDropped                        // too many copies were waiting
	MirrorTooLarge                       // the body of the request is too large
	MirrorIncomplete                     // the body of the request did not come whole
	mirrorCount
)

var mirrorNames = [mirrorCount]string{"sent", "failed", "dropped", "too_large", "incomplete"}

type mirrorKey struct{ route, backend string }

// MirrorMeter counts the copies of the requests of a route. Its methods may be called on nil.
type MirrorMeter struct {
	in      *Instruments
	key     mirrorKey
	results [mirrorCount]atomic.Uint64
}

// Mirror returns the meter of the copies that a route sends to a backend, like Exchange.
func (in *Instruments) Mirror(route, backend string) *MirrorMeter {
	if in == nil {
		return nil
	}
	k := mirrorKey{route, backend}
	return in.mirrors.take(k, func() *MirrorMeter { return &MirrorMeter{in: in, key: k} })
}

// Count counts a copy, or a request that was not copied.
func (m *MirrorMeter) Count(r MirrorResult) {
	if m != nil && r < mirrorCount {
		m.results[r].Add(1)
	}
}

// Release gives the handle back; see Instruments.Mirror.
func (m *MirrorMeter) Release() {
	if m != nil {
		m.in.mirrors.release(m.key, m)
	}
}

func (m *MirrorMeter) keep() bool {
	for i := range m.results {
		if m.results[i].Load() > 0 {
			return true
		}
	}
	return false
}

func (m *MirrorMeter) collect(s sink) {
	for i, name := range mirrorNames {
		if n := m.results[i].Load(); n > 0 {
			s.counter(descMirror, n, m.key.route, m.key.backend, name)
		}
	}
}
