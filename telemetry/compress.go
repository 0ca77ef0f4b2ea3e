package telemetry

import "sync/atomic"

// CompressMeter counts the bodies of responses that were compressed. Its methods may be called on
// nil.
type CompressMeter struct {
	codings [len(codingNames)]struct{ before, after atomic.Uint64 }
	refused Counter
}

var codingNames = [...]string{"gzip", "zstd"}

// Add counts a body: its bytes before and after.
func (m *CompressMeter) Add(coding string, before, after int64) {
	if m == nil {
		return
	}
	for i, name := range codingNames {
		if name == coding {
			m.codings[i].before.Add(uint64(before))
			m.codings[i].after.Add(uint64(after))
		}
	}
}

// Refuse counts a body that was not compressed because the memory for that was used up.
func (m *CompressMeter) Refuse() {
	if m != nil {
		m.refused.Inc()
	}
}

func (m *CompressMeter) collect(s sink) {
	for i, name := range codingNames {
		if n := m.codings[i].before.Load(); n > 0 {
			s.counter(descCompressed, n, name, "before")
			s.counter(descCompressed, m.codings[i].after.Load(), name, "after")
		}
	}
	s.counter(descCompressRefused, m.refused.Value())
}
