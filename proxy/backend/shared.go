package backend

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/http2"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// Protocol selects the HTTP version of connections to servers.
type Protocol uint8

const (
	HTTP1 Protocol = iota
	HTTP2          // with TLS by ALPN, without TLS by prior knowledge
	Auto           // with TLS what the server selects, without TLS HTTP/1
)

// ErrNotProcessed means that the server did not process the request, which may be sent again
// whatever its method is.
var ErrNotProcessed = http2.ErrNotProcessed

// ErrInternal means a fault in this program, not in the server.
var ErrInternal = http2.ErrInternal

// ErrNoHTTP2 means that the server selected HTTP/1 where HTTP/2 is required.
var ErrNoHTTP2 = errors.New("the server does not support HTTP/2, which is required")

// sharedConn is a connection to a server that carries many exchanges at a time.
type sharedConn struct {
	*http2.ClientConn
	link   *Link
	served atomic.Int64 // requests
	ready  bool         // the server's SETTINGS have arrived; guarded by sharedConns.mu
}

// stream is an exchange on a shared connection.
type stream struct {
	*http2.ClientStream
	conn       *sharedConn
	closeAfter bool // the connection ends after its present exchanges
}

var streams = sync.Pool{New: func() any { return &stream{} }}

func newStream(cs *http2.ClientStream, c *sharedConn) *stream {
	c.link.server.requestBegins()
	if c.link.server.backend.options.Keep.usedUp(int(c.served.Add(1))) {
		c.Close() // after its present exchanges
	}
	s := streams.Get().(*stream)
	s.ClientStream, s.conn = cs, c
	return s
}

// MayReturn is true: RFC 9113 section 8.7.
func (s *stream) MayReturn() bool { return true }

func (s *stream) State(now time.Time) (mptcp.Transport, int) { return s.conn.link.State(now) }

// NoteAuthentication makes the connection end after its present exchanges if the response declares
// it authenticated: a connection that many clients share can belong to none of them.
func (s *stream) NoteAuthentication(h *message.Header, _ *Owner) {
	s.closeAfter = s.closeAfter || declaresAuthenticated(h)
}

func (s *stream) Release(time.Time) {
	server := s.conn.link.server
	server.requestEnds()
	s.ClientStream.Release()
	if b := server.backend; b.connLimit.waiting.Load() > 0 {
		b.connLimit.wake(b) // the connection has room for another exchange
	}
	if s.closeAfter || server.backend.options.SendProxy != 0 { // the PROXY header names one client
		s.conn.Close()
	}
	s.ClientStream, s.conn, s.closeAfter = nil, nil, false
	streams.Put(s)
}

// mayShare reports whether a request may use a shared connection.
func (s *Server) mayShare(r *Request) bool {
	switch s.backend.options.Protocol {
	case HTTP2:
		return true
	case Auto:
		return s.tls != nil && !r.Upgrade && !r.Authenticates
	}
	return false
}

// openShared returns a stream on a shared connection, and dials one if all are full. With Auto, the
// stream may be one of HTTP/1.
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

// dialShared dials a connection and opens a stream on it. Other requests may wait for it as p.
func (s *Server) dialShared(ctx context.Context, r *Request, p *pending) (Stream, error) {
	h := &s.shared
	panicked := true
	defer func() {
		if panicked { // other requests wait for this dial
			h.failPending(p)
		}
	}()
	c, exclusive, err := s.dial(ctx, r.From, true)
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
		return exclusive.begin(r), nil
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

// dialExclusive dials a connection for one exchange.
func (s *Server) dialExclusive(ctx context.Context, r *Request) (Stream, error) {
	c, exclusive, err := s.dial(ctx, r.From, true)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return exclusive.begin(r), nil
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

// newShared starts HTTP/2 on a link.
func (s *Server) newShared(on netio.Stream, l *Link) *sharedConn {
	c := &sharedConn{link: l}
	o := s.backend.client2
	o.OnSettings = func() { s.shared.markReady(c) }
	c.ClientConn = http2.NewClientConn(on, &o)
	s.backend.readers.Go("backend "+s.backend.Name()+": connection to "+s.Address, func() { s.runShared(c, on) }, c.Fail)
	return c
}

// runShared reads a connection until it ends.
func (s *Server) runShared(c *sharedConn, on netio.Stream) {
	err := ErrInternal // if Run panics
	defer func() {
		s.shared.remove(c, err)
		c.link.countClose()
		_ = on.Close()
	}()
	err = c.Run() // the streams of the connection return it, too
}

// closeIfRetired makes a retired connection end after its exchanges, and reports whether it was
// retired.
func (c *sharedConn) closeIfRetired() bool {
	if !c.link.info.Retired() {
		return false
	}
	c.Close()
	return true
}
