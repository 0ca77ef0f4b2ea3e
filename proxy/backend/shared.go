package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/http2"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// Protocol is what servers are spoken to in.
type Protocol uint8

const (
	HTTP1 Protocol = iota
	HTTP2          // with TLS by ALPN, without by prior knowledge
	Auto           // with TLS what the server picks, without HTTP/1
)

// ErrNotProcessed: the server did not look at the request, which may be sent elsewhere whatever its
// method is.
var ErrNotProcessed = http2.ErrNotProcessed

// ErrInternal: this program is at fault, not the server.
var ErrInternal = http2.ErrInternal

// ErrNoHTTP2 is a server that does not take part.
var ErrNoHTTP2 = errors.New("the server does not support HTTP/2, which is required")

// shared is a connection to a server that carries many exchanges at a time.
type sharedConn struct {
	*http2.ClientConn
	link  *Link
	ready bool // the server has said how many streams it takes; sharing.mu guards it
}

// sharing is what a server has of them.
type sharedConns struct {
	mu         sync.Mutex // guards what follows
	conns      []*sharedConn
	pending    *pending // a connection that is being made; nil: none
	waiting    int      // requests that wait for a connection, or make one
	closed     bool     // the connections end once nobody waits and their exchanges have ended
	picksHTTP1 bool     // the server last picked HTTP/1
}

// pending is a connection that is being made, for all who wait for it. It is made once the server
// has said how many streams it takes: it would refuse those of a burst beyond that.
type pending struct {
	done chan struct{}
	err  error
	conn *sharedConn // which the server has yet to say it of; nil: it is being dialled
}

// stream is an exchange on a shared connection.
type stream struct {
	*http2.ClientStream
	conn       *sharedConn
	closeAfter bool // of its connection
}

var streams = sync.Pool{New: func() any { return &stream{} }}

// Returns says that the server may give a request back (RFC 9113 section 8.7).
func (s *stream) MayReturn() bool { return true }

// State is what the connection speaks, and over how many subflows, at most a second ago.
func (s *stream) State(now time.Time) (mptcp.Transport, int) { return s.conn.link.State(now) }

// Release ends the exchange.
func (s *stream) Release(time.Time) {
	s.ClientStream.Release()
	if b := s.conn.link.server.backend; b.connLimit.waiting.Load() > 0 {
		b.connLimit.wake(b) // others may have room on the connection
	}
	if s.closeAfter || s.conn.link.server.backend.options.SendProxy != 0 { // a PROXY header is one client's
		s.conn.Close()
	}
	s.ClientStream, s.conn, s.closeAfter = nil, nil, false
	streams.Put(s)
}

// Belongs has the connection end with its present exchanges: what many clients share can belong to
// none.
func (s *stream) NoteAuthentication(h *message.Header, _ *Owner) {
	s.closeAfter = s.closeAfter || declaresAuthenticated(h)
}

// shares says whether a request may go by a shared connection.
func (s *Server) mayShare(r *Request) bool {
	switch s.backend.options.Protocol {
	case HTTP2:
		return true
	case Auto:
		return s.tls != nil && !r.Upgrade && !r.Authenticates
	}
	return false
}

// share gives a place on a connection that others use too, and makes one where all are full. With
// Auto it may be one of HTTP/1.
func (s *Server) openShared(ctx context.Context, r *Request) (Stream, error) {
	if r.Authenticates {
		return s.dialExclusive(ctx, r)
	}
	up, wait, dials := s.findRoom(r, true)
	if up != nil {
		return up, nil
	}
	defer s.shared.stopWaiting()
	for {
		if dials {
			return s.dialShared(ctx, r, wait)
		}
		select {
		case <-wait.done:
			if wait.err != nil {
				return nil, wait.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if up, wait, dials = s.findRoom(r, false); up != nil {
			return up, nil
		}
	}
}

// place looks for room. Without any, the caller counts as waiting until it calls leave: it waits
// for the connection that is given, or dials; others may wait for what it makes then. first: it
// does not count yet.
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
			return c.prepare(r), nil, false
		}
		return nil, nil, true
	}
	if h.pending != nil {
		return nil, h.pending, false
	}
	h.pending = &pending{done: make(chan struct{})}
	return nil, h.pending, true
}

// leave is for a request that waits no longer.
func (h *sharedConns) stopWaiting() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting--
	h.endIfClosed()
}

// endIfClosed lets the connections end if they are to and nobody waits for a place on one; mu is
// held.
func (h *sharedConns) endIfClosed() {
	if !h.closed || h.waiting > 0 {
		return
	}
	for _, c := range h.conns {
		c.Close()
	}
	h.finishPending(h.pending, nil) // whoever comes now is not to wait for one that ends
}

func newStream(cs *http2.ClientStream, c *sharedConn) *stream {
	s := streams.Get().(*stream)
	s.ClientStream, s.conn = cs, c
	return s
}

// dialShared makes a connection and takes a place on it. Others may wait for it as p.
func (s *Server) dialShared(ctx context.Context, r *Request, p *pending) (Stream, error) {
	h := &s.shared
	panicked := true
	defer func() {
		if panicked { // others wait for this dial
			h.failPending(p)
		}
	}()
	c, one, err := s.dial(ctx, r.From, true)
	panicked = false
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.picksHTTP1 = c == nil
	}
	if c == nil {
		h.finishPending(p, err)
		if err != nil {
			return nil, err
		}
		return one.prepare(r), nil
	}
	cs, err := c.Open()
	switch {
	case err != nil:
		c.Close()
		err = errors.Join(ErrNotProcessed, err)
		h.finishPending(p, err)
		return nil, err
	case c.ready:
		h.finishPending(p, nil)
	case p != nil:
		p.conn = c
	}
	h.conns = append(h.conns, c)
	return newStream(cs, c), nil
}

// dialAlone makes a connection for one exchange.
func (s *Server) dialExclusive(ctx context.Context, r *Request) (Stream, error) {
	c, one, err := s.dial(ctx, r.From, true)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return one.prepare(r), nil
	}
	cs, err := c.Open()
	if err != nil {
		c.Close()
		return nil, err
	}
	up := newStream(cs, c)
	up.closeAfter = true
	return up, nil
}

// newShared begins to use HTTP/2 on a link.
func (s *Server) newShared(on netio.Stream, l *Link) *sharedConn {
	c := &sharedConn{link: l}
	o := s.backend.client2
	o.Settled = func() { s.shared.markReady(c) }
	c.ClientConn = http2.NewClientConn(on, &o)
	s.backend.readers.Go("backend "+s.backend.Name()+": connection to "+s.Address, func() { s.runShared(c, on) }, c.Fail)
	return c
}

// runShared reads a connection until it ends.
func (s *Server) runShared(c *sharedConn, on netio.Stream) {
	err := ErrInternal
	defer func() {
		s.shared.remove(c, err)
		c.link.recordClose()
		_ = on.Close()
	}()
	err = c.Run() // each of its streams has it too
}

// giveUp ends the wait for a dial that has panicked.
func (h *sharedConns) failPending(p *pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finishPending(p, ErrInternal)
}

// made ends the wait for a connection, if there is one; mu is held.
func (h *sharedConns) finishPending(p *pending, err error) {
	if p == nil {
		return
	}
	p.err = err
	close(p.done)
	h.pending = nil
}

// settle lets others have places on c.
func (h *sharedConns) markReady(c *sharedConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.ready = true
	if h.pending != nil && h.pending.conn == c {
		h.finishPending(h.pending, nil)
	}
}

// drain has a connection that a new one is to replace end once its exchanges have, and says so.
func (c *sharedConn) closeIfRetired() bool {
	if !c.link.info.Retired() {
		return false
	}
	c.Close()
	return true
}

// sweep drains the connections that new ones are to replace, and those that are outdated.
func (h *sharedConns) closeExpired(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		if !c.closeIfRetired() && c.link.outdated(now) {
			c.Close()
		}
	}
}

// remove is for a connection that has ended.
func (h *sharedConns) remove(c *sharedConn, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending != nil && h.pending.conn == c {
		h.finishPending(h.pending, errors.Join(ErrNotProcessed, err)) // who waits has sent nothing
	}
	for i := range h.conns {
		if h.conns[i] == c {
			h.conns = append(h.conns[:i], h.conns[i+1:]...)
			return
		}
	}
}

func (h *sharedConns) inUse() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns) > 0
}

// picked notes whether the server has picked HTTP/1.
func (h *sharedConns) notePick(http1 bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.picksHTTP1 = http1
}

// adopt takes a connection in that no request waits for.
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
		_ = cs.Flush() // what the connection has to say at the beginning, so that it is settled
		cs.Release()
	}
}

// close ends the connections once their exchanges have ended, and those that are still to begin on
// them.
func (h *sharedConns) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.endIfClosed()
}
