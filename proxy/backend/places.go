package backend

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// ErrBusy means that every server has as many requests or connections as it may have, and that the
// queue was full, or the time in it over.
var ErrBusy = errors.New("every server has as many requests as it may have")

// errFull means that a server may have no further connection.
var errFull = fmt.Errorf("%w: the server has as many connections as it may have", ErrBusy)

// places are for the requests that a server may process at the same time. A request takes one when
// its server is picked, and leaves it at its end.
type places struct {
	limit int64 // 0: none
	used  atomic.Int64
	// noRoom: there may be no further connection, and those that exist were full. It is reset when
	// a request or a connection has ended and no request waits for that.
	noRoom atomic.Bool
}

// setLimits sets the limit of requests. A connection carries one HTTP/1 request at a time.
func (s *Server) setLimits(requests int) {
	o := &s.backend.options
	s.places.limit, s.conns.limit = int64(requests), int64(o.MaxConnections)
	if limit := s.conns.limit; limit > 0 && o.Protocol == HTTP1 && (requests == 0 || limit < int64(requests)) {
		s.places.limit = limit
	}
}

// full reports whether the server can take no further request at present.
func (s *Server) full() bool {
	p := &s.places
	return p.limit > 0 && p.used.Load() >= p.limit || p.noRoom.Load()
}

// reserve takes a place at the server for the request.
func (a *Attempt) reserve(s *Server) bool {
	p := &s.places
	for n := p.used.Load(); p.limit > 0; n = p.used.Load() {
		if n >= p.limit {
			return false
		}
		if p.used.CompareAndSwap(n, n+1) {
			a.place = s
			break
		}
	}
	a.served = true
	return true
}

// leavePlace gives back the place of the request, which goes to the first one in the queue.
func (a *Attempt) leavePlace() {
	s := a.place
	a.place = nil
	s.leave()
}

func (s *Server) leave() {
	if s != nil {
		s.places.used.Add(-1)
		s.backend.queue.dispatch(s)
	}
}

// noteRoom is called when a request or a connection of the server has ended. If there was no room
// for another request, one from the queue gets that room.
func (s *Server) noteRoom() {
	if q := &s.backend.queue; s.places.noRoom.Load() && !q.dispatchOne(s) {
		s.places.noRoom.Store(false)
		q.dispatch(s) // to one that came meanwhile
	}
}

// inTurn reports whether no server of a tier before that of s is eligible: the request waits for
// those.
func (a *Attempt) inTurn(s *Server, now time.Time) bool {
	for _, t := range a.backend.members.Load().tiers {
		if slices.Contains(t.servers, s) {
			return true
		}
		if a.anyEligible(t.servers, now) {
			return false
		}
	}
	return true
}

// awaitsPlace reports, after the balancer has found no candidate, whether that is for lack of a
// free place. One may have become free meanwhile.
func (a *Attempt) awaitsPlace(now time.Time) bool {
	return a.backend.limited && a.hasOther(now)
}

// connCount bounds the connections to one server.
type connCount struct {
	limit int64 // 0: none
	open  atomic.Int64
}

// acquire counts a connection to s. At the limit it closes an idle one, and returns false if there
// is none.
func (c *connCount) acquire(s *Server) bool {
	for c.limit > 0 {
		switch n := c.open.Load(); {
		case n < c.limit:
			if c.open.CompareAndSwap(n, n+1) {
				return true
			}
		case !s.closeOldestIdle() && !s.closeAnyOwned():
			s.places.noRoom.Store(true)
			return false
		}
	}
	return true
}

// release counts a connection to s as ended.
func (c *connCount) release(s *Server) {
	if c.limit > 0 {
		c.open.Add(-1)
		s.noteRoom()
	}
}

// closeAnyOwned closes an idle connection that belongs to a client. It returns false if there is
// none.
func (s *Server) closeAnyOwned() bool {
	s.mu.Lock()
	var c *conn
	for o, list := range s.owned {
		c = list[0]
		s.setOwned(o, list[1:])
		break
	}
	s.mu.Unlock()
	if c == nil {
		return false
	}
	s.meter.Idle(-1)
	c.close()
	return true
}
