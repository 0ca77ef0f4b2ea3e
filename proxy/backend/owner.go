package backend

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxOwned bounds the idle connections to one server that belong to one client's connection.
const maxOwned = 8

// Owner is a client's connection that connections to servers belong to. NTLM and Negotiate
// authenticate a connection, not a request (RFC 4559 section 6): a connection that took part in
// that serves no other client afterwards, and ends with its owner. The zero value owns no
// connection.
type Owner struct {
	used atomic.Bool // it owns or owned a connection

	mu      sync.Mutex // guards what follows; locked before Server.mu
	servers []*Server  // that have, or had, a connection of it
	closed  bool
}

// Close closes the connections of the owner, and those that would become its own later.
func (o *Owner) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, s := range o.servers {
		s.closeOwned(o)
	}
	o.servers = nil
}

// serverFor returns a server of the backend that was not tried and has an idle connection of the
// owner, or nil. It may be in an outage: the connection exists.
func (o *Owner) serverFor(a *Attempt) *Server {
	if o == nil || !o.used.Load() {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.servers {
		if s.backend == a.backend && !a.wasTried(s) && AdminState(s.admin.Load()) != AdminDown && s.hasOwned(o) {
			return s
		}
	}
	return nil
}

// takeOwned returns an idle connection of the owner that is open and silent, or nil.
func (s *Server) takeOwned(o *Owner) *conn {
	if o == nil || !o.used.Load() {
		return nil
	}
	for {
		c := s.popOwned(o)
		if c == nil {
			return nil
		}
		c.reused = true
		if c.peerState(time.Now()) != peerClosed && c.Idle() {
			return c
		}
		c.close()
	}
}

// popOwned removes the idle connection of the owner that was used last.
func (s *Server) popOwned(o *Owner) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.owned[o]
	if len(list) == 0 {
		return nil
	}
	s.setOwned(o, list[:len(list)-1])
	s.meter.Idle(-1)
	return list[len(list)-1]
}

// putOwned keeps a connection for the next exchange of its owner, or closes it if the owner is
// closed.
func (s *Server) putOwned(c *conn, now time.Time) {
	c.used = now
	o := c.owner
	o.mu.Lock()
	defer o.mu.Unlock()
	s.mu.Lock()
	if o.closed || s.closed {
		s.mu.Unlock()
		c.close()
		return
	}
	list := append(s.owned[o], c)
	var oldest *conn
	if len(list) > maxOwned {
		oldest, list = list[0], list[1:]
	} else {
		s.meter.Idle(1)
	}
	s.setOwned(o, list)
	s.mu.Unlock()
	if oldest != nil {
		oldest.close()
	}
	if !slices.Contains(o.servers, s) {
		o.servers = slices.DeleteFunc(o.servers, func(s *Server) bool { return !s.hasOwned(o) })
		o.servers = append(o.servers, s)
	}
	o.used.Store(true)
}

// setOwned replaces the idle connections of an owner. mu must be held.
func (s *Server) setOwned(o *Owner, list []*conn) {
	if len(list) == 0 {
		delete(s.owned, o)
		return
	}
	if s.owned == nil {
		s.owned = map[*Owner][]*conn{}
	}
	s.owned[o] = list
}

func (s *Server) hasOwned(o *Owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.owned[o]) > 0
}

// closeOwned closes the idle connections of an owner.
func (s *Server) closeOwned(o *Owner) {
	s.mu.Lock()
	list := s.owned[o]
	delete(s.owned, o)
	s.mu.Unlock()
	s.closeIdle(list)
}
