package backend

import (
	"slices"
	"time"
)

const (
	// maxIdleUnrepeatable is how long a connection may have been idle to carry a request that
	// cannot be repeated: servers close idle connections after seconds, and a request that is sent
	// at that moment is lost.
	maxIdleUnrepeatable = time.Second
	// maxIdle bounds the idle connections to one server, also for a moment; see Keep.Idle.
	maxIdle = 1024
	// surplusAge is how long connections beyond Keep.Idle stay idle: as long as traffic needs them,
	// they are not closed and dialled again.
	surplusAge = time.Second
)

// takeIdle returns an idle connection that is open and silent, or nil if there is none.
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

// ready prepares an idle connection for an exchange if it is open and silent; otherwise it closes
// the connection. If the request has no body, the connection itself checks that, in the same step
// that sends the request.
func (c *conn) ready(bodyless bool) bool {
	if c.link.info.Retired() || c.link.server.avoids(c.link) {
		c.close()
		return false
	}
	c.reused = true
	if bodyless && c.link.server.tls == nil {
		c.ExpectIdle()
		return true
	}
	if c.Idle() {
		return true
	}
	c.close()
	return false
}

// popIdle removes the connection that was used last, or the last one that may carry a request that
// cannot be repeated.
func (s *Server) popIdle(repeatable bool) *conn {
	s.mu.Lock()
	i := len(s.idle) - 1
	if repeatable {
		// Connections with known segments are left for requests that cannot be repeated, if there
		// is another one among the last few.
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

// putBackIdle returns connections that were taken and not used.
func (s *Server) putBackIdle(list []*conn) {
	for i := len(list) - 1; i >= 0; i-- {
		if c := list[i]; c != nil {
			s.putIdle(c, c.used)
		}
	}
}

// putIdle keeps a connection for a later exchange, or closes it if there are too many.
func (s *Server) putIdle(c *conn, now time.Time) {
	c.used = now
	s.mu.Lock()
	if s.closed || len(s.idle) >= maxIdle || s.backend.options.Keep.Idle < 0 {
		s.mu.Unlock()
		c.close()
		return
	}
	s.idle = append(s.idle, c)
	s.mu.Unlock()
	s.meter.Idle(1)
	s.backend.connLimit.wake(s.backend)
}

// closeOldestIdle closes the connection that was not used for the longest time. It returns false if
// there is none.
func (s *Server) closeOldestIdle() bool {
	s.mu.Lock()
	if len(s.idle) == 0 {
		s.mu.Unlock()
		return false
	}
	c := s.idle[0]
	s.idle = slices.Delete(s.idle, 0, 1)
	s.mu.Unlock()
	s.meter.Idle(-1)
	c.close()
	return true
}

// removeExpired removes and returns the idle connections that have expired.
func (s *Server) removeExpired(now time.Time) (expired []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	remove := func(list []*conn) []*conn {
		return slices.DeleteFunc(list, func(c *conn) bool {
			if c.expired(now) {
				expired = append(expired, c)
				return true
			}
			return false
		})
	}
	s.idle = remove(s.idle)
	for o, list := range s.owned {
		s.setOwned(o, remove(list))
	}
	return expired
}

// removeSurplus removes and returns the connections beyond Keep.Idle that were not used lately.
func (s *Server) removeSurplus(now time.Time) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, beyond := 0, len(s.idle)-max(0, s.backend.options.Keep.Idle)
	for n < beyond && now.Sub(s.idle[n].used) >= surplusAge {
		n++
	}
	surplus := slices.Clone(s.idle[:n])
	s.idle = slices.Delete(s.idle, 0, n)
	return surplus
}

// expired reports whether an idle connection was not used for the idle timeout, is outdated or
// retired, or was closed by the server.
func (c *conn) expired(now time.Time) bool {
	return now.Sub(c.used) >= c.link.server.backend.options.IdleTimeout || c.link.outdated(now) ||
		c.owner == nil && c.link.info.Retired() || !c.Idle()
}

// closeIdle closes connections that were removed from idle or owned.
func (s *Server) closeIdle(list []*conn) {
	s.meter.Idle(-len(list))
	for _, c := range list {
		c.close()
	}
}
