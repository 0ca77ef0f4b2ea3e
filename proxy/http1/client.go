package http1

import (
	"io"
	"sync/atomic"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// ClientOptions bound what a server may do. All but SlowAfter must be set.
type ClientOptions struct {
	Limits
	// SlowAfter is the silence in a body after which its reader gets message.ErrSlow once; 0:
	// never.
	SlowAfter time.Duration
}

// maxInterim bounds the 1xx responses before a final one.
const maxInterim = 32

var (
	errInterim = fault(502, "more than 32 interim responses")
	errSwitch  = fault(502, "101 without a request to switch protocols")
)

// ClientConn is a connection to a server: requests go out, responses come in. Its life:
//
//	WriteHead ─► [WriteBody…] ─► End ─► ReadHead (once for each 1xx, then the final one) ─► [Body…] ─► Reusable?
//	                                       └─(101)─► Body and WriteBody are a tunnel
//
// Reading and writing may happen in two goroutines: a server may answer before it has the whole
// request.
type ClientConn struct {
	bodyWriter
	in      netio.Buffer
	body    bodyReader
	options *ClientOptions

	isHead     bool
	upgrade    []byte // the protocol that was requested
	expects    bool   // a 100 was requested and has not come
	interim    int
	scanned    int
	answered   bool // a byte of the response has come
	final      bool // its head was read
	persistent bool // the server keeps the connection open after it
	aborted    atomic.Bool
}

// NewClientConn makes the client's end of s.
func NewClientConn(s netio.Stream, o *ClientOptions) *ClientConn {
	c := &ClientConn{options: o}
	c.s = s
	pace := netio.Pace{Window: o.IdleTime}
	c.body = bodyReader{s: s, in: &c.in, limits: &o.Limits, pace: pace}
	s.Base().SetPace(pace)
	return c
}

// Stream is the connection below HTTP.
func (c *ClientConn) Stream() netio.Stream { return c.s }

// WriteHead begins an exchange. The head is held until the first Flush or read.
func (c *ClientConn) WriteHead(r *message.Request) error {
	c.isHead, c.upgrade = r.IsHead(), r.Upgrade
	c.expects = r.Expect && r.ContentLength != 0
	c.interim, c.scanned = 0, 0
	c.answered, c.final, c.persistent = false, false, false
	c.body.reset(byLength, 1, nil) // not complete before its head has said so
	c.bodyWriter.reset(lengthFraming(r.ContentLength), r.ContentLength)
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	*buf = AppendRequest((*buf)[:0], r)
	if err := c.s.Base().CheckIdle(len(*buf)); err != nil {
		return err
	}
	_, err := c.s.Write(*buf)
	return err
}

// ExpectIdle makes the first ReadHead of a request without a body check, before anything of it
// is sent, that the server has not closed the connection meanwhile; it then gives netio.ErrSpoke.
// It replaces a call of Idle.
func (c *ClientConn) ExpectIdle() { c.s.Base().ExpectIdle() }

// ReadHead decodes the next head, interim or final, into r, which must be new or reset. At the
// deadline it gives os.ErrDeadlineExceeded and may be called again. io.EOF: the server closed
// before the first byte of a response, see Answered.
func (c *ClientConn) ReadHead(r *message.Response, deadline time.Time) error {
	end, err := c.awaitHead(deadline)
	if err != nil {
		return err
	}
	sp := framingFields{nominated: c.body.nominated[:0]}
	err = parseResponse(c.in.Bytes()[:end], r, c.isHead, &c.options.Limits, &sp)
	c.body.nominated = sp.nominated
	c.in.Discard(end)
	if err != nil {
		return err
	}
	if r.Interim() {
		c.expects = c.expects && r.Status != 100
		if c.interim++; c.interim > maxInterim {
			return errInterim
		}
		return nil
	}
	c.final = true
	// A server that was offered another protocol may read what comes next as that one; a server
	// that answered instead of requesting the body may read the body as a request (RFC 9110 section
	// 10.1.1).
	c.persistent = !r.Close && c.upgrade == nil && !c.expects
	c.body.slowAfter = c.options.SlowAfter
	switch {
	case r.Status == 101:
		if !c.switches(r.Upgrade) {
			return errSwitch
		}
		c.persistent = false
		c.body.reset(raw, 0, nil)
	case r.NoBody:
		c.body.reset(noBody, 0, nil)
	case r.UntilClose:
		c.body.reset(untilClose, 0, nil)
	default:
		c.body.reset(lengthFraming(r.ContentLength), r.ContentLength, &r.Trailer)
	}
	return nil
}

func (c *ClientConn) awaitHead(deadline time.Time) (end int, err error) {
	for {
		b := c.in.Bytes()
		c.answered = c.answered || len(b) > 0
		if end, c.scanned, err = headEnd(b, c.scanned, &c.options.Limits); err != ErrMore {
			return end, err
		}
		c.s.Base().ReadBy(deadline)
		if err := c.s.Fill(&c.in); err != nil {
			if err == io.EOF && c.answered {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
}

// Tunnel makes what is written from now on part of the protocol that a 101 changed to. The request
// must have been written whole (RFC 9110 section 7.8).
func (c *ClientConn) Tunnel() { c.bodyWriter.reset(raw, 0) }

// switches says whether a 101 changes to the protocol that was requested.
func (c *ClientConn) switches(to []byte) bool {
	return c.upgrade != nil && message.EqualFold(c.upgrade, to)
}

// SetProgress is for an exchange that moves in both directions at once: reads is the progress of
// the response, writes that of the request's body. Nil for both resets that.
func (c *ClientConn) SetProgress(reads, writes *netio.Progress) {
	c.body.setProgress(reads, writes)
	c.s.Base().SetProgress(writes, reads)
}

// SetTrailer sets where the trailer goes, by default to the Response of ReadHead. It is called
// after that, before the first read of the body.
func (c *ClientConn) SetTrailer(h *message.Header) {
	if c.body.trailer != nil {
		c.body.trailer = h
	}
}

// Body is the body of the final response.
func (c *ClientConn) Body() message.BodyReader { return &c.body }

// Answered says whether any of a response came in this exchange: then the request must not be sent
// again.
func (c *ClientConn) Answered() bool { return c.answered || c.interim > 0 }

// Reusable says whether the connection can carry another exchange: request and response are
// complete, the server keeps it open, and nothing came after the response.
func (c *ClientConn) Reusable() bool {
	return !c.aborted.Load() && c.final && c.persistent && c.ended && c.body.done() && c.in.Len() == 0
}

// Idle says whether a connection that waits for its next use is still open and silent. It costs one
// system call.
func (c *ClientConn) Idle() bool { return c.in.Len() == 0 && c.s.Idle() }

// Close ends the connection in order.
func (c *ClientConn) Close() error {
	c.in.Release()
	return c.s.Close()
}

// Abort ends the connection at once, from any goroutine; calls that wait on it get an error.
func (c *ClientConn) Abort() {
	c.aborted.Store(true)
	_ = c.s.Base().Abort()
}
