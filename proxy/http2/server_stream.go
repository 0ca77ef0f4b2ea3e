package http2

import (
	"bytes"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"mpgate/proxy/message"
	"mpgate/task"
)

// ServerStream is one exchange with a client. It is a message.BodyWriter. It belongs to its handler
// until that returns; what has not ended by then is reset.
type ServerStream struct {
	stream
	body      body
	req       message.Request
	fault     *message.Error // the error of the request
	malformed bool           // the stream is reset after the answer
	websocket bool
	started   bool
	key       [24]byte // of the websocket
	isHead    bool
	headSent  bool
	resetAs   http2.ErrCode // the code that resets an incomplete response
	began     time.Time
	run       task.Task // stored once
}

var serverStreams sync.Pool

func newServerStream() *ServerStream {
	if s, ok := serverStreams.Get().(*ServerStream); ok {
		return s
	}
	s := &ServerStream{}
	s.readers, s.writers = newWaiter(), newWaiter()
	s.server = s
	s.body.stream = &s.stream
	s.run = task.New("HTTP/2 stream", s.serve, nil)
	return s
}

// begin takes the request from the decoded header block.
func (s *ServerStream) begin(c *ServerConn, f *fields, b *blockState) {
	s.headSent, s.malformed, s.started, s.resetAs = false, false, false, http2.ErrCodeInternal
	s.websocket, s.fault = f.request(&s.req, b.endStream)
	s.isHead = s.req.IsHead()
	s.malformed = s.fault != nil && s.fault.Status == 400
	if s.websocket && s.fault == nil {
		copy(s.key[:], s.req.Header.Get(message.SecWebSocketKey))
	}
	s.began = time.Now()
}

func (s *ServerStream) free() {
	s.req.Reset()
	s.trailer.Reset()
	s.fault, s.body.trailerTo = nil, nil
	serverStreams.Put(s)
}

// Began is when the request's head was complete.
func (s *ServerStream) Began() time.Time { return s.began }

// ReadRequest gives the request, into r, which must be new or reset. A *message.Error is to be
// answered; any other error means that the client has gone. The time is for http1,
// which reads the request only then.
func (s *ServerStream) ReadRequest(r *message.Request, _ time.Time) error {
	*r, s.req = s.req, *r
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.reset {
		return s.err
	}
	if s.fault != nil {
		return s.fault
	}
	s.body.trailerTo = &r.Trailer
	return nil
}

// Body is the body of the request.
func (s *ServerStream) Body() message.BodyReader { return &s.body }

// BodyDone says whether it has been read to its end.
func (s *ServerStream) BodyDone() bool { return s.body.done() }

// BodyStarted says whether any of it has been read.
func (s *ServerStream) BodyStarted() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.stream.bodyStarted
}

// HeadSent says whether the head of the final response has been written.
func (s *ServerStream) HeadSent() bool { return s.headSent }

// SetClose does nothing: the connection carries other exchanges.
func (s *ServerStream) SetClose() {}

// WriteInterim sends a 1xx response at once.
func (s *ServerStream) WriteInterim(r *message.Response) error {
	if err := s.writeHead(r, r.Status, false); err != nil {
		return err
	}
	return s.Flush()
}

// WriteHead writes the head of the final response, or of a 101, after which the stream is a tunnel.
func (s *ServerStream) WriteHead(r *message.Response) error {
	status, end := r.Status, false
	switch {
	case status == 101:
		accept := acceptFor(s.key[:])
		if !s.websocket || !bytes.Equal(r.Header.Get(message.SecWebSocketAccept), accept[:]) {
			return errAccept
		}
		r.Header.Del(message.SecWebSocketAccept)
		status = 200
	case s.websocket && status/100 == 2: // to the client that would open a tunnel
		return errNoTunnel
	case r.NoBody, s.isHead, status == 204, status == 304, r.ContentLength == 0:
		end = true
	}
	if err := s.writeHead(r, status, end); err != nil {
		return err
	}
	s.headSent = true
	if r.Status != 101 && !end {
		s.conn.mu.Lock()
		s.toSend = r.ContentLength
		s.conn.mu.Unlock()
	}
	return nil
}

func (s *ServerStream) writeHead(r *message.Response, status int, end bool) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waitForBuffer()
	if err := s.writeError(); err != nil {
		return err
	}
	c.blockBuf = c.encoder.response(c.blockBuf[:0], r, status)
	s.writeBlock(c.blockBuf, end)
	return nil
}

// End completes the response.
func (s *ServerStream) End(trailer *message.Header) error { return s.end(trailer) }

// ResetAs sets the code that resets a response that is not complete at the end, instead of
// INTERNAL_ERROR.
func (s *ServerStream) ResetAs(code uint32) { s.resetAs = http2.ErrCode(code) }

// Multiplexed is true: the connection carries other streams.
func (s *ServerStream) Multiplexed() bool { return true }

// Abort resets the stream, from any goroutine.
func (s *ServerStream) Abort() {
	var gone func()
	c := s.conn
	c.mu.Lock()
	defer func() { c.unlockAndCall(gone) }()
	if !s.reset {
		gone = c.abortStream(&s.stream, errAborted, http2.ErrCodeCancel)
		c.wantFlush()
	}
}

// Err is why the stream was reset, by either side or with its connection, or nil.
func (s *ServerStream) Err() error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if !s.reset {
		return nil
	}
	return s.err
}

// Watch calls gone, from another goroutine, when the client resets the stream or leaves,
// whether or not the body has been read. StopWatch must follow.
func (s *ServerStream) Watch(gone func()) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.reset {
		s.onGone = gone
		return
	}
	c.goneMu.Lock() // StopWatch waits for it
	task.Go("HTTP/2: client has left", func() {
		defer c.goneMu.Unlock()
		gone()
	}, nil)
}

// StopWatch ends a Watch, if there is one: afterwards gone is neither running nor called.
func (s *ServerStream) StopWatch() {
	c := s.conn
	c.mu.Lock()
	watched := s.onGone != nil
	s.onGone = nil
	c.mu.Unlock()
	if !watched {
		c.goneMu.Lock()
		//lint:ignore SA2001 it is held while gone runs
		c.goneMu.Unlock()
	}
}
