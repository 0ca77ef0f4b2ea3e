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
	largeOut = 68 << 10 // with room for the frame headers of outLimit bytes
	outLimit = 64 << 10 // beyond this, streams wait
)

var smallOuts = sync.Pool{New: func() any { return new([smallOut]byte) }}
var largeOuts = sync.Pool{New: func() any { return new([largeOut]byte) }}

// out is the write side of a connection, c.mu guards it. What is to leave is gathered in buf. It
// leaves
//
//   - by a goroutine that looks whether others have something to add first, where other streams are open (wantFlush);
//   - by the stream itself, where it is alone, or where it waits for room;
//   - by the reader before it waits, as far as that needs no waiting.
//
// One of them writes at a time, with c.mu let go, and continues while there is more.
type out struct {
	encoder     encoder
	blockBuf    []byte
	buf         []byte
	swaps       uint32 // how often buf was taken away to be sent
	controlHeld int    // bytes of control frames in buf
	writing     bool
	scheduled   bool
	lost        bool      // nothing more can be sent; see wrote
	earned      int       // credit for control frames, see budget.go
	sent        int       // bytes of DATA that have earned nothing yet
	room        sync.Cond // after each write
	flusher     task.Task // stored once

	queues [urgencies]queue // streams that have more to send than there was room for
}

func (o *out) init(c *conn) {
	o.encoder = newEncoder()
	o.room.L = &c.mu
	o.flusher = task.New("HTTP/2 connection: writing", c.flushLater, c.panicked)
}

// room9 gives buf with room for a frame of n bytes.
func (c *conn) room9(n int) []byte {
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
	return c.buf // append finds more where even that is too little
}

func freeOut(b []byte) {
	switch cap(b) {
	case smallOut:
		smallOuts.Put((*[smallOut]byte)(b[:smallOut]))
	case largeOut:
		largeOuts.Put((*[largeOut]byte)(b[:largeOut]))
	}
}

// flush sends what there is, c.mu held; it is let go meanwhile. Whoever writes already will send
// it. With s it stops once that stream has nothing more to wait for.
func (c *conn) flush(s *stream) {
	if c.writing {
		return
	}
	c.writing = true
	defer func() {
		c.writing = false
		c.room.Broadcast()
		if s != nil {
			c.wantFlush()
		}
	}()
	for c.err == nil && !c.lost {
		if len(c.buf) == 0 {
			if c.pump(); len(c.buf) == 0 {
				break
			}
		}
		c.send(c.takeOut())
		c.pump()
		if s != nil && len(s.pending) == 0 {
			break
		}
	}
}

// send writes b, with c.mu let go. Where that panics, the connection is at its end: nobody knows
// how much of b has left.
func (c *conn) send(b []byte) {
	result := ErrInternal
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.wrote(result)
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
		c.wrote(result)
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
	c.swaps++
	return b
}

// lostTime is how long the reader has to find out what a server said before it closed the
// connection.
const lostTime = time.Second

func (c *conn) wrote(err error) {
	switch {
	case err == nil, c.lost:
	case c.client != nil && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		// The server has closed the connection. What it said before can still be read, such as
		// which requests it has not processed (GOAWAY). The reader then ends the connection.
		c.lost, c.client.goingAway = true, true
		task.AfterFunc(lostTime, "HTTP/2 connection to a server: ending", func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.err == nil {
				c.failLocked(err)
				_ = c.base.Abort()
			}
		})
	default:
		c.failLocked(err)
		_ = c.base.Abort() // the reader will see to the rest
	}
	c.room.Broadcast()
}

// wantFlush sees to it that what there is leaves soon, c.mu held: once those streams that can run
// have run, so that what they have to say leaves with it.
func (c *conn) wantFlush() {
	if c.writing || c.scheduled || c.lost || c.err != nil || len(c.buf) == 0 && c.nextStream() == nil {
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

// flushFromReader sends what there is as far as that needs no waiting; c.mu is held. Another
// goroutine does the rest.
func (c *conn) flushFromReader() {
	if c.writing || c.scheduled || c.lost || len(c.buf) == 0 || c.err != nil {
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

// flushRest sends what the reader could not.
func (c *conn) flushRest() {
	err := c.s.Flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheduled = false
	c.wrote(err)
	c.flush(nil)
}

// sendRest sends what there is at the end of a connection; c.mu is held.
func (c *conn) sendRest() {
	_ = c.base.SetWriteDeadline(time.Now().Add(lingerTime))
	c.quiet()
	c.flush(nil)
}

// quiet waits until nobody writes any more; c.mu is held.
func (c *conn) quiet() {
	for c.writing || c.scheduled {
		c.room.Wait()
	}
}

// write sends p as the stream's body, and returns once all of it lies in the connection's buffer.
func (s *stream) write(p []byte) error {
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
	if c.nextStream() == nil { // nobody waits for its turn
		for len(c.buf) < outLimit && len(s.pending) > 0 && s.sendWindow > 0 && c.sendWindow > 0 {
			c.put(s)
		}
	}
	for len(s.pending) > 0 {
		if s.sendWindow > 0 {
			c.enqueue(s)
		}
		if err := s.waitTurn(); err != nil {
			s.pending = nil
			c.dequeue(s)
			c.wakeFirst() // it may have been this stream's turn to see to the others
			return err
		}
	}
	s.pending = nil
	return s.writeError()
}

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

// waitTurn waits for room, a window or a turn. c.mu is held, and let go meanwhile.
func (s *stream) waitTurn() error {
	c := s.conn
	if err := s.writeError(); err != nil {
		return err
	}
	if !c.writing && !c.lost {
		c.pump()
		if len(s.pending) == 0 {
			c.flushNow()
			return nil
		}
		if len(c.buf) > 0 {
			c.flush(s)
			return s.writeError()
		}
	}
	// Somebody else writes, or the peer grants nothing.
	stalled := s.sendWindow <= 0 || c.sendWindow <= 0
	if stalled {
		held := len(s.pending)
		c.holdPiece(held)
		defer c.dropPiece(held)
	}
	return s.waitWindow(stalled)
}

// waitWindow waits to be woken, with c.mu let go. stalled: it is the peer that has to grant
// something, and its pace that is judged; otherwise that of the connection counts.
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
	return s.pace.Wait(time.Since(since), moved)
}

// WaitRoom returns once the peer grants something, so that nothing need be fetched for it before.
// held is how many bytes wait with the caller.
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
			break // while the flush let go of the lock
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

// end ends the stream with what was written, or with trailers.
func (s *stream) end(trailer *message.Header) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	switch err := s.writeError(); {
	case s.sentEnd:
		c.flushNow() // the head was all, and waits
		return nil
	case err != nil:
		return err
	case s.toSend > 0:
		return message.ErrBodyLength
	}
	s.sentEnd = true
	s.endedOne()
	if !empty(trailer) {
		c.waitRoom()
		if err := s.writeError(); err != nil {
			return err
		}
		c.blockBuf = c.encoder.trailer(c.blockBuf[:0], trailer)
		c.appendBlock(s.id, c.blockBuf, true)
	} else if s.lastFrame >= 0 && s.lastSwap == c.swaps && s.lastFrame < len(c.buf) {
		c.buf[s.lastFrame+4] |= byte(http2.FlagDataEndStream) // the same bit for DATA and HEADERS
	} else {
		c.buf = appendHeader(c.room9(0), 0, http2.FrameData, http2.FlagDataEndStream, s.id)
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

// waitRoom waits while the peer does not read, c.mu held: heads that wait are memory too.
func (c *conn) waitRoom() {
	for len(c.buf) >= outLimit && c.err == nil {
		if c.writing || c.scheduled || c.lost {
			c.room.Wait()
		} else {
			c.flush(nil)
		}
	}
}

// writeBlock sends a header block; c.mu is held.
func (s *stream) writeBlock(block []byte, end bool) {
	c := s.conn
	c.buf = c.room9(len(block)) // so that the place is known
	s.lastFrame, s.lastSwap, s.lastData = len(c.buf), c.swaps, false
	c.appendBlock(s.id, block, end)
	if s.sentEnd = end; end {
		s.endedOne()
	}
}

// pace bounds how slowly a peer may open a stream's window.
func (l *connLimits) pace() netio.Pace { return netio.Pace{Window: l.IdleTime, MinRate: l.MinRate} }
