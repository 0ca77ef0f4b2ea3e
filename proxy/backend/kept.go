package backend

import (
	"slices"
	"time"
)

// take gives a kept connection that is open and silent, nil where there is none. Where the request has no body the
// connection itself looks, in the same step that sends the request.
func (s *Server) take(repeatable, bodyless bool) *conn {
	for {
		s.mu.Lock()
		n := len(s.kept)
		if n == 0 || !repeatable && time.Since(s.kept[n-1].used) > fresh {
			s.mu.Unlock()
			return nil
		}
		c := s.kept[n-1]
		s.kept[n-1] = nil
		s.kept = s.kept[:n-1]
		s.mu.Unlock()
		s.meter.Idle(-1)
		c.reused = true
		if bodyless && s.tls == nil {
			c.ExpectSilence()
			return c
		}
		if c.Idle() {
			return c
		}
		c.close()
	}
}

// keep puts a connection by for the next exchange, or closes it.
func (s *Server) keep(c *conn, now time.Time) {
	c.used = now
	s.mu.Lock()
	if s.closed || len(s.kept) >= maxKept {
		s.mu.Unlock()
		c.close()
		return
	}
	s.kept = append(s.kept, c)
	s.mu.Unlock()
	s.meter.Idle(1)
}

// sweep closes the idle connections that should carry nothing more.
func (s *Server) sweep(now time.Time) {
	s.sharing.retire(now)
	var dead []*conn
	sift := func(list []*conn) []*conn {
		return slices.DeleteFunc(list, func(c *conn) bool {
			if c.spent(now) {
				dead = append(dead, c)
				return true
			}
			return false
		})
	}
	s.mu.Lock()
	s.kept = sift(s.kept)
	for o, list := range s.owned {
		s.setOwned(o, sift(list))
	}
	s.mu.Unlock()
	s.closeIdle(dead)
}

// spent says whether an idle connection was not used for the idle time, is outdated, or was closed by the server.
func (c *conn) spent(now time.Time) bool {
	return now.Sub(c.used) >= c.link.server.backend.options.IdleTimeout || c.link.outdated(now) || !c.Idle()
}

func (s *Server) closeIdle(list []*conn) {
	s.meter.Idle(-len(list))
	for _, c := range list {
		c.close()
	}
}

func (s *Server) close() {
	s.sharing.close()
	s.mu.Lock()
	idle := s.kept
	for _, list := range s.owned {
		idle = append(idle, list...)
	}
	s.kept, s.owned, s.closed = nil, nil, true
	s.meter.Up(true) // its handle may be that of a server to come
	s.mu.Unlock()
	s.closeIdle(idle)
	s.meter.Release()
}

// inUse says whether there are connections for requests to come.
func (s *Server) inUse() bool {
	s.mu.Lock()
	idle := len(s.kept) + len(s.owned)
	s.mu.Unlock()
	return idle > 0 || s.sharing.inUse()
}
