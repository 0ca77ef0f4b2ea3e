package backend

import (
	"fmt"
	"slices"
	"time"

	"mpgate/telemetry"
)

// AdminState is what an operator has asked of a server. It is independent of the server's health.
type AdminState uint32

const (
	// AdminUp: requests, as far as its health allows.
	AdminUp AdminState = iota
	// AdminDrain: nothing new, only requests that belong to it, such as those with its cookie.
	AdminDrain
	// AdminDown: nothing at all; requests in progress end.
	AdminDown
)

var adminStates = [...]string{"up", "drain", "down"}

var adminChanges = [...]telemetry.ServerChange{telemetry.ServerUp, telemetry.ServerDrain, telemetry.ServerDown}

func (a AdminState) String() string { return adminStates[a] }

// MarshalText makes the text independent of the order of the states, for a later process.
func (a AdminState) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

func (a *AdminState) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAdminState(string(text))
	return err
}

// ParseAdminState returns the state with a name: up, drain or down.
func ParseAdminState(name string) (AdminState, error) {
	if i := slices.Index(adminStates[:], name); i >= 0 {
		return AdminState(i), nil
	}
	return 0, fmt.Errorf(`invalid state %q; must be "drain", "down" or "up"`, name)
}

// SetAdminState sets the state of the servers with an address. It returns how many there are, and
// the number of requests that they have in progress.
func (b *Backend) SetAdminState(address string, to AdminState) (servers int, inProgress int64) {
	for _, s := range b.list() {
		if s.Address == address {
			s.setAdminState(to)
			servers++
			inProgress += s.inFlight.Load()
		}
	}
	return servers, inProgress
}

func (s *Server) setAdminState(to AdminState) {
	if AdminState(s.admin.Swap(uint32(to))) == to {
		return
	}
	if to == AdminUp {
		s.startSlowly(time.Now())
		if o := s.outage.Load(); o != nil {
			o.want()
		}
	} else {
		s.closeUnused(to == AdminDown)
	}
	s.meter.Drained(to != AdminUp)
	s.changed(telemetry.ChangeAdmin, adminChanges[to])
}

// closeUnused closes the idle connections; shared ones end after their exchanges. With all, it
// closes those that belong to a client, and the one for checks, too.
func (s *Server) closeUnused(all bool) {
	s.shared.endConns()
	s.mu.Lock()
	idle := s.idle
	s.idle = nil
	if all {
		for _, list := range s.owned {
			idle = append(idle, list...)
		}
		s.owned = nil
	}
	s.mu.Unlock()
	s.closeIdle(idle)
}

// endConns makes the present connections end after their exchanges.
func (h *sharedConns) endConns() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close()
	}
}
