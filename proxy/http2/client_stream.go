package http2

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"mpgate/proxy/message"
)

// ClientStream is one exchange with a server:
//
//	WriteHead ─► [WriteBody…] ─► End ─► ReadHead (once for each 1xx, then the final one) ─► [Body…] ─► Release
//	                                       └─(101)─► Body and WriteBody are a tunnel
//
// Reading and writing may happen in two goroutines. Abort may be called from any.
type ClientStream struct {
	stream
	body      body
	first     bool // of its connection
	isHead    bool
	final     bool // the final head came
	interim   int
	accept    [28]byte // the Sec-WebSocket-Accept that is expected
	upgrading bool     // a WebSocket was requested, and not answered
	headBatch uint32   // the batch of the connection that holds the head

	heads     []message.Response // received
	headsRead int                // how many of them were read
}

var clientStreams = sync.Pool{New: func() any {
	s := &ClientStream{}
	s.readers, s.writers = newWaiter(), newWaiter()
	s.client = s
	s.body.stream = &s.stream
	return s
}}

// queueHead keeps a head for ReadHead, and exchanges the memory of r; conn.mu is held.
func (s *ClientStream) queueHead(r *message.Response) {
	if len(s.heads) < cap(s.heads) {
		s.heads = s.heads[:len(s.heads)+1]
	} else {
		s.heads = append(s.heads, message.Response{})
	}
	last := &s.heads[len(s.heads)-1]
	// The caller still reads those members of r that are not memory.
	h, t := last.Header, last.Trailer
	*last = *r
	r.Header, r.Trailer = h, t
}

// WriteHead begins the exchange. The head is held until Flush, ReadHead, or another write of the
// connection.
func (s *ClientStream) WriteHead(r *message.Request) error {
	c := s.conn.client
	c.mu.Lock()
	defer c.mu.Unlock()
	s.isHead, s.final, s.interim, s.upgrading = r.IsHead(), false, 0, false
	s.heads, s.headsRead = s.heads[:0], 0
	s.body.slowAfter, s.body.trailerTo = c.slowAfter, nil
	var protocol, key []byte
	if r.Upgrade != nil && r.Version != message.HTTP20 && (!message.EqualFold(r.Upgrade, "websocket") || r.ContentLength != 0) {
		r.Upgrade = nil // an Upgrade may be ignored (RFC 9110 section 7.8); HTTP/2 has none
	}
	if r.Upgrade != nil {
		if err := c.upgrade(s, r); err != nil {
			return err
		}
		if r.Upgrade != nil {
			protocol, key = webSocketName, r.Header.Get(message.SecWebSocketKey)
		}
	}
	c.waitForBuffer()
	switch {
	case s.err != nil:
		return s.err
	case c.err != nil:
		return errors.Join(ErrNotProcessed, c.err)
	case c.goingAway:
		return ErrNotProcessed
	}
	if c.lastID == 0 {
		c.lastID = 1
	} else {
		c.lastID += 2
	}
	s.id = c.lastID
	c.reserved--
	s.sendWindow = c.sendInitial
	s.register()
	if protocol == nil {
		s.toSend = r.ContentLength
	}
	if protocol != nil {
		r.Header.Del(message.SecWebSocketKey)
	}
	c.blockBuf = c.encoder.request(c.blockBuf[:0], r, protocol)
	if protocol != nil {
		r.Header.Add(message.SecWebSocketKey, key) // the request may be sent again
	}
	s.headBatch = c.batch
	s.writeBlock(c.blockBuf, r.ContentLength == 0 && protocol == nil)
	return nil
}

// upgrade prepares s for r as an extended CONNECT (RFC 8441), if the server supports that; c.mu is
// held.
func (c *ClientConn) upgrade(s *ClientStream, r *message.Request) error {
	if !c.gotSettings {
		c.flush(nil)
	}
	for !c.gotSettings && c.err == nil {
		c.ready.Wait()
	}
	if c.err != nil {
		return errors.Join(ErrNotProcessed, c.err)
	}
	if !c.extendedConnect {
		if r.Version != message.HTTP20 { // in HTTP/1 the Upgrade is only an offer
			r.Upgrade = nil
			return nil
		}
		return ErrNoConnect
	}
	s.accept = acceptFor(r.Header.Get(message.SecWebSocketKey))
	s.tunnel, s.upgrading = true, true
	return nil
}

// ReadHead gives the next head, interim or final, in r, which must be new or reset. At the
// deadline it gives os.ErrDeadlineExceeded and may be called again. ErrNotProcessed: the request
// may be sent elsewhere.
func (s *ClientStream) ReadHead(r *message.Response, deadline time.Time) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.headsRead == len(s.heads) {
		if s.reset {
			return s.err
		}
		c.flushNow()
		d := time.Until(deadline)
		if deadline.IsZero() {
			d = 0
		} else if d <= 0 {
			return os.ErrDeadlineExceeded
		}
		if s.headsRead < len(s.heads) || s.reset {
			continue // it came while flushNow released the lock
		}
		c.mu.Unlock()
		s.readers.wait(d)
		c.mu.Lock()
	}
	*r, s.heads[s.headsRead] = s.heads[s.headsRead], *r
	if s.headsRead++; s.headsRead == len(s.heads) {
		s.heads, s.headsRead = s.heads[:0], 0
	}
	if r.Interim() {
		return nil
	}
	if s.upgrading { // no other goroutine writes then: such a request has no body
		s.upgrading = false
	}
	if s.tunnel {
		r.Status, r.Upgrade, r.NoBody, r.ContentLength = 101, webSocketName, false, 0
		r.Header.Add(message.SecWebSocketAccept, s.accept[:])
		s.toSend = message.Unknown
		return nil
	}
	s.body.trailerTo = &r.Trailer
	return nil
}

// SetTrailer sets where the trailer goes, by default to the Response of ReadHead. It is called
// after that, before the first read of the body.
func (s *ClientStream) SetTrailer(h *message.Header) {
	if s.body.trailerTo != nil {
		s.body.trailerTo = h
	}
}

// Tunnel does nothing: here a request for another protocol has no body.
func (s *ClientStream) Tunnel() {}

// Body is the body of the final response.
func (s *ClientStream) Body() message.BodyReader { return &s.body }

// Answered says whether any of a response came in this exchange.
func (s *ClientStream) Answered() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.final || s.interim > 0
}

// Reused says whether the connection carried exchanges before.
func (s *ClientStream) Reused() bool { return !s.first }

// End completes the request. One for another protocol is complete with its head, and its stream
// stays open for the tunnel.
func (s *ClientStream) End(trailer *message.Header) error {
	if s.upgrading {
		return nil
	}
	return s.end(trailer)
}

// Abort ends the exchange at once, from any goroutine; calls that wait in it get an error.
func (s *ClientStream) Abort() {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.reset:
	case s.id == 0:
		s.reset, s.err = true, errAborted
	case s.sentEnd && s.recvEnd && s.inbox.size == 0:
	default:
		c.abortStream(&s.stream, errAborted, http2.ErrCodeCancel)
		c.wantFlush()
	}
}

// detach removes the exchange from its connection.
func (s *ClientStream) detach() {
	c := s.conn.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.id == 0 {
		c.reserved--
	} else {
		if !s.reset && !(s.recvEnd && (s.sentEnd || s.stopped)) && c.err == nil {
			c.abortStream(&s.stream, errAborted, http2.ErrCodeCancel)
		}
		s.unregister()
		c.wantFlush()
	}
	c.stopIfDrained()
}

// Release ends the exchange and frees its place for another. Nothing may follow.
func (s *ClientStream) Release() {
	s.detach()
	for i := range s.heads {
		s.heads[i].Reset()
	}
	s.body.trailerTo = nil
	clientStreams.Put(s)
}
