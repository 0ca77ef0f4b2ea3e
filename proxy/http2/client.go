package http2

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"mpgate/proxy/limits"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
)

// ClientOptions bound what a server may do. What is zero gets the default.
type ClientOptions struct {
	Limits                   // limits.Servers
	Patience   time.Duration // the silence in a body after which the reader is told once, by message.ErrSlow; 0 is never
	PingEvery  time.Duration // of silence while streams are open: then a PING asks whether the peer is there; 15 s
	PingAnswer time.Duration // that it has to answer, or the connection ends; 15 s
	Memory     *Memory       // shared by the connections; nil: no limit for all together
	Settled    func()        // called by Run once the server has said how many streams it takes; it may be nil
}

// ClientConn is a connection to a server, which many exchanges share. Its life:
//
//	NewClientConn ─► Run (in a goroutine, until the connection ends) … Open, as often as it allows … Close
type ClientConn struct {
	conn
	patience  time.Duration
	onSettled func()
	response  message.Response // that is being read

	// guarded by conn.mu
	most      int       // streams that the server allows at a time
	connect   bool      // it takes extended CONNECT
	reserved  int       // streams that were opened and have no number yet
	opened    int       // in all
	goingAway bool      // the server takes no further streams
	closing   bool      // we open no further streams; those that were opened may begin
	ready     sync.Cond // the server's settings came, or the connection failed
}

// NewClientConn gives the client's end of s. What it has to say at the beginning leaves with the
// first request.
func NewClientConn(s netio.Stream, o *ClientOptions) *ClientConn {
	l := connLimits{Limits: o.Limits.Or(limits.Servers), pingEvery: o.PingEvery, pingAnswer: o.PingAnswer, memory: o.Memory}
	l.setDefaults()
	c := &ClientConn{patience: o.Patience, onSettled: o.Settled, most: 100}
	c.ready.L = &c.mu
	c.client = c
	c.init(s, l)
	c.mu.Lock()
	c.buf = append(c.room9(len(preread.Preface)), preread.Preface...)
	c.firstSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(l.HeaderBytes)})
	c.grant()
	c.mu.Unlock()
	return c
}

// Run reads the connection until it ends, and gives the reason: nil where it ended in order. It
// does not close the stream.
func (c *ClientConn) Run() error {
	err := c.reading()
	orderly := c.takeLeave(err)
	c.fail(err)
	c.awaitWriters()
	c.in.Release()
	if orderly {
		return nil
	}
	return err
}

// takeLeave sends what there is to say at the end, and says whether it is one in order.
func (c *ClientConn) takeLeave(err error) (orderly bool) {
	var fault *ConnError
	c.mu.Lock()
	defer c.mu.Unlock()
	orderly = (c.goingAway || c.closing) && len(c.streams) == 0 || errors.Is(err, os.ErrDeadlineExceeded) && c.settled && c.unused() ||
		err == io.EOF && c.unused()
	if errors.As(err, &fault) && c.err == nil {
		c.appendGoAway(0, fault.Code)
	}
	c.goingAway = true
	if c.err == nil && err != io.EOF { // a peer that has closed is not sent requests that still wait
		c.sendRest()
	}
	return orderly
}

func (c *ClientConn) awaitWriters() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready.Broadcast()
	c.quiet()
}

// Open reserves room for a stream. ErrFull: the connection carries as many as it may; ErrClosed: it
// takes no more.
func (c *ClientConn) Open() (*ClientStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.goingAway || c.closing || c.err != nil || c.lastID+2*uint32(c.reserved) > maxStreamID-4:
		return nil, ErrClosed
	case c.open+c.reserved >= c.most:
		return nil, ErrFull
	}
	c.reserved++
	c.opened++
	s := clientStreams.Get().(*ClientStream)
	s.stream.open(&c.conn, 0)
	s.first = c.opened == 1
	return s, nil
}

// Streams is how many streams the server counts as open, or is about to, and how many it allows.
func (c *ClientConn) Streams() (now, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open + c.reserved, c.most
}

// Usable says whether the connection takes further streams, be it when others have ended.
func (c *ClientConn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.goingAway && !c.closing && c.err == nil
}

// Close ends the connection in order: Open gives no further streams, and Run returns when those
// there are have ended.
func (c *ClientConn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	c.stopIfDrained()
}

// Abort ends the connection at once, from any goroutine.
func (c *ClientConn) Abort() { _ = c.base.Abort() }

func (c *ClientConn) drained() bool { return (c.goingAway || c.closing) && c.unused() }

func (c *ClientConn) stopIfDrained() {
	if c.drained() {
		c.base.Interrupt()
	}
}

// goAway takes the server's GOAWAY: streams beyond the last that it has looked at were not
// processed.
func (c *ClientConn) goAway(f *http2.GoAwayFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goingAway = true
	for id, s := range c.streams {
		if id > f.LastStreamID {
			c.kill(s, ErrNotProcessed, noReset)
		}
	}
	c.stopIfDrained()
}

// openBlock is called for the HEADERS of c.block.
func (c *ClientConn) openBlock() error {
	b := &c.block
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[b.id]
	c.fields.reset(discarded, nil, &c.limits.Limits)
	switch {
	case s == nil && (!clientID(b.id) || b.id > c.lastID):
		return protocolError("HEADERS for a stream that was not opened")
	case s == nil && !c.closed.has(b.id):
		return &ConnError{http2.ErrCodeStreamClosed, "HEADERS for a stream that was closed"}
	case s == nil, s.reset:
	case s.recvEnd:
		b.refused = http2.ErrCodeStreamClosed
	case !s.client.final:
		c.response.Reset()
		c.fields.reset(responseBlock, &c.response.Header, &c.limits.Limits)
	case !b.endStream:
		b.refused = http2.ErrCodeProtocol
	default:
		c.trailer.Reset()
		c.fields.reset(trailerBlock, &c.trailer, &c.limits.Limits)
	}
	return nil
}

// closeBlock is called once c.block is decoded.
func (c *ClientConn) closeBlock() (err error) {
	b := &c.block
	switch {
	case b.refused != noReset:
		return c.badStream(b.id, b.refused)
	case c.fields.kind == trailerBlock:
		return c.takeTrailer(b.id)
	case c.fields.kind == discarded:
		return nil
	}
	var gone func()
	c.mu.Lock()
	defer func() { c.callGone(gone) }()
	s := c.streams[b.id]
	if s == nil || s.reset {
		return nil
	}
	r := &c.response
	declared, fault := c.fields.response(r, b.endStream, s.client.isHead)
	if fault == nil && r.Interim() {
		if s.client.interim++; s.client.interim > maxInterim {
			fault = errInterim
		}
	}
	if fault != nil {
		gone, err = c.refuse(s, fault)
		return err
	}
	s.client.push(r)
	if r.Interim() {
		s.readers.wake()
		return nil
	}
	s.client.final = true
	s.declared = declared
	if s.raw && r.Status/100 == 2 {
		s.declared = message.Unknown
	} else {
		s.raw = false
	}
	s.readers.wake()
	if b.endStream {
		gone, err = c.endBody(s)
	}
	return err
}
