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
	Limits // limits.Servers
	// SlowAfter is the silence in a body after which its reader gets message.ErrSlow once; 0:
	// never.
	SlowAfter time.Duration
	// After PingEvery of silence while streams are open a PING checks the peer, 15 s; the
	// connection ends if no answer comes for PingAnswer, 15 s.
	PingEvery, PingAnswer time.Duration
	Memory                *Memory // shared by the connections; nil: no limit for all together
	// OnSettings, if not nil, is called by Run once the server has said how many streams it takes.
	OnSettings func()
}

// ClientConn is a connection to a server, which many exchanges share. Its life:
//
//	NewClientConn ─► Run (in a goroutine, until the connection ends) … Open, as often as it allows … Close
type ClientConn struct {
	conn
	slowAfter  time.Duration
	onSettings func()
	response   message.Response // that is being read

	// guarded by conn.mu
	streamLimit     int  // streams that the server allows at a time
	extendedConnect bool // it takes extended CONNECT
	reserved        int  // streams that were opened and have no identifier yet
	opened          int  // in all
	goingAway       bool // the server takes no more streams
	goAwayCode      http2.ErrCode
	closing         bool      // we open no more streams; those that were opened may begin
	ready           sync.Cond // the server's settings came, or the connection failed
}

// NewClientConn makes the client's end of s. Its first frames leave with the first request.
func NewClientConn(s netio.Stream, o *ClientOptions) *ClientConn {
	l := connLimits{Limits: o.Limits.Or(limits.Servers), pingEvery: o.PingEvery, pingAnswer: o.PingAnswer, memory: o.Memory}
	l.setDefaults()
	c := &ClientConn{slowAfter: o.SlowAfter, onSettings: o.OnSettings, streamLimit: 100}
	c.ready.L = &c.mu
	c.client = c
	c.init(s, l)
	c.mu.Lock()
	c.buf = append(c.reserve(len(preread.Preface)), preread.Preface...)
	c.appendFirstSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(l.HeaderBytes)})
	c.grant()
	c.mu.Unlock()
	return c
}

// Run reads the connection until it ends, and gives the reason: nil if that was orderly. It
// does not close the stream.
func (c *ClientConn) Run() error {
	err := c.runReader()
	orderly := c.sendLastFrames(err)
	c.fail(err)
	c.awaitWriters()
	c.in.Release()
	if orderly {
		return nil
	}
	return err
}

// sendLastFrames sends what is left at the end, and says whether the end is orderly.
func (c *ClientConn) sendLastFrames(err error) (orderly bool) {
	var fault *ConnError
	c.mu.Lock()
	defer c.mu.Unlock()
	orderly = (c.goingAway || c.closing) && len(c.streams) == 0 || errors.Is(err, os.ErrDeadlineExceeded) && c.gotSettings && c.unused() ||
		err == io.EOF && c.unused()
	if errors.As(err, &fault) && c.err == nil {
		c.appendGoAway(0, fault.Code)
	}
	c.goingAway = true
	if c.err == nil && err != io.EOF { // requests that wait are not sent to a peer that has closed
		c.sendRest()
	}
	return orderly
}

func (c *ClientConn) awaitWriters() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready.Broadcast()
	c.waitForWriter()
}

// Open reserves a stream. ErrFull: the connection carries as many as it may; ErrClosed: it takes no
// more.
func (c *ClientConn) Open() (*ClientStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.goingAway || c.closing || c.err != nil || c.lastID+2*uint32(c.reserved) > maxStreamID-4:
		return nil, ErrClosed
	case c.open+c.reserved >= c.streamLimit:
		return nil, ErrFull
	}
	c.reserved++
	c.opened++
	s := clientStreams.Get().(*ClientStream)
	s.stream.open(&c.conn, 0)
	s.first = c.opened == 1
	return s, nil
}

// Streams is how many streams are open to the server or reserved, and how many it allows.
func (c *ClientConn) Streams() (now, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open + c.reserved, c.streamLimit
}

// Usable says whether the connection takes more streams, now or when others have ended.
func (c *ClientConn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.goingAway && !c.closing && c.err == nil
}

// Close ends the connection in order: Open gives no more streams, and Run returns when the open
// ones have ended.
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

// goAway takes the server's GOAWAY: streams beyond the last that it names were not processed.
func (c *ClientConn) goAway(f *http2.GoAwayFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goingAway, c.goAwayCode = true, f.ErrCode
	for id, s := range c.streams {
		if id > f.LastStreamID {
			c.abortStream(s, ErrNotProcessed, noReset)
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
		return protocolError("HEADERS on an idle stream")
	case s == nil && !c.recentlyClosed.has(b.id):
		return &ConnError{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
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
		return c.failStream(b.id, b.refused)
	case c.fields.kind == trailerBlock:
		return c.takeTrailer(b.id)
	case c.fields.kind == discarded:
		return nil
	}
	var gone func()
	c.mu.Lock()
	defer func() { c.unlockAndCall(gone) }()
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
		gone, err = c.rejectMessage(s, fault)
		return err
	}
	s.client.queueHead(r)
	if r.Interim() {
		s.readers.wake()
		return nil
	}
	s.client.final = true
	s.declared = declared
	if s.tunnel && r.Status/100 == 2 {
		s.declared = message.Unknown
	} else {
		s.tunnel = false
	}
	s.readers.wake()
	if b.endStream {
		gone, err = c.endBody(s)
	}
	return err
}
