package http1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/task"
)

// ServerOptions bound what a client may do. All limits must be set, except for MinRate.
type ServerOptions struct{ Limits }

// ServerConn is a client's connection: requests come in, responses go out. Its life:
//
//	Wait ─► ReadRequest ─► [Body…] ─► [WriteInterim…] ─► WriteHead ─► [WriteBody…] ─► End ─► Wait …
//	                                                        └─(101)─► Body and WriteBody are a tunnel
//
// Reading and writing may happen in two goroutines.
type ServerConn struct {
	bodyWriter
	in      netio.Buffer
	body    bodyReader
	options *ServerOptions

	version      message.Version
	isHead       bool
	closing      bool // no further request is read from this connection
	clientCloses bool // the client announced that nothing follows its request
	headSent     bool
	watching     chan struct{}
}

// errTimeout: a head did not come in time.
var errTimeout = fault(408, "the request head did not arrive in time")

// errNoRequest is the error of the body when no request could be read: nothing that follows is one.
var errNoRequest = errors.New("no request was read")

// NewServerConn makes the server's end of s.
func NewServerConn(s netio.Stream, o *ServerOptions) *ServerConn {
	c := &ServerConn{options: o}
	c.s = s
	pace := netio.Pace{Window: o.IdleTime, MinRate: o.MinRate}
	c.body = bodyReader{s: s, in: &c.in, limits: &o.Limits, pace: pace}
	c.body.reset(noBody, 0, nil)
	s.Base().SetPace(pace)
	return c
}

// Wait returns once the first byte of a request has come; with io.EOF if the client has closed
// instead, with os.ErrDeadlineExceeded at the deadline. One empty line before a request is ignored
// (RFC 9112 section 2.2) and not part of it, so a client that sends one after a body and then
// nothing more counts as silent.
func (c *ServerConn) Wait(deadline time.Time) error {
	for skipped := false; ; {
		b := c.in.Bytes()
		switch {
		case !skipped && len(b) >= 2 && b[0] == '\r' && b[1] == '\n':
			c.in.Discard(2)
			skipped = true
			continue
		case len(b) > 1, len(b) == 1 && (skipped || b[0] != '\r'):
			return nil
		}
		c.s.Base().ReadBy(deadline)
		if err := c.s.Fill(&c.in); err != nil {
			return err
		}
	}
}

// ReadRequest decodes the next head into r, which must be new or reset; start is when its first
// byte came. An *Error is to be answered, after which the connection is of no further use.
func (c *ServerConn) ReadRequest(r *message.Request, start time.Time) error {
	// The connection closes unless the request turns out to be valid.
	c.closing, c.headSent, c.ended = true, false, false
	c.clientCloses = false
	c.version, c.isHead = message.HTTP11, false
	c.body.reset(byLength, 1, nil)
	c.body.err = errNoRequest
	end, err := c.awaitHead(start)
	if err == errHeaderBytes { // the log still names the request
		if line, _, whole := bytes.Cut(c.in.Bytes(), crlf); whole {
			_ = requestLine(r.Header.Copy(line), r)
		}
	}
	if err != nil {
		return err
	}
	sp := framingFields{nominated: c.body.nominated[:0]}
	err = parseRequest(c.in.Bytes()[:end], r, &c.options.Limits, &sp)
	c.body.nominated = sp.nominated
	c.in.Discard(end)
	if err != nil {
		return err
	}
	c.version, c.isHead = r.Version, r.IsHead()
	c.closing, c.clientCloses = r.Close, r.Close
	c.body.reset(lengthFraming(r.ContentLength), r.ContentLength, &r.Trailer)
	c.body.mayAwait100 = r.Expect
	return nil
}

// awaitHead waits for a whole head, and gives its length.
func (c *ServerConn) awaitHead(start time.Time) (end int, err error) {
	scanned := 0
	for {
		if end, scanned, err = requestEnd(c.in.Bytes(), scanned, &c.options.Limits); err != ErrMore {
			return end, err
		}
		c.s.Base().ReadBy(start.Add(c.options.HeaderTime))
		switch err := c.s.Fill(&c.in); {
		case err == nil:
		case err == io.EOF:
			return 0, io.ErrUnexpectedEOF
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, errTimeout
		default:
			return 0, err
		}
	}
}

// Interrupt makes the current read of the body, or else the next one, end with an error.
func (c *ServerConn) Interrupt() { c.s.Base().Interrupt() }

// Resume ends an interruption.
func (c *ServerConn) Resume() { c.s.Base().Resume() }

// Body is the body of the request that was read last.
func (c *ServerConn) Body() message.BodyReader { return &c.body }

// BodyDone says whether that body has been read to its end. Any goroutine may ask.
func (c *ServerConn) BodyDone() bool { return c.body.done() }

// BodyStarted says whether any of it has been read. Any goroutine may ask.
func (c *ServerConn) BodyStarted() bool { return c.body.started.Load() }

// SetClose makes the next response the last one of the connection.
func (c *ServerConn) SetClose() { c.closing = true }

// SetProgress is for an exchange that moves in both directions at once: reads is the progress of
// the request's body, writes that of the response. Nil for both resets that.
func (c *ServerConn) SetProgress(reads, writes *netio.Progress) {
	c.body.setProgress(reads, writes)
	c.s.Base().SetProgress(writes, reads)
}

// WriteInterim sends a 1xx response at once. A client that uses HTTP/1.0 does not know
// these and gets none.
func (c *ServerConn) WriteInterim(r *message.Response) error {
	if c.version == message.HTTP10 {
		return nil
	}
	if err := c.writeHead(r, noBody); err != nil {
		return err
	}
	err := c.Flush()
	if r.Status == 100 {
		c.body.noteContinue()
	}
	return err
}

// WriteHead writes the head of the final response, or of a 101, after which the connection is a
// tunnel.
func (c *ServerConn) WriteHead(r *message.Response) error {
	f := lengthFraming(r.ContentLength)
	switch {
	case r.Status == 101:
		f = raw
		c.closing = true
	case r.NoBody, c.isHead, r.Status == 204, r.Status == 304:
		f = noBody
	case f == chunked && c.version == message.HTTP10:
		f = untilClose
		c.closing = true
	case f == noBody:
		f = byLength // so that an unexpected body is noticed
	}
	c.headSent = true
	c.bodyWriter.reset(f, r.ContentLength)
	if err := c.writeHead(r, f); err != nil {
		return err
	}
	if f == raw {
		c.body.reset(raw, 0, nil)
	}
	return nil
}

func (c *ServerConn) writeHead(r *message.Response, f framing) error {
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	*buf = appendResponse((*buf)[:0], r, c.version, f, c.closing)
	_, err := c.s.Write(*buf)
	return err
}

// HeadSent says whether the head of the final response has been written; there can be no other.
func (c *ServerConn) HeadSent() bool { return c.headSent }

// Next says whether a further request may be read: this one and its response are complete.
func (c *ServerConn) Next() bool {
	return !c.closing && c.ended && c.body.done()
}

// Unread says whether the client may still be sending, or has sent, what will not be read.
func (c *ServerConn) Unread() bool {
	return c.in.Len() > 0 || !c.body.done() && c.body.framing != noBody || !c.clientCloses && !c.s.Base().Idle()
}

// Multiplexed is false: the connection carries one exchange at a time.
func (c *ServerConn) Multiplexed() bool { return false }

// Abort ends the connection at once, from any goroutine; calls that wait on it get an error.
func (c *ServerConn) Abort() { _ = c.s.Base().Abort() }

// Err is nil: only the connection as a whole ends.
func (c *ServerConn) Err() error { return nil }

// ResetAs is for multiplexed exchanges.
func (c *ServerConn) ResetAs(uint32) {}

// Version is the version that the client uses.
func (c *ServerConn) Version() message.Version { return c.version }

// maxWatched is how much a client may send ahead while it is watched.
const maxWatched = 64 << 10

// Watch continues to read while a request, which must have been read completely, is processed, to
// notice a client that leaves: gone is then called, once, from another goroutine. What is read is
// kept for the next request. StopWatch must follow.
func (c *ServerConn) Watch(gone func()) {
	c.watching = make(chan struct{})
	_ = c.s.Base().SetReadDeadline(time.Time{})
	task.Go("watch for a client that leaves", func() { c.watch(gone) }, nil)
}

func (c *ServerConn) watch(gone func()) {
	defer close(c.watching)
	for c.in.Len() < maxWatched {
		if err := c.s.Fill(&c.in); err == netio.ErrInterrupted {
			return
		} else if err != nil {
			gone()
			return
		}
	}
}

// StopWatch ends a Watch, if there is one, and waits for its goroutine.
func (c *ServerConn) StopWatch() {
	if c.watching == nil {
		return
	}
	c.s.Base().Interrupt()
	<-c.watching
	c.s.Base().Resume()
	c.watching = nil
}

// Release gives back the memory that the connection holds. Nothing may follow.
func (c *ServerConn) Release() { c.in.Release() }

// Linger ends the connection so that a client which is still sending gets to read the last
// response: a close with unread input would reset it (RFC 9112 section 9.6). It takes what l
// allows, and does not read the bytes: discarding what an attacker sends must not cost CPU time,
// least of all for decryption. A client that is not within a valid body gets the time of a silence.
func (c *ServerConn) Linger(l netio.Linger) {
	if c.body.done() || c.body.err != nil {
		l.Time = min(l.Time, l.Silence)
	}
	if c.s.CloseWrite() != nil {
		return
	}
	c.in.Release()
	base := c.s.Base()
	base.Resume()
	_ = base.Drop(l)
}
