package backend

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/proxy/message"
)

// maxOwned bounds the idle connections to one server that one client's connection owns.
const maxOwned = 8

// Owner is a client's connection as the owner of connections to servers. NTLM and Negotiate
// authenticate a connection, not a request (RFC 4559 section 6): one that took part in that serves
// no other client from then on, and ends with its owner. The zero value owns none.
type Owner struct {
	used atomic.Bool // it owns, or owned, a connection

	mu      sync.Mutex
	servers []*Server // those that have, or had, a connection of it
	closed  bool
}

// Close ends the connections that are owned, and those that would come to be.
func (o *Owner) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, s := range o.servers {
		s.closeOwned(o)
	}
	o.servers = nil
}

// server gives a server of the backend that has an idle connection of the owner and was not tried,
// nil without one.
func (o *Owner) serverFor(a *Attempt) *Server {
	if o == nil || !o.used.Load() {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.servers {
		if s.backend == a.backend && !a.wasTried(s) && s.ownedBy(o) {
			return s
		}
	}
	return nil
}

// takeOwned gives an idle connection of the owner that is open and silent, nil where there is none.
func (s *Server) takeOwned(o *Owner) *conn {
	if o == nil || !o.used.Load() {
		return nil
	}
	for {
		s.mu.Lock()
		list := s.owned[o]
		if len(list) == 0 {
			s.mu.Unlock()
			return nil
		}
		c := list[len(list)-1]
		s.setOwned(o, list[:len(list)-1])
		s.mu.Unlock()
		s.meter.Idle(-1)
		c.reused = true
		if c.peerState(time.Now()) != peerClosed && c.Idle() {
			return c
		}
		c.close()
	}
}

// keepOwned puts a connection by for the next exchange of its owner, or closes it.
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
		o.servers = slices.DeleteFunc(o.servers, func(s *Server) bool { return !s.ownedBy(o) })
		o.servers = append(o.servers, s)
	}
	o.used.Store(true)
}

// setOwned wants mu held.
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

func (s *Server) ownedBy(o *Owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.owned[o]) > 0
}

// disown closes the idle connections of an owner.
func (s *Server) closeOwned(o *Owner) {
	s.mu.Lock()
	list := s.owned[o]
	delete(s.owned, o)
	s.mu.Unlock()
	s.closeIdle(list)
}

// Authenticates says whether a request carries what authenticates a connection.
func Authenticates(h *message.Header) bool {
	return namesScheme(h, message.Authorization) || namesScheme(h, message.ProxyAuthorization)
}

// challenges says whether a response asks for that, or carries a part of it.
func isChallenge(h *message.Header) bool {
	return namesScheme(h, message.WWWAuthenticate) || namesScheme(h, message.ProxyAuthenticate)
}

// persists says whether a response declares its connection authenticated.
func declaresAuthenticated(h *message.Header) bool {
	for i := h.Index(message.PersistentAuth, 0); i >= 0; i = h.Index(message.PersistentAuth, i+1) {
		if _, _, value, _ := h.At(i); !message.EqualFold(bytes.TrimSpace(value), "false") {
			return true
		}
	}
	return false
}

// schemes are the beginnings of the schemes' names: Negotiate and Nego2, NTLM, Kerberos.
var schemes = [...]string{"nego", "ntlm", "kerberos"}

// namesScheme says whether an element of the fields begins with such a scheme. That a comma may
// stand in a quoted string is not looked at: a connection that is owned without need costs little.
func namesScheme(h *message.Header, id message.ID) bool {
	for i := h.Index(id, 0); i >= 0; i = h.Index(id, i+1) {
		_, _, value, _ := h.At(i)
		for more := true; more; {
			var element []byte
			element, value, more = bytes.Cut(value, comma)
			element = bytes.TrimLeft(element, " \t")
			for _, s := range schemes {
				if len(element) >= len(s) && message.EqualFold(element[:len(s)], s) {
					return true
				}
			}
		}
	}
	return false
}

var comma = []byte{','}
