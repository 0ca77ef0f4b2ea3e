package telemetry

import (
	"fmt"
	"slices"
	"sync/atomic"
)

// ChangeReason is why a server gets requests again, or gets none.
type ChangeReason uint8

const (
	ChangeConnect ChangeReason = iota // a connect of a request failed
	ChangeCheck                       // checks failed
	ChangeEject                       // too many errors in responses
	ChangeAdmin                       // an operator said so
	changeCount
)

var changeNames = [changeCount]string{"connect", "check", "eject", "admin"}

func (r ChangeReason) String() string { return changeNames[min(r, changeCount-1)] }

// MarshalText makes the text independent of the order of the reasons, for a later process.
func (r ChangeReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r *ChangeReason) UnmarshalText(text []byte) error {
	i := slices.Index(changeNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("unknown reason %q", text)
	}
	*r = ChangeReason(i)
	return nil
}

// ServerChange is what a server changes to.
type ServerChange uint8

const (
	ServerDown  ServerChange = iota // it gets no requests
	ServerUp                        // it gets requests again
	ServerDrain                     // it gets no new clients
	serverChanges
)

var serverChangeNames = [serverChanges]string{"down", "up", "drain"}

// serverHealth is what a ServerMeter counts of the health of its server.
type serverHealth struct {
	down    atomic.Bool
	drained atomic.Bool
	changes [changeCount][serverChanges]atomic.Uint64
	checks  [2]atomic.Uint64 // failed, ok
}

// Up sets whether requests may be sent to the server, as far as its health decides.
func (m *ServerMeter) Up(up bool) {
	if m != nil {
		m.health.down.Store(!up)
	}
}

// Drained sets whether an operator has asked for no new requests to the server.
func (m *ServerMeter) Drained(drained bool) {
	if m != nil {
		m.health.drained.Store(drained)
	}
}

// Changed counts a change of the server.
func (m *ServerMeter) Changed(why ChangeReason, to ServerChange) {
	if m != nil && why < changeCount {
		m.health.changes[why][to].Add(1)
	}
}

// Checked counts a check of the server.
func (m *ServerMeter) Checked(ok bool) {
	if m != nil {
		m.health.checks[boolIndex(ok)].Add(1)
	}
}

func boolIndex(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (h *serverHealth) collect(s sink, inUse bool, backend, server string) {
	if inUse {
		s.gauge(descBackendUp, boolValue(!h.down.Load()), backend, server)
	}
	// For a server that was never drained the series says nothing.
	if drained := h.drained.Load(); inUse && (drained || h.changes[ChangeAdmin][ServerUp].Load() > 0) {
		s.gauge(descBackendDrained, boolValue(drained), backend, server)
	}
	for why := range h.changes {
		for to, name := range serverChangeNames {
			if n := h.changes[why][to].Load(); n > 0 {
				s.counter(descBackendChanges, n, backend, server, name, changeNames[why])
			}
		}
	}
	for i, name := range [...]string{"failed", "ok"} {
		if n := h.checks[i].Load(); n > 0 {
			s.counter(descBackendChecks, n, backend, server, name)
		}
	}
}

// BackendHealthMeter shows the health of a backend as a whole.
type BackendHealthMeter struct {
	in     *Instruments
	name   string
	panics atomic.Bool
}

// BackendHealth returns the meter of a backend, like Exchange.
func (in *Instruments) BackendHealth(name string) *BackendHealthMeter {
	if in == nil {
		return nil
	}
	return in.healths.take(name, func() *BackendHealthMeter { return &BackendHealthMeter{in: in, name: name} })
}

// Panics sets whether too few servers are healthy, so that their health counts for less.
func (m *BackendHealthMeter) Panics(on bool) {
	if m != nil {
		m.panics.Store(on)
	}
}

// Release ends the use of the handle; see Instruments.BackendHealth.
func (m *BackendHealthMeter) Release() {
	if m != nil {
		m.in.healths.release(m.name, m)
	}
}

func (m *BackendHealthMeter) keep() bool { return false }

func (m *BackendHealthMeter) collect(s sink, inUse bool) {
	if inUse {
		s.gauge(descBackendPanic, boolValue(m.panics.Load()), m.name)
	}
}
