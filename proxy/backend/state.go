package backend

import (
	"errors"
	"time"

	"mpgate/telemetry"
)

// ServerState is what a later backend, of another generation or process, takes over of a server.
// Times are those of the wall clock.
type ServerState struct {
	Address string
	Admin   AdminState `json:",omitzero"`
	// Health is the Options.Health of the backend. What follows is used only where it is the same:
	// a server whose check or protocol has changed is judged anew.
	Health string                 `json:",omitzero"`
	Down   time.Time              `json:",omitzero"` // when its outage began; zero: there is none
	Reason telemetry.ChangeReason `json:",omitzero"`
	// Silent and Reachable are as in outage.
	Silent    bool   `json:",omitzero"`
	Reachable bool   `json:",omitzero"`
	Why       string `json:",omitzero"` // of the outage or the ejection

	Ejected   time.Time `json:",omitzero"` // when it was ejected; zero: it is not
	Until     time.Time `json:",omitzero"` // the end of that
	Ejections int       `json:",omitzero"`
	Slow      time.Time `json:",omitzero"` // when its slow start began

	Gone time.Time `json:",omitzero"` // when its name lost the address; zero: it did not
}

// States returns the states of the servers, for Options.Restore, and of those that have gone and
// may come back.
func (b *Backend) States() []ServerState {
	list := []ServerState{}
	for _, s := range b.list() {
		list = append(list, s.state())
	}
	b.healthMu.Lock()
	defer b.healthMu.Unlock()
	for _, t := range b.earlier {
		if !t.Gone.IsZero() {
			list = append(list, *t)
		}
	}
	return list
}

func (s *Server) state() ServerState {
	t := ServerState{Address: s.Address, Admin: AdminState(s.admin.Load()), Health: s.backend.options.Health}
	if o := s.outage.Load(); o != nil {
		t.Down, t.Reason, t.Silent, t.Reachable, t.Why = o.began.Round(0), o.reason, o.silent.Load(), o.reachable.Load(), o.cause().Error()
	}
	s.backend.healthMu.Lock()
	t.Ejections = s.outcomes.times
	s.backend.healthMu.Unlock()
	if e := s.ejected.Load(); e != nil {
		t.Ejected, t.Until, t.Why = e.began.Round(0), e.until.Round(0), e.why.Error()
	}
	if since := s.slow.since.Load(); since != 0 {
		t.Slow = epoch.Add(time.Duration(since)).Round(0)
	}
	return t
}

// byAddress returns the states by the addresses of their servers; nil: there are none.
func byAddress(list []ServerState) map[string]*ServerState {
	if list == nil {
		return nil
	}
	m := make(map[string]*ServerState, len(list))
	for i := range list {
		m[list[i].Address] = &list[i]
	}
	return m
}

// maxRemembered bounds the servers that a backend remembers after they have gone. It forgets the
// oldest.
const maxRemembered = 1000

// remember keeps what an operator has asked of a server that goes, in case that its name has the
// address again.
func (s *Server) remember() {
	if AdminState(s.admin.Load()) == AdminUp {
		return
	}
	b := s.backend
	b.healthMu.Lock()
	defer b.healthMu.Unlock()
	if b.earlier == nil {
		b.earlier = map[string]*ServerState{}
	}
	b.earlier[s.Address] = &ServerState{Address: s.Address, Admin: AdminState(s.admin.Load()), Gone: time.Now().Round(0)}
	forgetOldest(b.earlier)
}

// forgetOldest removes the server that has gone before all others, if more than maxRemembered have.
func forgetOldest(list map[string]*ServerState) {
	if len(list) <= maxRemembered {
		return
	}
	n, oldest := 0, (*ServerState)(nil)
	for _, t := range list {
		if t.Gone.IsZero() {
			continue
		}
		if n++; oldest == nil || t.Gone.Before(oldest.Gone) {
			oldest = t
		}
	}
	if n > maxRemembered {
		delete(list, oldest.Address)
	}
}

// restore takes over the state of an earlier server with the address, or none: then the server is
// new. Its tasks start with those of the backend.
func (s *Server) restore() {
	b := s.backend
	b.healthMu.Lock()
	t, known := b.earlier[s.Address], b.earlier != nil
	delete(b.earlier, s.Address) // a server that goes leaves a new state: see remember
	b.healthMu.Unlock()
	if !known {
		return
	}
	now := time.Now()
	if t == nil {
		s.startSlowly(now)
		return
	}
	s.admin.Store(uint32(t.Admin))
	if t.Health != b.options.Health {
		return
	}
	if full := b.options.SlowStart; !t.Slow.IsZero() && now.Sub(t.Slow) < full {
		s.slow.since.Store(int64(t.Slow.Sub(epoch)))
	}
	s.outcomes.times, s.outcomes.ended = t.Ejections, now
	why := errors.New(t.Why)
	if !t.Down.IsZero() {
		o := newOutage(t.Reason)
		o.began, o.err = t.Down, why
		o.lastFailure.Store(1)
		o.silent.Store(t.Silent)
		o.reachable.Store(t.Reachable)
		s.resume = func() {
			if s.outage.Load() == o { // no request has reached it meanwhile
				s.probe(o, true)
			}
		}
		s.outage.Store(o)
	}
	if b.options.Eject != nil && !t.Ejected.IsZero() && t.Until.After(now) {
		e := &ejection{began: t.Ejected, until: t.Until, why: why}
		s.ejected.Store(e)
		before := s.resume
		s.resume = func() {
			if before != nil {
				before()
			}
			s.beginEjection(e, true)
		}
	}
}
