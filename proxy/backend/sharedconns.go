package backend

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// sharedConns are the shared connections to one server.
type sharedConns struct {
	mu         sync.Mutex // guards what follows
	conns      []*sharedConn
	pending    *pending // a connection that is being opened; nil: none
	waiting    int      // requests that wait for a connection, or dial one
	closed     bool     // the connections end when no request waits and their exchanges have ended
	picksHTTP1 bool     // the server selected HTTP/1 on the last connection
}

// pending is a connection that is being opened, for all requests that wait for it. They wait until
// the SETTINGS of the server have arrived: it would refuse streams beyond its limit.
type pending struct {
	done chan struct{}
	err  error       // valid when done is closed
	conn *sharedConn // that waits for the SETTINGS; nil: it is being dialled
}

// findRoom returns a stream on a connection that has room for it. Without one, the request counts
// as waiting until it calls stopWaiting: it must dial if dials is true, which lets other requests
// wait for that connection; otherwise it must wait for the pending connection. first means that the
// request does not count as waiting yet.
func (s *Server) findRoom(r *Request, first bool) (up Stream, wait *pending, dials bool) {
	h := &s.shared
	h.mu.Lock()
	defer h.mu.Unlock()
	if up, wait, dials = s.findRoomLocked(r); up == nil && first {
		h.waiting++
	}
	return up, wait, dials
}

func (s *Server) findRoomLocked(r *Request) (up Stream, wait *pending, dials bool) {
	h := &s.shared
	if s.backend.options.SendProxy != 0 || r.NewConnection && !h.picksHTTP1 {
		return nil, nil, true
	}
	for _, c := range h.conns {
		if !c.ready || c.closeIfRetired() || s.avoids(c.link) || !r.Repeatable && c.closedByPeer() {
			continue
		}
		if cs, err := c.Open(); err == nil {
			return newStream(cs, c), nil, false
		}
	}
	if h.picksHTTP1 {
		if c := s.takeIdle(r.Repeatable, r.Bodyless); c != nil {
			return c.begin(r), nil, false
		}
		return nil, nil, true
	}
	if h.pending != nil {
		return nil, h.pending, false
	}
	h.pending = &pending{done: make(chan struct{})}
	return nil, h.pending, true
}

// stopWaiting is called for a request that no longer waits.
func (h *sharedConns) stopWaiting() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting--
	h.endIfClosed()
}

// endIfClosed lets the connections end if close was called and no request waits for one. mu must be
// held.
func (h *sharedConns) endIfClosed() {
	if !h.closed || h.waiting > 0 {
		return
	}
	for _, c := range h.conns {
		c.Close()
	}
	h.finishPending(h.pending, nil) // later requests must not wait for a connection that ends
}

// finishPending ends the wait for p, unless it is nil. mu must be held.
func (h *sharedConns) finishPending(p *pending, err error) {
	if p == nil {
		return
	}
	p.err = err
	close(p.done)
	h.pending = nil
}

// failPending ends the wait for a dial that has panicked.
func (h *sharedConns) failPending(p *pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finishPending(p, ErrInternal)
}

// markReady lets further requests use c, after the SETTINGS of the server have arrived.
func (h *sharedConns) markReady(c *sharedConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.ready = true
	if h.pending != nil && h.pending.conn == c {
		h.finishPending(h.pending, nil)
	}
}

// notePick records whether the server selected HTTP/1.
func (h *sharedConns) notePick(http1 bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.picksHTTP1 = http1
}

// addShared adds a connection that no request waits for.
func (s *Server) addShared(c *sharedConn) {
	h := &s.shared
	h.mu.Lock()
	cs, err := c.Open()
	if err != nil || h.closed || s.backend.options.SendProxy != 0 {
		c.Close()
	} else {
		h.conns = append(h.conns, c)
		h.picksHTTP1 = false
	}
	h.mu.Unlock()
	if err == nil {
		_ = cs.Flush() // sends the connection preface, so that the server sends its SETTINGS
		cs.Release()
	}
}

// remove removes a connection that has ended.
func (h *sharedConns) remove(c *sharedConn, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending != nil && h.pending.conn == c {
		// The requests that wait have sent nothing.
		h.finishPending(h.pending, errors.Join(ErrNotProcessed, err))
	}
	if i := slices.Index(h.conns, c); i >= 0 {
		h.conns = slices.Delete(h.conns, i, i+1)
	}
}

// closeExpired makes retired and outdated connections end after their exchanges.
func (h *sharedConns) closeExpired(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		if !c.closeIfRetired() && c.link.outdated(now) {
			c.Close()
		}
	}
}

// inUse reports whether there are connections.
func (h *sharedConns) inUse() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns) > 0
}

// close makes the connections end after their exchanges, including those of requests that wait.
func (h *sharedConns) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.endIfClosed()
}
