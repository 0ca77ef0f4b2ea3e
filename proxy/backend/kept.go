package backend

import "time"

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

// sweep closes the kept connections that were not used for the idle time, that the server has closed, or that are outdated.
func (s *Server) sweep(now time.Time) {
	s.sharing.retire(now)
	s.mu.Lock()
	var dead []*conn
	kept := s.kept[:0]
	for _, c := range s.kept {
		if now.Sub(c.used) >= s.backend.options.IdleTimeout || c.link.outdated(now) || !c.Idle() {
			dead = append(dead, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(s.kept[len(kept):])
	s.kept = kept
	s.mu.Unlock()
	s.meter.Idle(-len(dead))
	for _, c := range dead {
		c.close()
	}
}

func (s *Server) close() {
	s.sharing.close()
	s.mu.Lock()
	kept := s.kept
	s.kept, s.closed = nil, true
	s.meter.Up(true) // its handle may be that of a server to come
	s.mu.Unlock()
	s.meter.Idle(-len(kept))
	for _, c := range kept {
		c.close()
	}
	s.meter.Release()
}

// inUse says whether there are connections for requests to come.
func (s *Server) inUse() bool {
	s.mu.Lock()
	kept := len(s.kept)
	s.mu.Unlock()
	return kept > 0 || s.sharing.inUse()
}
