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
type shared struct {
	*http2.ClientConn
	link    *Link
	settled bool // the server has said how many streams it takes; sharing.mu guards it
}

// sharing is what a server has of them.
type sharing struct {
	mu      sync.Mutex // guards what follows
	conns   []*shared
	pending *pending // a connection that is being made; nil: none
	waiting int      // requests that wait for a connection, or make one
	closed  bool     // the connections end once nobody waits and their exchanges have ended
	picks1  bool     // the server last picked HTTP/1
}

// pending is a connection that is being made, for all who wait for it. It is made once the server
// has said how many streams it takes: it would refuse those of a burst beyond that.
type pending struct {
	done chan struct{}
	err  error
	on   *shared // which the server has yet to say it of; nil: it is being dialled
}

// stream is an exchange on a shared connection.
type stream struct {
	*http2.ClientStream
	on   *shared
	last bool // of its connection
}

var streams = sync.Pool{New: func() any { return &stream{} }}

// Returns says that the server may give a request back (RFC 9113 section 8.7).
func (s *stream) Returns() bool { return true }

// State is what the connection speaks, and over how many subflows, at most a second ago.
func (s *stream) State(now time.Time) (mptcp.Transport, int) { return s.on.link.State(now) }

// Release ends the exchange.
func (s *stream) Release(time.Time) {
	s.ClientStream.Release()
	if b := s.on.link.server.backend; b.places.waiting.Load() > 0 {
		b.places.wake(b) // others may have room on the connection
	}
	if s.last || s.on.link.server.backend.options.SendProxy != 0 { // a PROXY header is one client's
		s.on.Close()
	}
	s.ClientStream, s.on, s.last = nil, nil, false
	streams.Put(s)
}

// Belongs has the connection end with its present exchanges: what many clients share can belong to
// none.
func (s *stream) Belongs(h *message.Header, _ *Owner) { s.last = s.last || persists(h) }

// shares says whether a request may go by a shared connection.
func (s *Server) shares(r *Request) bool {
	switch s.backend.options.Protocol {
	case HTTP2:
		return true
	case Auto:
		return s.tls != nil && !r.Upgrade && !r.Binds
	}
	return false
}

// share gives a place on a connection that others use too, and makes one where all are full. With
// Auto it may be one of HTTP/1.
func (s *Server) share(ctx context.Context, r *Request) (Stream, error) {
	if r.Binds {
		return s.dialAlone(ctx, r)
	}
	up, wait, dials := s.place(r, true)
	if up != nil {
		return up, nil
	}
	defer s.sharing.leave()
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
		if up, wait, dials = s.place(r, false); up != nil {
			return up, nil
		}
	}
}

// place looks for room. Without any, the caller counts as waiting until it calls leave: it waits
// for the connection that is given, or dials; others may wait for what it makes then. first: it
// does not count yet.
func (s *Server) place(r *Request, first bool) (up Stream, wait *pending, dials bool) {
	h := &s.sharing
	h.mu.Lock()
	defer h.mu.Unlock()
	if up, wait, dials = s.placeLocked(r); up == nil && first {
		h.waiting++
	}
	return up, wait, dials
}

func (s *Server) placeLocked(r *Request) (up Stream, wait *pending, dials bool) {
	h := &s.sharing
	if s.backend.options.SendProxy != 0 || r.Alone && !h.picks1 {
		return nil, nil, true
	}
	for _, c := range h.conns {
		if !c.settled || c.drain() || s.avoids(c.link) || !r.Repeatable && c.hasEnded() {
			continue
		}
		if cs, err := c.Open(); err == nil {
			return newStream(cs, c), nil, false
		}
	}
	if h.picks1 {
		if c := s.take(r.Repeatable, r.Bodyless); c != nil {
			return c.carries(r), nil, false
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
func (h *sharing) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting--
	h.endIfClosed()
}

// endIfClosed lets the connections end if they are to and nobody waits for a place on one; mu is
// held.
func (h *sharing) endIfClosed() {
	if !h.closed || h.waiting > 0 {
		return
	}
	for _, c := range h.conns {
		c.Close()
	}
	h.made(h.pending, nil) // whoever comes now is not to wait for one that ends
}

func newStream(cs *http2.ClientStream, c *shared) *stream {
	s := streams.Get().(*stream)
	s.ClientStream, s.on = cs, c
	return s
}

// dialShared makes a connection and takes a place on it. Others may wait for it as p.
func (s *Server) dialShared(ctx context.Context, r *Request, p *pending) (Stream, error) {
	h := &s.sharing
	panicked := true
	defer func() {
		if panicked { // others wait for this dial
			h.giveUp(p)
		}
	}()
	c, one, err := s.dial(ctx, r.From, true)
	panicked = false
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.picks1 = c == nil
	}
	if c == nil {
		h.made(p, err)
		if err != nil {
			return nil, err
		}
		return one.carries(r), nil
	}
	cs, err := c.Open()
	switch {
	case err != nil:
		c.Close()
		err = errors.Join(ErrNotProcessed, err)
		h.made(p, err)
		return nil, err
	case c.settled:
		h.made(p, nil)
	case p != nil:
		p.on = c
	}
	h.conns = append(h.conns, c)
	return newStream(cs, c), nil
}

// dialAlone makes a connection for one exchange.
func (s *Server) dialAlone(ctx context.Context, r *Request) (Stream, error) {
	c, one, err := s.dial(ctx, r.From, true)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return one.carries(r), nil
	}
	cs, err := c.Open()
	if err != nil {
		c.Close()
		return nil, err
	}
	up := newStream(cs, c)
	up.last = true
	return up, nil
}

// newShared begins to use HTTP/2 on a link.
func (s *Server) newShared(on netio.Stream, l *Link) *shared {
	c := &shared{link: l}
	o := s.backend.client2
	o.OnSettings = func() { s.sharing.settle(c) }
	c.ClientConn = http2.NewClientConn(on, &o)
	s.backend.readers.Go("backend "+s.backend.Name()+": connection to "+s.Address, func() { s.runShared(c, on) }, c.Fail)
	return c
}

// runShared reads a connection until it ends.
func (s *Server) runShared(c *shared, on netio.Stream) {
	err := ErrInternal
	defer func() {
		s.sharing.remove(c, err)
		c.link.account()
		_ = on.Close()
	}()
	err = c.Run() // each of its streams has it too
}

// giveUp ends the wait for a dial that has panicked.
func (h *sharing) giveUp(p *pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.made(p, ErrInternal)
}

// made ends the wait for a connection, if there is one; mu is held.
func (h *sharing) made(p *pending, err error) {
	if p == nil {
		return
	}
	p.err = err
	close(p.done)
	h.pending = nil
}

// settle lets others have places on c.
func (h *sharing) settle(c *shared) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.settled = true
	if h.pending != nil && h.pending.on == c {
		h.made(h.pending, nil)
	}
}

// drain has a connection that a new one is to replace end once its exchanges have, and says so.
func (c *shared) drain() bool {
	if !c.link.leg.Retired() {
		return false
	}
	c.Close()
	return true
}

// sweep drains the connections that new ones are to replace, and those that are outdated.
func (h *sharing) sweep(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		if !c.drain() && c.link.outdated(now) {
			c.Close()
		}
	}
}

// remove is for a connection that has ended.
func (h *sharing) remove(c *shared, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending != nil && h.pending.on == c {
		h.made(h.pending, errors.Join(ErrNotProcessed, err)) // who waits has sent nothing
	}
	for i := range h.conns {
		if h.conns[i] == c {
			h.conns = append(h.conns[:i], h.conns[i+1:]...)
			return
		}
	}
}

func (h *sharing) inUse() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns) > 0
}

// picked notes whether the server has picked HTTP/1.
func (h *sharing) picked(http1 bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.picks1 = http1
}

// adopt takes a connection in that no request waits for.
func (s *Server) adopt(c *shared) {
	h := &s.sharing
	h.mu.Lock()
	cs, err := c.Open()
	if err != nil || h.closed || s.backend.options.SendProxy != 0 {
		c.Close()
	} else {
		h.conns = append(h.conns, c)
		h.picks1 = false
	}
	h.mu.Unlock()
	if err == nil {
		_ = cs.Flush() // what the connection has to say at the beginning, so that it is settled
		cs.Release()
	}
}

// close ends the connections once their exchanges have ended, and those that are still to begin on
// them.
func (h *sharing) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.endIfClosed()
}
