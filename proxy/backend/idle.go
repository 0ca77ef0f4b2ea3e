package backend

import (
	"slices"
	"time"
)

// take gives a kept connection that is open and silent, nil where there is none.
func (s *Server) takeIdle(repeatable, bodyless bool) *conn {
	if repeatable {
		for {
			if c := s.popIdle(true); c == nil || c.ready(bodyless) {
				return c
			}
		}
	}
	var aside [maxPeerChecks]*conn
	for i := range aside {
		c := s.popIdle(false)
		if c == nil {
			break
		}
		switch c.peerState(time.Now()) {
		case peerMayHaveClosed:
			aside[i] = c
		case peerClosed:
			c.close()
		default:
			if c.ready(bodyless) {
				s.putBackIdle(aside[:i])
				return c
			}
		}
	}
	s.putBackIdle(aside[:])
	return nil
}

// ready makes a kept connection ready for an exchange if it is open and silent, and closes it if
// not. Where the request has no body the connection itself looks, in the same step that sends the
// request.
func (c *conn) ready(bodyless bool) bool {
	if c.link.info.Retired() || c.link.server.avoids(c.link) {
		c.close()
		return false
	}
	c.reused = true
	if bodyless && c.link.server.tls == nil {
		c.ExpectSilence()
		return true
	}
	if c.Idle() {
		return true
	}
	c.close()
	return false
}

// pop takes the connection that was used last, and for what cannot be repeated the last one that is
// fit for it.
func (s *Server) popIdle(repeatable bool) *conn {
	s.mu.Lock()
	i := len(s.idle) - 1
	if repeatable {
		// One that was counted is left to what cannot be repeated, if there is another near by.
		for k := i; k >= 0 && k > i-maxPeerChecks; k-- {
			if !s.idle[k].segmentsKnown {
				i = k
				break
			}
		}
	} else {
		now := time.Now()
		for i >= 0 && !s.idle[i].peerStateMayBeKnown(now) {
			i--
		}
		if i >= 0 && now.Sub(s.idle[i].used) > maxIdleUnrepeatable {
			i = -1
		}
	}
	if i < 0 {
		s.mu.Unlock()
		return nil
	}
	c := s.idle[i]
	s.idle = slices.Delete(s.idle, i, i+1)
	s.mu.Unlock()
	s.meter.Idle(-1)
	return c
}

// putBack keeps connections that were taken and not used.
func (s *Server) putBackIdle(list []*conn) {
	for i := len(list) - 1; i >= 0; i-- {
		if c := list[i]; c != nil {
			s.putIdle(c, c.used)
		}
	}
}

// keep puts a connection by for the next exchange, or closes it.
func (s *Server) putIdle(c *conn, now time.Time) {
	c.used = now
	s.mu.Lock()
	if s.closed || len(s.idle) >= maxIdle {
		s.mu.Unlock()
		c.close()
		return
	}
	s.idle = append(s.idle, c)
	s.mu.Unlock()
	s.meter.Idle(1)
	s.backend.connLimit.wake(s.backend)
}

// sweep closes the idle connections that should carry nothing more.
func (s *Server) closeExpired(now time.Time) {
	s.shared.closeExpired(now)
	s.closeIdle(s.removeExpired(now))
}

func (s *Server) removeExpired(now time.Time) (spent []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sift := func(list []*conn) []*conn {
		return slices.DeleteFunc(list, func(c *conn) bool {
			if c.expired(now) {
				spent = append(spent, c)
				return true
			}
			return false
		})
	}
	s.idle = sift(s.idle)
	for o, list := range s.owned {
		s.setOwned(o, sift(list))
	}
	return spent
}

// spent says whether an idle connection was not used for the idle time, is outdated, or was closed
// by the server.
func (c *conn) expired(now time.Time) bool {
	return now.Sub(c.used) >= c.link.server.backend.options.IdleTimeout || c.link.outdated(now) ||
		c.owner == nil && c.link.info.Retired() || !c.Idle()
}

func (s *Server) closeIdle(list []*conn) {
	s.meter.Idle(-len(list))
	for _, c := range list {
		c.close()
	}
}

func (s *Server) close() {
	s.shared.close()
	s.mu.Lock()
	idle := s.idle
	for _, list := range s.owned {
		idle = append(idle, list...)
	}
	s.idle, s.owned, s.closed = nil, nil, true
	s.meter.Up(true) // its handle may be that of a server to come
	s.mu.Unlock()
	s.closeIdle(idle)
	s.meter.Release()
}

// inUse says whether there are connections for requests to come.
func (s *Server) inUse() bool {
	s.mu.Lock()
	idle := len(s.idle) + len(s.owned)
	s.mu.Unlock()
	return idle > 0 || s.shared.inUse()
}
