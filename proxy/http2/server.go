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
	Limits      // limits.Default
	Streams int // at a time; 100
	// After PingEvery of silence while streams are open a PING checks the peer, 15 s; the
	// connection ends if no answer comes for PingAnswer, 15 s.
	PingEvery, PingAnswer time.Duration
	Memory                *Memory // shared by the connections; nil: no limit for all together
}

const (
	maxStreams = 1 << 16
	// maxWaiting bounds the streams of a connection that wait until the handlers of others, which
	// were reset, return. It is a multiple of the streams that it may have.
	maxWaiting = 4
	// drainTime is between the two GOAWAYs if the client does not answer the PING between them.
	drainTime = time.Second

	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// ServerConn is a client's connection. Its life:
//
//	NewServerConn ─► Serve (until the connection ends) … Shutdown from elsewhere ends it in order
type ServerConn struct {
	conn
	streamLimit int
	handler     func(*ServerStream)

	opening  *ServerStream   // whose header block is being read
	starting []*ServerStream // wait for their handlers to start

	// guarded by conn.mu
	running     int // handlers
	ended       int // handlers whose streams have ended in order: they are about to return
	backlog     int // of starting, when the reader last looked
	serving     bool
	draining    bool
	finalSent   bool   // the second GOAWAY was sent
	finalID     uint32 // that it names: streams beyond are ignored
	drainTimer  *time.Timer
	lastUnread  time.Time   // when the last request beyond maxUnread was started
	resumeTimer *time.Timer // until the next
	finished    sync.Cond   // running changed
}

// NewServerConn makes the server's end of s. in, which may be nil, holds what was read from it
// before, and is emptied. handler is called for each stream, in a separate goroutine.
func NewServerConn(s netio.Stream, in *netio.Buffer, o *ServerOptions, handler func(*ServerStream)) *ServerConn {
	l := connLimits{Limits: o.Limits.Or(limits.Default), pingEvery: o.PingEvery, pingAnswer: o.PingAnswer, memory: o.Memory}
	l.setDefaults()
	c := &ServerConn{handler: handler, streamLimit: o.Streams}
	setDefault(&c.streamLimit, 100)
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
// nil if that was orderly. It does not close the stream.
func (c *ServerConn) Serve() error {
	c.sendFirstFrames()
	err := c.preface()
	if err == nil {
		err = c.runReader()
	}
	return c.end(err)
}

// sendFirstFrames sends the settings and the window of the connection.
func (c *ServerConn) sendFirstFrames() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appendFirstSettings(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.streamLimit)},
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

// Shutdown ends the connection in order: the client is told to open no more streams; those that it
// opens before it knows are served. It returns at once; Serve returns when all streams have ended.
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
// It says whether this is one.
func (c *ServerConn) EndIdle(least time.Duration) bool {
	c.mu.Lock()
	idle := c.lastID > 0 && c.unused() && !c.draining && c.err == nil && time.Since(c.idleSince) >= least
	c.mu.Unlock()
	if idle {
		c.Shutdown()
	}
	return idle
}

// firstGoAway tells the client to open no more streams; c.mu is held.
func (c *ServerConn) firstGoAway() {
	c.appendGoAway(maxStreamID, http2.ErrCodeNo)
	c.appendPing(false, [8]byte{pingDrain})
	c.drainTimer = task.AfterFunc(drainTime, "HTTP/2: second GOAWAY", func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lastGoAway()
	})
	c.wantFlush()
}

// lastGoAway sends the second GOAWAY: what the client sent before the first one has come. c.mu is
// held.
func (c *ServerConn) lastGoAway() {
	if !c.draining || c.finalSent || c.err != nil {
		return
	}
	c.finalSent, c.finalID = true, c.lastID
	c.appendGoAway(c.lastID, http2.ErrCodeNo)
	c.wantFlush()
	c.stopIfDrained()
}

func (c *ServerConn) stopIfDrained() {
	if c.drained() {
		c.base.Interrupt()
	}
}

func (c *ServerConn) drained() bool { return c.finalSent && c.unused() }

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
		case s.resetByPeer, s.recvEnd && s.sentEnd && !s.reset:
			return &ConnError{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
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
		return protocolError("HEADERS on a stream that only a server may open")
	case id <= c.lastID && c.recentlyClosed.has(id):
		return nil
	case id <= c.lastID:
		return &ConnError{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
	}
	c.lastID = id
	switch {
	case c.finalSent: // it came before the client knew
		c.remember(id, defaultWindow)
	case c.open >= c.streamLimit:
		b.refused = http2.ErrCodeRefusedStream
	case len(c.starting) > maxWaiting*c.streamLimit:
		return enhanceYourCalm("streams are opened and reset too fast")
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
		return c.failStream(b.id, b.refused)
	case c.fields.kind == trailerBlock:
		return c.takeTrailer(b.id)
	case s == nil:
		return nil
	}
	s.begin(c, &c.fields, b)
	c.addStream(s)
	c.starting = append(c.starting, s)
	return nil
}

// addStream makes s, whose head was read into c.block, a stream of the connection.
func (c *ServerConn) addStream(s *ServerStream) {
	b := &c.block
	c.mu.Lock()
	defer c.mu.Unlock()
	s.stream.open(&c.conn, b.id)
	s.recvEnd = b.endStream
	if c.fields.lengths > 0 && s.fault == nil {
		s.declared = c.fields.length
	}
	if s.websocket {
		s.tunnel = true
	}
	if c.fields.prioritized {
		s.priority = c.fields.priority
	}
	s.register()
}

// discard drops a stream whose handler never started; c.mu is held.
func (c *ServerConn) discard(s *ServerStream) {
	s.unregister()
	s.free()
}

// serve runs in the stream's goroutine.
func (s *ServerStream) serve() {
	c := s.conn.server
	defer c.finish(s)
	c.handler(s)
}

// finish ends what the handler left open.
func (c *ServerConn) finish(s *ServerStream) {
	if p := task.Call("HTTP/2 stream: end", func() { c.closeStream(s) }); p != nil {
		c.panicked(p)
		return
	}
	s.free()
}

func (c *ServerConn) closeStream(s *ServerStream) {
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
		code = http2.ErrCodeNo // the response is complete; the rest of the request is not needed
	default:
		c.earned++
	}
	s.onGone = nil
	if code != noReset && c.err == nil {
		c.abortStream(&s.stream, errAborted, code)
	}
	if s.ended {
		c.ended--
	}
	s.unregister()
	c.wantFlush()
	c.stopIfDrained()
	if c.backlog > 0 {
		c.base.Interrupt() // streams wait for this; the reader starts them
	}
}

// RemoteAddr is the client's address.
func (c *ServerConn) RemoteAddr() net.Addr { return c.base.RemoteAddr() }
