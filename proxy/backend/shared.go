package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/http2"
	"mpgate/proxy/netio"
)

// Protocol is what servers are spoken to in.
type Protocol uint8

const (
	HTTP1 Protocol = iota
	HTTP2          // with TLS by ALPN, without by prior knowledge
	Auto           // with TLS what the server picks, without HTTP/1
)

// ErrNotProcessed: the server did not look at the request, which may be sent elsewhere whatever its method is.
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
	closed  bool
	picks1  bool // the server last picked HTTP/1
}

// pending is a connection that is being made, for all who wait for it. It is made once the server has said how many streams it
// takes: it would refuse those of a burst beyond that.
type pending struct {
	done chan struct{}
	err  error
	on   *shared // which the server has yet to say it of; nil: it is being dialled
}

// stream is an exchange on a shared connection.
type stream struct {
	*http2.ClientStream
	on *shared
}

var streams = sync.Pool{New: func() any { return &stream{} }}

// State is what the connection speaks, and over how many subflows, at most a second ago.
func (s *stream) State(now time.Time) (mptcp.Transport, int) { return s.on.link.State(now) }

// Release ends the exchange.
func (s *stream) Release(time.Time) {
	s.ClientStream.Release()
	if b := s.on.link.server.backend; b.places.waiting.Load() > 0 {
		b.places.wake(b) // others may have room on the connection
	}
	if s.on.link.server.backend.options.SendProxy != 0 {
		s.on.Close() // a PROXY header is one client's
	}
	s.ClientStream, s.on = nil, nil
	streams.Put(s)
}

// shares says whether a request may go by a shared connection.
func (s *Server) shares(r *Request) bool {
	switch s.backend.options.Protocol {
	case HTTP2:
		return true
	case Auto:
		return s.tls != nil && !r.Upgrade
	}
	return false
}

// share gives a place on a connection that others use too, and makes one where all are full. With Auto it may be one
// of HTTP/1.
func (s *Server) share(ctx context.Context, r *Request) (Stream, error) {
	for {
		up, wait := s.place(r)
		if up != nil {
			return up, nil
		}
		if wait == nil {
			return s.dialShared(ctx, r)
		}
		select {
		case <-wait.done:
			if wait.err != nil {
				return nil, wait.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// place looks for room. Without any it gives the connection to wait for, or nil: then the caller makes one, and others
// wait for that.
func (s *Server) place(r *Request) (Stream, *pending) {
	h := &s.sharing
	if s.backend.options.SendProxy != 0 {
		return nil, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		if !c.settled {
			continue
		}
		if cs, err := c.Open(); err == nil {
			return newStream(cs, c), nil
		}
	}
	if h.picks1 {
		if c := s.take(r.Repeatable, r.Bodyless); c != nil {
			return c, nil
		}
		return nil, nil
	}
	if h.pending != nil {
		return nil, h.pending
	}
	h.pending = &pending{done: make(chan struct{})}
	return nil, nil
}

func newStream(cs *http2.ClientStream, c *shared) *stream {
	s := streams.Get().(*stream)
	s.ClientStream, s.on = cs, c
	return s
}

// dialShared makes a connection and takes a place on it.
func (s *Server) dialShared(ctx context.Context, r *Request) (up Stream, err error) {
	h := &s.sharing
	panicked := true
	defer func() {
		if panicked { // others wait for this dial
			h.giveUp()
		}
	}()
	c, one, err := s.dial(ctx, r.From, true)
	panicked = false
	h.mu.Lock()
	defer h.mu.Unlock()
	waited := h.pending != nil && h.pending.on == nil && !h.picks1 && s.backend.options.SendProxy == 0
	if waited && c == nil {
		h.made(err)
	}
	if err != nil {
		return nil, err
	}
	h.picks1 = c == nil
	if c == nil {
		return one, nil
	}
	cs, err := c.Open()
	if waited {
		if h.pending.on = c; err != nil || c.settled {
			h.made(nil)
		}
	}
	if err != nil || h.closed {
		c.Close() // once this exchange, which came before the end, is over
	} else {
		h.conns = append(h.conns, c)
	}
	if err != nil {
		return nil, err
	}
	return newStream(cs, c), nil
}

// newShared begins to speak HTTP/2 on a link.
func (s *Server) newShared(on netio.Stream, l *Link) *shared {
	c := &shared{link: l}
	o := s.backend.client2
	o.Settled = func() { s.sharing.settle(c) }
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
func (h *sharing) giveUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending != nil && h.pending.on == nil {
		h.made(ErrInternal)
	}
}

// made ends the wait for a connection; mu is held.
func (h *sharing) made(err error) {
	h.pending.err = err
	close(h.pending.done)
	h.pending = nil
}

// settle lets others have places on c.
func (h *sharing) settle(c *shared) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.settled = true
	if h.pending != nil && h.pending.on == c {
		h.made(nil)
	}
}

// remove is for a connection that has ended.
func (h *sharing) remove(c *shared, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending != nil && h.pending.on == c {
		h.made(err)
	}
	for i := range h.conns {
		if h.conns[i] == c {
			h.conns = append(h.conns[:i], h.conns[i+1:]...)
			return
		}
	}
}

// close ends the connections once their exchanges have ended.
func (h *sharing) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, c := range h.conns {
		c.Close()
	}
}
