package http2

import (
	"errors"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/task"
)

const (
	smallOut = 8 << 10
	largeOut = 68 << 10 // outLimit and its frame headers
	outLimit = 64 << 10 // beyond this, streams wait
)

var smallOuts = sync.Pool{New: func() any { return new([smallOut]byte) }}
var largeOuts = sync.Pool{New: func() any { return new([largeOut]byte) }}

// out is the write side of a connection; c.mu guards it. Frames are collected in buf, which is sent
//
//   - by a goroutine that first lets other streams add theirs, if there are any (wantFlush);
//   - by the stream itself, if it is alone or waits for room;
//   - by the reader before it waits, as far as that needs no waiting.
//
// One of them writes at a time, with c.mu released, and continues while there is more.
type out struct {
	encoder     encoder
	blockBuf    []byte
	buf         []byte
	batch       uint32 // how often buf was replaced to be sent
	controlHeld int    // bytes of control frames in buf
	writing     bool
	scheduled   bool
	peerReset   bool      // nothing more can be sent; see afterWrite
	earned      int       // credit for control frames, see budget.go
	sent        int       // bytes of DATA that have not earned credit yet
	written     sync.Cond // after each write
	flusher     task.Task // stored once

	queues [urgencies]queue // streams that have more to send than fits
}

func (o *out) init(c *conn) {
	o.encoder = newEncoder()
	o.written.L = &c.mu
	o.flusher = task.New("HTTP/2 connection: writing", c.flushLater, c.panicked)
}

// reserve returns buf with room for a frame of n bytes.
func (c *conn) reserve(n int) []byte {
	n += frameHeaderLen
	switch {
	case c.buf == nil && n <= smallOut:
		c.buf = smallOuts.Get().(*[smallOut]byte)[:0]
	case len(c.buf)+n <= cap(c.buf):
	case len(c.buf)+n <= largeOut:
		old := c.buf
		c.buf = append(largeOuts.Get().(*[largeOut]byte)[:0], old...)
		freeOut(old)
	}
	return c.buf // append allocates more if even that is too little
}

func freeOut(b []byte) {
	switch cap(b) {
	case smallOut:
		smallOuts.Put((*[smallOut]byte)(b[:smallOut]))
	case largeOut:
		largeOuts.Put((*[largeOut]byte)(b[:largeOut]))
	}
}

// flush sends what is held; c.mu is held, and released meanwhile. If another goroutine is writing,
// that sends it. With s it stops once that stream has nothing more to wait for.
func (c *conn) flush(s *stream) {
	if c.writing {
		return
	}
	c.writing = true
	defer func() {
		c.writing = false
		c.written.Broadcast()
		if s != nil {
			c.wantFlush()
		}
	}()
	for c.err == nil && !c.peerReset {
		if len(c.buf) == 0 {
			if c.fillBuffer(); len(c.buf) == 0 {
				break
			}
		}
		c.send(c.takeOut())
		c.fillBuffer()
		if s != nil && len(s.pending) == 0 {
			break
		}
	}
}

// send writes b, with c.mu released. A panic ends the connection: it is not known how much of b has
// left.
func (c *conn) send(b []byte) {
	result := ErrInternal
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.afterWrite(result)
	}()
	_, err := c.s.Write(b)
	if err == nil {
		err = c.s.Flush()
	}
	freeOut(b)
	result = err
}

// trySend is send as far as that needs no waiting, and says whether all has left.
func (c *conn) trySend(b []byte) (sent bool) {
	result := ErrInternal
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.afterWrite(result)
	}()
	_, err := c.s.Write(b) // little enough to be held back
	freeOut(b)
	sent = err != nil || c.base.TryFlush()
	result = err
	return sent
}

func (c *conn) takeOut() []byte {
	b := c.buf
	c.buf, c.controlHeld = nil, 0
	c.batch++
	return b
}

// resetReadTime is how long the reader may read what a server sent before it closed the connection.
const resetReadTime = time.Second

func (c *conn) afterWrite(err error) {
	switch {
	case err == nil, c.peerReset:
	case c.client != nil && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		// The server has closed the connection. What it sent before can still be read, such as the
		// GOAWAY that names the requests that it processed. Then the reader ends the connection.
		c.peerReset, c.client.goingAway = true, true
		task.AfterFunc(resetReadTime, "HTTP/2 connection to a server: ending", func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.err == nil {
				c.failLocked(err)
				_ = c.base.Abort()
			}
		})
	default:
		c.failLocked(err)
		_ = c.base.Abort() // the reader does the rest
	}
	c.written.Broadcast()
}

// wantFlush sends what is held soon: after the streams that can run have run, so that their frames
// leave with it. c.mu is held.
func (c *conn) wantFlush() {
	if c.writing || c.scheduled || c.peerReset || c.err != nil || len(c.buf) == 0 && c.nextStream() == nil {
		return
	}
	c.scheduled = true
	c.flusher.Go()
}

func (c *conn) flushLater() {
	runtime.Gosched()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheduled = false
	c.flush(nil)
}

// flushNow is for a stream that is about to wait; c.mu is held.
func (c *conn) flushNow() {
	if len(c.streams) > 1 {
		c.wantFlush()
		return
	}
	c.flush(nil)
}

// flushFromReader sends what is held as far as that needs no waiting; c.mu is held. Another
// goroutine sends the rest.
func (c *conn) flushFromReader() {
	if c.writing || c.scheduled || c.peerReset || len(c.buf) == 0 || c.err != nil {
		return
	}
	if len(c.buf) > smallOut {
		c.wantFlush()
		return
	}
	sent := func() bool {
		c.writing = true
		defer func() { c.writing = false }()
		return c.trySend(c.takeOut())
	}()
	switch {
	case !sent:
		c.scheduled = true
		task.Go("HTTP/2 connection: writing", c.flushRest, c.panicked)
	default:
		c.wantFlush()
	}
}

// flushRest sends what flushFromReader could not.
func (c *conn) flushRest() {
	err := c.s.Flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheduled = false
	c.afterWrite(err)
	c.flush(nil)
}

// sendRest sends what is held at the end of a connection; c.mu is held.
func (c *conn) sendRest() {
	_ = c.base.SetWriteDeadline(time.Now().Add(lingerTime))
	c.waitForWriter()
	c.flush(nil)
}

// waitForWriter waits until no write is in progress or scheduled; c.mu is held.
func (c *conn) waitForWriter() {
	for c.writing || c.scheduled {
		c.written.Wait()
	}
}

// WriteBody sends p as a piece of the stream's body. It returns once all of it lies in the
// connection's buffer: then p may be used again.
func (s *stream) WriteBody(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.writeError(); err != nil {
		return err
	}
	if s.sentEnd {
		return errBodyEnded
	}
	if s.toSend >= 0 {
		if s.toSend -= int64(len(p)); s.toSend < 0 {
			return message.ErrBodyLength
		}
	}
	s.pending = p
	if c.nextStream() == nil { // no stream is queued
		for len(c.buf) < outLimit && len(s.pending) > 0 && s.sendWindow > 0 && c.sendWindow > 0 {
			c.appendData(s)
		}
	}
	for len(s.pending) > 0 {
		if s.sendWindow > 0 {
			c.enqueue(s)
		}
		if err := s.waitTurn(); err != nil {
			s.pending = nil
			c.dequeue(s)
			c.wakeFirst() // this stream may have been the one to write
			return err
		}
	}
	s.pending = nil
	return s.writeError()
}

// Flush lets what was written leave.
func (s *stream) Flush() error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.writeError(); err != nil {
		return err
	}
	c.flushNow()
	return nil
}

// writeError is why nothing more can be written, or nil; conn.mu is held.
func (s *stream) writeError() error {
	switch {
	case s.reset:
		return s.err
	case s.stopped:
		return errAborted
	case s.conn.err != nil:
		return s.connError()
	}
	return nil
}

// waitTurn waits for room, a window or a turn. c.mu is held, and released meanwhile.
func (s *stream) waitTurn() error {
	c := s.conn
	if err := s.writeError(); err != nil {
		return err
	}
	if !c.writing && !c.peerReset {
		c.fillBuffer()
		if len(s.pending) == 0 {
			c.flushNow()
			return nil
		}
		if len(c.buf) > 0 {
			c.flush(s)
			return s.writeError()
		}
	}
	// Another goroutine writes, or the peer grants nothing.
	stalled := s.sendWindow <= 0 || c.sendWindow <= 0
	if stalled {
		held := len(s.pending)
		c.holdPiece(held)
		defer c.dropPiece(held)
	}
	return s.waitWindow(stalled)
}

// waitWindow waits to be woken, with c.mu released. stalled: the peer must grant something, and its
// pace is checked; otherwise that of the connection counts.
func (s *stream) waitWindow(stalled bool) error {
	c := s.conn
	since := time.Now()
	c.mu.Unlock()
	s.writers.wait(c.limits.IdleTime)
	c.mu.Lock()
	if err := s.writeError(); err != nil || !stalled {
		return err
	}
	moved := s.moved
	s.moved = 0
	return s.writePace.Wait(time.Since(since), moved)
}

// WaitRoom returns once the peer has granted something, see message.Windowed. held is how many
// bytes the caller holds.
func (s *stream) WaitRoom(held int) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for !s.sentEnd && (s.sendWindow <= 0 || c.sendWindow <= 0) {
		if err := s.writeError(); err != nil {
			return err
		}
		c.flushNow()
		if s.sendWindow > 0 && c.sendWindow > 0 {
			break // flushNow released the lock
		}
		s.waiting = true
		c.holdPiece(held)
		err := s.waitWindow(true)
		c.dropPiece(held)
		s.waiting = false
		if err != nil {
			return err
		}
	}
	return nil
}

// end ends the stream after what was written, with trailers if there are any.
func (s *stream) end(trailer *message.Header) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	switch err := s.writeError(); {
	case s.sentEnd:
		c.flushNow() // the head was the whole message, and is held
		return nil
	case err != nil:
		return err
	case s.toSend > 0:
		return message.ErrBodyLength
	}
	s.sentEnd = true
	s.sideEnded()
	if !empty(trailer) {
		c.waitForBuffer()
		if err := s.writeError(); err != nil {
			return err
		}
		c.blockBuf = c.encoder.trailer(c.blockBuf[:0], trailer)
		c.appendBlock(s.id, c.blockBuf, true)
	} else if s.lastFrame >= 0 && s.lastBatch == c.batch && s.lastFrame < len(c.buf) {
		c.buf[s.lastFrame+4] |= byte(http2.FlagDataEndStream) // the same bit for DATA and HEADERS
	} else {
		c.buf = appendHeader(c.reserve(0), 0, http2.FrameData, http2.FlagDataEndStream, s.id)
	}
	c.flushNow()
	return nil
}

func empty(h *message.Header) bool {
	if h == nil {
		return true
	}
	for i := range h.Len() {
		if _, _, _, ok := h.At(i); ok {
			return false
		}
	}
	return true
}

// waitForBuffer waits while the peer does not read; c.mu is held. Heads that wait use memory too.
func (c *conn) waitForBuffer() {
	for len(c.buf) >= outLimit && c.err == nil {
		if c.writing || c.scheduled || c.peerReset {
			c.written.Wait()
		} else {
			c.flush(nil)
		}
	}
}

// writeBlock sends a header block; c.mu is held.
func (s *stream) writeBlock(block []byte, end bool) {
	c := s.conn
	c.buf = c.reserve(len(block)) // now, so that the offset is known
	s.lastFrame, s.lastBatch, s.lastData = len(c.buf), c.batch, false
	c.appendBlock(s.id, block, end)
	if s.sentEnd = end; end {
		s.sideEnded()
	}
}

// pace bounds how slowly a peer may grant a stream's window.
func (l *connLimits) pace() netio.Pace { return netio.Pace{Window: l.IdleTime, MinRate: l.MinRate} }
