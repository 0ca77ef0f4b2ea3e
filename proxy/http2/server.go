package http2

import (
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"mpgate/proxy/limits"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
	"mpgate/task"
)

// ServerOptions bound what a client may do. What is zero gets the default; a MinRate below zero is
// none.
type ServerOptions struct {
	Limits                   // limits.Default
	Streams    int           // at a time; 100
	PingEvery  time.Duration // of silence while streams are open: then a PING asks whether the peer is there; 15 s
	PingAnswer time.Duration // that it has to answer, or the connection ends; 15 s
	Memory     *Memory       // shared by the connections; nil: no limit for all together
}

const (
	maxStreams = 1 << 16
	// maxWaiting is how many streams of a connection may wait for others that were reset to be
	// wound up, as a multiple of those that it may have.
	maxWaiting = 4
	drainTime  = time.Second // between the two GOAWAYs, where the client does not answer the PING between them

	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// ServerConn is a client's connection. Its life:
//
//	NewServerConn ─► Serve (until the connection ends) … Shutdown from elsewhere ends it in order
type ServerConn struct {
	conn
	most    int
	handler func(*ServerStream)

	opening  *ServerStream   // whose header block is being read
	starting []*ServerStream // that wait to be run

	// guarded by conn.mu
	running  int // handlers
	ended    int // handlers whose streams have ended in order: they are about to return
	backlog  int // of starting, when the reader last looked
	serving  bool
	draining bool
	final    bool   // the second GOAWAY was sent
	last     uint32 // that it names: streams beyond are ignored
	stopped  *time.Timer
	unread   time.Time   // when the last request beyond maxUnread was started
	resume   *time.Timer // until the next
	finished sync.Cond   // running changed
}

// NewServerConn gives the server's end of s. in holds what has been read from it already, and is
// the connection's from now on; it may be nil. handler is called for each stream, in a goroutine of
// its own.
func NewServerConn(s netio.Stream, in *netio.Buffer, o *ServerOptions, handler func(*ServerStream)) *ServerConn {
	l := connLimits{Limits: o.Limits.Or(limits.Default), pingEvery: o.PingEvery, pingAnswer: o.PingAnswer, memory: o.Memory}
	l.setDefaults()
	c := &ServerConn{handler: handler, most: o.Streams}
	setDefault(&c.most, 100)
	c.finished.L = &c.mu
	c.server = c
	c.init(s, l)
	if in != nil {
		c.in, *in = *in, netio.Buffer{}
	}
	return c
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Serve reads the connection until it ends and all handlers have returned, and gives the reason:
// nil where it ended in order. It does not close the stream.
func (c *ServerConn) Serve() error {
	c.greet()
	err := c.preface()
	if err == nil {
		err = c.reading()
	}
	return c.end(err)
}

// greet says what the server has to say first.
func (c *ServerConn) greet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.firstSettings(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.most)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.limits.HeaderBytes)},
		http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1},
		http2.Setting{ID: http2.SettingNoRFC7540Priorities, Val: 1})
	c.grant()
	c.serving = true
	if c.draining {
		c.firstGoAway()
	}
}

func (c *ServerConn) preface() error {
	for want := preread.Preface; len(want) > 0; {
		p, err := c.take(len(want))
		if err != nil {
			return err
		}
		if string(p) != want[:len(p)] {
			return protocolError("the connection does not begin with the preface of HTTP/2")
		}
		want = want[len(p):]
	}
	return nil
}

// Shutdown ends the connection in order: the client is told to open no further streams, those that
// are under way when it knows are served. It returns at once; Serve returns when all is done.
func (c *ServerConn) Shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || c.err != nil {
		return
	}
	c.draining = true
	if c.serving { // else after the SETTINGS, which must be first
		c.firstGoAway()
	}
}

// EndIdle is Shutdown for a connection that has had streams, and none for at least the given time.
// false: it is none.
func (c *ServerConn) EndIdle(least time.Duration) bool {
	c.mu.Lock()
	idle := c.lastID > 0 && c.unused() && !c.draining && c.err == nil && time.Since(c.idle) >= least
	c.mu.Unlock()
	if idle {
		c.Shutdown()
	}
	return idle
}

// firstGoAway tells the client to open no further streams; c.mu is held.
func (c *ServerConn) firstGoAway() {
	c.appendGoAway(maxStreamID, http2.ErrCodeNo)
	c.appendPing(false, [8]byte{pingDrain})
	c.stopped = task.AfterFunc(drainTime, "HTTP/2: second GOAWAY", func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lastGoAway()
	})
	c.wantFlush()
}

// lastGoAway is the second: what the client sent before it knew of the first has come. c.mu is
// held.
func (c *ServerConn) lastGoAway() {
	if !c.draining || c.final || c.err != nil {
		return
	}
	c.final, c.last = true, c.lastID
	c.appendGoAway(c.lastID, http2.ErrCodeNo)
	c.wantFlush()
	c.stopIfDrained()
}

func (c *ServerConn) stopIfDrained() {
	if c.drained() {
		c.base.Interrupt()
	}
}

func (c *ServerConn) drained() bool { return c.final && c.unused() }

// openBlock is called for the HEADERS of c.block.
func (c *ServerConn) openBlock() error {
	b := &c.block
	id := b.id
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		c.trailer.Reset()
		c.fields.reset(trailerBlock, &c.trailer, &c.limits.Limits)
		switch {
		case s.theirs, s.recvEnd && s.sentEnd && !s.reset:
			return &ConnError{http2.ErrCodeStreamClosed, "HEADERS for a stream that was closed"}
		case s.reset:
			c.fields.kind = discarded
		case s.recvEnd:
			c.fields.kind, b.refused = discarded, http2.ErrCodeStreamClosed
		case !b.endStream:
			c.fields.kind, b.refused = discarded, http2.ErrCodeProtocol
		}
		return nil
	}
	c.fields.reset(discarded, nil, &c.limits.Limits)
	switch {
	case !clientID(id):
		return protocolError("HEADERS for a stream that only a server may open")
	case id <= c.lastID && c.closed.has(id):
		return nil
	case id <= c.lastID:
		return &ConnError{http2.ErrCodeStreamClosed, "HEADERS for a stream that was closed"}
	}
	c.lastID = id
	switch {
	case c.final: // it came before the client knew
		c.remember(id, firstWindow)
	case c.open >= c.most:
		b.refused = http2.ErrCodeRefusedStream
	case len(c.starting) > maxWaiting*c.most:
		return calm("streams are opened and reset faster than they can be wound up")
	default:
		c.opening = newServerStream()
		c.fields.reset(requestBlock, &c.opening.req.Header, &c.limits.Limits)
	}
	return nil
}

// closeBlock is called once c.block is decoded.
func (c *ServerConn) closeBlock() error {
	b := &c.block
	s := c.opening
	c.opening = nil
	switch {
	case b.refused != noReset:
		if s != nil {
			s.free()
		}
		return c.badStream(b.id, b.refused)
	case c.fields.kind == trailerBlock:
		return c.takeTrailer(b.id)
	case s == nil:
		return nil
	}
	s.begin(c, &c.fields, b)
	c.enter(s)
	c.starting = append(c.starting, s)
	return nil
}

// enter makes s, whose head was read into c.block, a stream of the connection.
func (c *ServerConn) enter(s *ServerStream) {
	b := &c.block
	c.mu.Lock()
	defer c.mu.Unlock()
	s.stream.open(&c.conn, b.id)
	s.recvEnd = b.endStream
	if c.fields.lengths > 0 && s.fault == nil {
		s.declared = c.fields.length
	}
	if s.websocket {
		s.raw = true
	}
	if c.fields.prioritized {
		s.priority = c.fields.priority
	}
	s.register()
}

// discard drops a stream that was never run; c.mu is held.
func (c *ServerConn) discard(s *ServerStream) {
	s.leave()
	s.free()
}

// serve is a stream's goroutine.
func (s *ServerStream) serve() {
	c := s.conn.server
	defer c.finish(s)
	c.handler(s)
}

// finish ends what the handler has left open.
func (c *ServerConn) finish(s *ServerStream) {
	if p := task.Call("HTTP/2 stream: end", func() { c.windUp(s) }); p != nil {
		c.panicked(p)
		return
	}
	s.free()
}

func (c *ServerConn) windUp(s *ServerStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.finished.Broadcast()
	code := noReset
	switch {
	case s.reset:
	case s.malformed:
		code = http2.ErrCodeProtocol
	case !s.sentEnd:
		code = s.resetAs
	case !s.recvEnd:
		code = http2.ErrCodeNo // the response is complete, and nobody wants the rest of the request
	default:
		c.earned++
	}
	s.gone = nil
	if code != noReset && c.err == nil {
		c.kill(&s.stream, errAborted, code)
	}
	if s.ended {
		c.ended--
	}
	s.leave()
	c.wantFlush()
	c.stopIfDrained()
	if c.backlog > 0 {
		c.base.Interrupt() // the reader has streams that wait for this
	}
}

// RemoteAddr is the client's address.
func (c *ServerConn) RemoteAddr() net.Addr { return c.base.RemoteAddr() }
