package http2

import (
	"io"
	"os"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// stream is the part of a stream that both ends share; conn.mu guards it. One goroutine reads its
// body, and one, which may be another, writes it.
type stream struct {
	conn   *conn
	id     uint32
	server *ServerStream
	client *ClientStream

	err         error // why it was aborted
	reset       bool  // nothing more is sent or accepted
	resetByUs   bool  // the peer may not know yet
	resetByPeer bool  // it may send nothing more
	tunnel      bool  // a tunnel: silence in one direction is not an error
	recvEnd     bool  // the peer has ended its side
	sentEnd     bool  // we have ended ours
	stopped     bool  // the peer wants no more of ours
	interrupted bool  // reads give ErrInterrupted
	bodyStarted bool  // some of the body was read
	counted     bool  // in conn.open
	ended       bool  // both sides have ended, without a reset

	// The peer's direction.
	inbox        inbox
	trailer      message.Header
	declared     int64 // length of the body, or Unknown
	received     int64
	recvWindow   int64 // what the peer may still send
	target       int64 // what it may send at most
	credit       int64 // taken and not granted again
	withheld     int   // unread bytes that the connection's window waits for
	readers      waiter
	slowReported bool // ErrSlow was given

	// Our direction.
	pending    []byte // the piece that WriteBody waits with
	waiting    bool   // WaitRoom waits for a window
	toSend     int64  // of the declared length, or Unknown
	sendWindow int64
	moved      int
	writers    waiter
	writePace  netio.Pace // how fast the peer grants windows
	readPace   netio.Pace
	lastFrame  int    // its offset in the connection's buffer; -1: none
	lastBatch  uint32 // the batch of lastFrame
	lastData   bool   // it is a DATA frame
	priority   priority
	queued     bool
	prev, next *stream

	onGone func() // given to Watch
}

// open makes s a new stream of c, c.mu held.
func (s *stream) open(c *conn, id uint32) {
	s.conn, s.id = c, id
	s.err, s.reset, s.resetByUs, s.resetByPeer, s.tunnel, s.recvEnd, s.sentEnd = nil, false, false, false, false, false, false
	s.stopped, s.interrupted, s.bodyStarted, s.slowReported = false, false, false, false
	s.counted, s.ended = false, false
	s.declared, s.received = message.Unknown, 0
	s.target, s.credit, s.withheld = defaultWindow, 0, 0
	s.toSend, s.sendWindow, s.moved = message.Unknown, c.sendInitial, 0
	s.writePace, s.readPace = c.limits.pace(), c.limits.pace()
	s.lastFrame, s.priority, s.waiting = -1, defaultPriority, false
	s.trailer.Reset()
}

// register adds s to the streams of its connection, c.mu held. It is open from now on.
func (s *stream) register() {
	s.conn.streams[s.id] = s
	s.recvWindow = defaultWindow - s.conn.enforced
	s.conn.open++
	s.counted = true
}

// uncount is called when s is closed to the peer, which may then open another one, even if s is
// still in use here; c.mu is held.
func (s *stream) uncount() {
	if s.counted {
		s.counted = false
		s.conn.open--
	}
}

// sideEnded is called when one side has ended; c.mu is held.
func (s *stream) sideEnded() {
	if !s.recvEnd || !s.sentEnd || s.reset || s.ended {
		return
	}
	s.ended = true
	s.uncount()
	if s.server != nil {
		s.conn.server.ended++
	}
}

// unregister removes s from its connection; c.mu is held. It must not be used afterwards.
func (s *stream) unregister() {
	c := s.conn
	c.dequeue(s)
	delete(c.streams, s.id)
	s.uncount()
	held := s.inbox.size + s.inbox.lent
	s.inbox.drop()
	c.releaseInbox(s, held)
	c.narrow(s, s.target-defaultWindow)
	if s.resetByUs {
		c.remember(s.id, s.recvWindow)
	}
	s.pending, s.onGone = nil, nil
	if len(c.streams) == 0 {
		c.idleSince = time.Now()
		if c.pinged.IsZero() {
			_ = c.base.SetReadDeadline(c.idleSince.Add(c.limits.IdleTime))
		}
	}
}

// body is the message.BodyReader of a stream.
type body struct {
	*stream
	trailerTo *message.Header
	slowAfter time.Duration
}

// Next gives the next piece.
func (b *body) Next(wait bool) ([]byte, error) {
	s := b.stream
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := s.inbox.lent; n > 0 {
		s.inbox.lent = 0
		c.consumed(s, int64(n))
	}
	for {
		switch {
		case s.interrupted:
			return nil, netio.ErrInterrupted
		case s.reset && !s.recvEnd: // a complete body is valid even if the stream is reset
			return nil, s.err
		}
		if p := s.inbox.next(); p != nil {
			s.bodyStarted = true
			return p, nil
		}
		switch {
		case s.recvEnd:
			if b.trailerTo != nil {
				*b.trailerTo, s.trailer = s.trailer, *b.trailerTo
				b.trailerTo = nil
			}
			return nil, io.EOF
		case c.err != nil:
			return nil, c.err
		case !wait:
			return nil, message.ErrWait
		}
		if err := b.waitMore(); err != nil {
			return nil, err
		}
	}
}

// waitMore waits for the peer; c.mu is released meanwhile.
func (b *body) waitMore() error {
	s := b.stream
	c := s.conn
	c.flushNow()
	limit := c.limits.IdleTime
	if b.slowAfter > 0 && !s.slowReported {
		limit = min(limit, b.slowAfter)
	}
	since, had := time.Now(), s.received
	c.mu.Unlock()
	woken := s.readers.wait(limit)
	// Silence is not an error while the other direction moves.
	for !woken && limit == c.limits.IdleTime && !s.tunnel {
		grace := s.readPace.Grace()
		if grace <= 0 {
			break
		}
		woken = s.readers.wait(grace)
	}
	c.mu.Lock()
	if woken || s.received > had || s.recvEnd || s.reset {
		if s.tunnel {
			return nil
		}
		return s.readPace.Wait(time.Since(since), int(s.received-had))
	}
	if limit < c.limits.IdleTime {
		s.slowReported = true
		return message.ErrSlow
	}
	return os.ErrDeadlineExceeded
}

// SetProgress is for an exchange that moves in both directions at once: reads is the progress of
// the peer's direction, writes that of ours. Nil for both resets that.
func (s *stream) SetProgress(reads, writes *netio.Progress) {
	s.conn.mu.Lock()
	s.readPace.Own, s.readPace.Other = reads, writes
	s.writePace.Own, s.writePace.Other = writes, reads
	s.conn.mu.Unlock()
}

// done says whether the complete body has been read.
func (b *body) done() bool {
	c := b.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	return b.recvEnd && b.inbox.size == 0
}

// Interrupt makes the current read of the body, or else the next one, end with an error.
func (s *stream) Interrupt() {
	s.conn.mu.Lock()
	s.interrupted = true
	s.readers.wake()
	s.conn.mu.Unlock()
}

// Resume ends an interruption.
func (s *stream) Resume() {
	s.conn.mu.Lock()
	s.interrupted = false
	s.conn.mu.Unlock()
}
