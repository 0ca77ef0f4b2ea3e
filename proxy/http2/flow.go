package http2

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/net/http2"
)

const (
	// defaultWindow is the initial window of streams and the connection (RFC 9113 section 6.9.2).
	defaultWindow = 65535
	// connWindow is the first window of a connection: a stream whose reader is slow must not stop
	// the others.
	connWindow = 256 << 10
	// maxStreamWindow is the limit of a stream's window; its connection's grows to twice that.
	maxStreamWindow = 16 << 20
	// probePause is how long no probe is sent after probes that found nothing to improve, in round
	// trips, with its limits.
	probePause    = 4
	minProbePause = 20 * time.Millisecond
	maxProbePause = time.Second
)

// flow is the windows of a connection, c.mu guards it.
//
// The windows that we grant grow with the path: a probe is a PING, and what the readers take until
// its answer is the volume of one round trip. The window should be at least twice that, and
// otherwise becomes four times as large. At the beginning, while the rate of the path doubles in
// each round trip, that would be too slow: each byte that is taken makes the window a byte larger,
// until the volume of a round trip is at most a quarter of it. Bytes are counted as they are taken
// by a reader, not as they arrive, so a slow reader's window does not grow.
//
// The connection's window bounds what is in flight: bytes are granted again as they arrive, so that
// readers that take nothing do not stop the others. What is held is bounded by the windows of the
// streams, and accounted for: windows that grew lease what may come, others what has come. When
// memory is short, streams get small windows, see Memory and pressure.go; until the peer has
// acknowledged those, the connection's window waits for the readers too.
type flow struct {
	sendWindow  int64 // what the peer grants
	sendInitial int64 // for new streams
	frameSize   int   // the largest frame that the peer takes

	recvWindow int64 // what the peer may still send
	recvTarget int64 // what it may send at most
	// cutback is by how much the initial window of streams is smaller than defaultWindow, as the
	// peer was told.
	cutback    int64
	enforced   int64 // the same, once the peer has acknowledged it
	unacked    int   // SETTINGS that the peer has not acknowledged
	credit     int64 // bytes that were taken and not granted again
	target     int64 // of a stream that has more to send than the first window
	leased     int   // of the budget for all connections, for windows that grew
	lent       int   // of it, for what came in the first windows
	inboxBytes int   // bytes in all inboxes
	pieceBytes int   // bytes that wait for the peer's windows

	taken       int64 // by readers, in all
	rampedUp    bool  // the beginning is over
	probing     bool
	probeFrom   int64 // taken, when it was sent
	probeSent   time.Time
	probeNext   time.Time // not before
	shortProbes int       // probes in a row that fell short of the window
}

func (f *flow) init() {
	f.sendWindow, f.sendInitial, f.frameSize = defaultWindow, defaultWindow, maxFrame
	f.recvWindow, f.recvTarget, f.target = defaultWindow, defaultWindow, defaultWindow
}

// grant gives the peer the window that a connection begins with, unless memory is short.
func (c *conn) grant() {
	if c.cutback > 0 {
		return
	}
	c.appendWindowUpdate(0, connWindow-defaultWindow)
	c.recvWindow, c.recvTarget = connWindow, connWindow
}

// data processes a DATA frame. Its padding counts against the windows too.
func (c *conn) data(h http2.FrameHeader) error {
	if h.StreamID == 0 {
		return protocolError("DATA on stream 0")
	}
	n, pad, err := c.padding(h, int(h.Length))
	if err != nil {
		return err
	}
	ended := h.Flags.Has(http2.FlagDataEndStream)
	if n == 0 && !ended && !c.controls.take(1) {
		return enhanceYourCalm("too many empty DATA frames")
	}
	known, err := c.admit(h, n)
	if err == nil && !known {
		err = c.lateData(h.StreamID, int64(h.Length))
	}
	if err != nil {
		var stream http2.StreamError
		if errors.As(err, &stream) {
			if err := c.skip(n + pad); err != nil {
				return err
			}
		}
		return err
	}
	for n > 0 {
		p, err := c.take(n)
		if err != nil {
			return err
		}
		n -= len(p)
		c.receive(h.StreamID, p)
	}
	if err := c.skip(pad); err != nil || !ended {
		return err
	}
	return c.dataEnded(h.StreamID)
}

// dataEnded is called after the last frame of a stream.
func (c *conn) dataEnded(id uint32) (err error) {
	var gone func()
	c.mu.Lock()
	defer func() { c.unlockAndCall(gone) }()
	s := c.streams[id]
	if s == nil || s.reset {
		return nil
	}
	gone, err = c.endBody(s)
	return err
}

// admit checks a DATA frame with n bytes of data against the windows and the declared length.
func (c *conn) admit(h http2.FrameHeader, n int) (known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := int64(h.Length)
	if size > c.recvWindow {
		return false, &ConnError{http2.ErrCodeFlowControl, "more DATA than the connection's window has room for"}
	}
	c.recvWindow -= size
	c.returnCredit(size - int64(n)) // no reader takes the padding
	s := c.streams[h.StreamID]
	switch {
	case s == nil:
		return false, nil
	case s.resetByPeer, s.recvEnd && s.sentEnd && !s.reset:
		return true, &ConnError{http2.ErrCodeStreamClosed, "DATA on a closed stream"}
	case s.reset:
		s.recvWindow -= size
		return true, nil
	case s.recvEnd:
		c.returnCredit(int64(n))
		return true, http2.StreamError{StreamID: s.id, Code: http2.ErrCodeStreamClosed}
	case s.client != nil && !s.client.final:
		c.returnCredit(int64(n))
		return true, http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	case size > max(0, s.recvWindow): // it may have become smaller
		c.returnCredit(int64(n))
		return true, http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
	}
	s.recvWindow -= size
	if s.credit += size - int64(n); n == 0 && c.isDue(s) { // no reader does it
		c.regrant(s)
	}
	if s.received += int64(n); s.declared >= 0 && s.received > s.declared {
		c.returnCredit(int64(n))
		s.err = errLengthWrong
		return true, http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	}
	return true, nil
}

// receive puts a piece of DATA into the inbox.
func (c *conn) receive(id uint32, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	if s == nil || s.reset {
		c.returnCredit(int64(len(p)))
		return
	}
	c.holdInbox(len(p))
	s.inbox.add(p)
	s.readers.wake()
	if c.limits.memory.Pressed() != (c.cutback > 0) {
		c.adaptWindows()
	}
	if c.mayHoldMore(s) {
		c.returnCredit(int64(len(p)))
	} else {
		s.withheld += len(p)
	}
}

// endBody ends the peer's side of a stream; c.mu is held. If that fails the stream, it returns the
// function given to Watch.
func (c *conn) endBody(s *stream) (gone func(), err error) {
	if s.declared >= 0 && s.received != s.declared {
		return c.rejectMessage(s, errLengthWrong)
	}
	s.recvEnd = true
	s.sideEnded()
	s.readers.wake()
	return nil, nil
}

// returnCredit grants bytes of the connection again that are no longer held; c.mu is held.
func (c *conn) returnCredit(n int64) {
	if c.cutback > 0 && c.recvTarget > connWindow {
		shrink := min(n, c.recvTarget-connWindow)
		c.recvTarget -= shrink
		n -= shrink
	}
	if c.credit += n; c.credit >= c.recvTarget/4 && c.credit > 0 && c.err == nil {
		c.appendWindowUpdate(0, uint32(c.credit))
		c.recvWindow += c.credit
		c.credit = 0
	}
}

// consumed accounts for n bytes that the reader of s has taken, and grants them again; c.mu is
// held.
func (c *conn) consumed(s *stream, n int64) {
	c.taken += n
	c.releaseInbox(s, int(n))
	if s.recvEnd || s.reset {
		return
	}
	s.credit += n
	switch {
	case c.cutback > 0:
		c.shrink(s)
	case s.target < c.target && s.wantsMore():
		c.widen(s)
	}
	if c.isDue(s) {
		if !c.rampedUp && s.wantsMore() && c.grow(min(maxStreamWindow, c.target+s.credit)) {
			c.widen(s)
		}
		c.regrant(s)
		c.probe(n)
		c.wantFlush()
	}
}

// isDue says whether s has enough credit for a WINDOW_UPDATE; c.mu is held.
func (c *conn) isDue(s *stream) bool { return s.credit > 0 && s.credit >= (s.target-c.cutback)/4 }

// regrant grants the credit of s; c.mu is held.
func (c *conn) regrant(s *stream) {
	c.appendWindowUpdate(s.id, uint32(s.credit))
	s.recvWindow += s.credit
	s.credit = 0
}

// wantsMore says whether the peer may have more to send than s has granted.
func (s *stream) wantsMore() bool {
	return s.declared < 0 || s.declared-s.received > s.recvWindow+s.conn.enforced-s.conn.cutback+s.credit
}

// probe begins a measurement of the path, unless a pause is due; c.mu is held. The last bytes that
// were taken, at most a block, count: the peer may have used up its window and be waiting for them.
func (c *conn) probe(last int64) {
	if c.probing || c.target >= maxStreamWindow {
		return
	}
	now := time.Now()
	if now.Before(c.probeNext) {
		return
	}
	c.probing, c.probeFrom, c.probeSent = true, c.taken-last, now
	c.appendPing(false, [8]byte{pingSpeed})
}

// probeAnswered evaluates the answer to a probe; c.mu is held.
func (c *conn) probeAnswered(now time.Time) {
	if !c.probing {
		return
	}
	c.probing = false
	trip := c.taken - c.probeFrom
	if !c.rampedUp {
		c.rampedUp = 4*trip <= c.target
		return
	}
	if 2*trip <= c.target {
		// What was in flight after a growth was still limited by the smaller window: one result
		// is not enough.
		if c.shortProbes++; c.shortProbes > 1 {
			c.probeNext = now.Add(min(max(probePause*now.Sub(c.probeSent), minProbePause), maxProbePause))
		}
		return
	}
	c.shortProbes = 0
	if !c.grow(min(maxStreamWindow, 4*trip)) {
		c.probeNext = now.Add(maxProbePause)
	}
}

// grow lets the windows of streams become as large as target, and makes that of the connection
// twice as large, if there is memory for one such stream.
func (c *conn) grow(target int64) bool {
	more := max(0, 2*target-c.recvTarget)
	if c.cutback > 0 || target-defaultWindow > c.limits.memory.growth() {
		c.rampedUp = true
		return false
	}
	c.target = target
	c.recvTarget += more
	c.returnCredit(more)
	return true
}

// windowUpdate processes a WINDOW_UPDATE.
func (c *conn) windowUpdate(h http2.FrameHeader) error {
	if h.Length != 4 {
		return &ConnError{http2.ErrCodeFrameSize, "WINDOW_UPDATE size is not 4"}
	}
	b, err := c.readPrefix(4)
	if err != nil {
		return err
	}
	if !c.updates.take(1) {
		return enhanceYourCalm("too many WINDOW_UPDATE frames")
	}
	n := int64(binary.BigEndian.Uint32(b) & maxWindow)
	if n == 0 {
		// On stream 0 it is an error of the connection.
		return http2.StreamError{StreamID: h.StreamID, Code: http2.ErrCodeProtocol}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.StreamID == 0 {
		opens := c.sendWindow <= 0
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return &ConnError{http2.ErrCodeFlowControl, "window of more than 2^31-1 bytes"}
		}
		c.wakeFirst()
		if opens && c.sendWindow > 0 {
			for _, s := range c.streams {
				s.wakeWriter()
			}
		}
		return nil
	}
	s := c.streams[h.StreamID]
	if s == nil {
		if !clientID(h.StreamID) || h.StreamID > c.lastID {
			return protocolError("WINDOW_UPDATE on an idle stream")
		}
		return nil // it may have been in flight
	}
	if s.sendWindow += n; s.sendWindow > maxWindow {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
	}
	s.wakeWriter()
	return nil
}

// wakeWriter wakes the writer if it waits for its stream's window and that is open; c.mu is held.
func (s *stream) wakeWriter() {
	switch {
	case s.sendWindow <= 0 || s.reset:
	case len(s.pending) > 0:
		s.conn.enqueue(s)
		s.writers.wake()
	case s.waiting:
		s.writers.wake()
	}
}
