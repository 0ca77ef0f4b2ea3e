package http2

import (
	"io"
	"os"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// stream is what both ends of one have in common; conn.mu guards it. Its body is read by one
// goroutine and written by one, which may be another.
type stream struct {
	conn   *conn
	id     uint32
	server *ServerStream
	client *ClientStream

	err     error // why it was killed
	reset   bool  // nothing may be sent or is taken any more
	ours    bool  // by us, and the peer may not know yet
	theirs  bool  // by the peer, which may send nothing more
	raw     bool  // a tunnel: silence in one direction is not an error
	recvEnd bool  // the peer has ended its side
	sentEnd bool  // we have ended ours
	stopped bool  // the peer wants no more of ours
	cut     bool  // whoever reads is to stop
	began   bool  // something of the body was taken
	counted bool  // in conn.open
	ended   bool  // both sides ended, without a reset

	// What comes.
	inbox      inbox
	trailer    message.Header
	declared   int64 // length of the body, Unknown where it was not said
	received   int64
	recvWindow int64 // what the peer may still send
	target     int64 // what it may send at most
	credit     int64 // taken and not granted again
	withheld   int   // bytes unread, for which the connection's window waits
	readers    waiter
	slow       bool // ErrSlow was given

	// What leaves.
	pending    []byte // what the writer waits with
	waiting    bool   // for a window, with nothing in its hands
	toSend     int64  // of the declared length, Unknown where none was
	sendWindow int64
	moved      int
	writers    waiter
	pace       netio.Pace // of the windows that the peer grants
	readPace   netio.Pace
	lastFrame  int    // where the stream's last frame begins in the connection's buffer
	lastSwap   uint32 // and in which one
	lastData   bool   // it is a DATA frame
	priority   priority
	queued     bool
	prev, next *stream

	gone func() // given to Watch
}

// open makes s a new stream of c, c.mu held.
func (s *stream) open(c *conn, id uint32) {
	s.conn, s.id = c, id
	s.err, s.reset, s.ours, s.theirs, s.raw, s.recvEnd, s.sentEnd = nil, false, false, false, false, false, false
	s.stopped, s.cut, s.began, s.slow = false, false, false, false
	s.counted, s.ended = false, false
	s.declared, s.received = message.Unknown, 0
	s.target, s.credit, s.withheld = firstWindow, 0, 0
	s.toSend, s.sendWindow, s.moved = message.Unknown, c.sendInitial, 0
	s.pace, s.readPace = c.limits.pace(), c.limits.pace()
	s.lastFrame, s.priority, s.waiting = -1, defaultPriority, false
	s.trailer.Reset()
}

// register adds s to the streams of its connection, c.mu held. It is open from now on.
func (s *stream) register() {
	s.conn.streams[s.id] = s
	s.recvWindow = firstWindow - s.conn.enforced
	s.conn.open++
	s.counted = true
}

// uncount is called when s is closed to the peer, which may open another in its place, whatever is
// left to do here; c.mu is held.
func (s *stream) uncount() {
	if s.counted {
		s.counted = false
		s.conn.open--
	}
}

// endedOne is called when one of the sides has ended; c.mu is held.
func (s *stream) endedOne() {
	if !s.recvEnd || !s.sentEnd || s.reset || s.ended {
		return
	}
	s.ended = true
	s.uncount()
	if s.server != nil {
		s.conn.server.ended++
	}
}

// leave takes s off its connection, c.mu held; nobody may use it any more.
func (s *stream) leave() {
	c := s.conn
	c.dequeue(s)
	delete(c.streams, s.id)
	s.uncount()
	held := s.inbox.size + s.inbox.lent
	s.inbox.drop()
	c.letGo(s, held)
	c.narrow(s, s.target-firstWindow)
	if s.ours {
		c.remember(s.id, s.recvWindow)
	}
	s.pending, s.gone = nil, nil
	if len(c.streams) == 0 {
		c.idle = time.Now()
		if c.pinged.IsZero() {
			_ = c.base.SetReadDeadline(c.idle.Add(c.limits.IdleTime))
		}
	}
}

// body is a stream's as a message.BodyReader.
type body struct {
	*stream
	trailerTo *message.Header
	patience  time.Duration
}

// Next gives the next piece.
func (b *body) Next(wait bool) ([]byte, error) {
	s := b.stream
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := s.inbox.lent; n > 0 {
		s.inbox.lent = 0
		c.took(s, int64(n))
	}
	for {
		switch {
		case s.cut:
			return nil, netio.ErrInterrupted
		case s.reset && !s.recvEnd: // what came whole is good, whatever becomes of the stream
			return nil, s.err
		}
		if p := s.inbox.next(); p != nil {
			s.began = true
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

// waitMore waits for the peer, with c.mu let go.
func (b *body) waitMore() error {
	s := b.stream
	c := s.conn
	c.flushNow()
	limit := c.limits.IdleTime
	if b.patience > 0 && !s.slow {
		limit = min(limit, b.patience)
	}
	since, had := time.Now(), s.received
	c.mu.Unlock()
	woken := s.readers.wait(limit)
	for !woken && limit == c.limits.IdleTime && !s.raw { // silence is not an error while the other direction moves
		grace := s.readPace.Grace()
		if grace <= 0 {
			break
		}
		woken = s.readers.wait(grace)
	}
	c.mu.Lock()
	if woken || s.received > had || s.recvEnd || s.reset {
		if s.raw {
			return nil
		}
		return s.readPace.Wait(time.Since(since), int(s.received-had))
	}
	if limit < c.limits.IdleTime {
		s.slow = true
		return message.ErrSlow
	}
	return os.ErrDeadlineExceeded
}

// SetProgress is for an exchange that moves in both directions at once: reads is the progress of
// what comes, writes that of what leaves. Nil for both ends that.
func (s *stream) SetProgress(reads, writes *netio.Progress) {
	s.conn.mu.Lock()
	s.readPace.Own, s.readPace.Other = reads, writes
	s.pace.Own, s.pace.Other = writes, reads
	s.conn.mu.Unlock()
}

// done says whether the body has been taken whole.
func (b *body) done() bool {
	c := b.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	return b.recvEnd && b.inbox.size == 0
}

// Interrupt makes the read of the body that is under way, or else the next one, end with an error.
func (s *stream) Interrupt() {
	s.conn.mu.Lock()
	s.cut = true
	s.readers.wake()
	s.conn.mu.Unlock()
}

// Resume ends an interruption.
func (s *stream) Resume() {
	s.conn.mu.Lock()
	s.cut = false
	s.conn.mu.Unlock()
}
