package http2

import "golang.org/x/net/http2"

// queue is the streams of one urgency that have more to send than there was room for.
type queue struct{ first, last *stream }

// enqueue lets s take part in the turns, c.mu held. Streams of one urgency that are not incremental
// go in the order of their numbers, before those that share.
func (c *conn) enqueue(s *stream) {
	if s.queued {
		return
	}
	s.queued = true
	q := &c.queues[s.priority.urgency]
	before := (*stream)(nil) // nil: at the end
	if !s.priority.incremental {
		for before = q.first; before != nil && !before.priority.incremental && before.id < s.id; {
			before = before.next
		}
	}
	s.next = before
	if before == nil {
		s.prev, q.last = q.last, s
	} else {
		s.prev, before.prev = before.prev, s
	}
	if s.prev == nil {
		q.first = s
	} else {
		s.prev.next = s
	}
}

func (c *conn) dequeue(s *stream) {
	if !s.queued {
		return
	}
	q := &c.queues[s.priority.urgency]
	if s.prev == nil {
		q.first = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		q.last = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.prev, s.next, s.queued = nil, nil, false
}

// nextStream is the one whose turn it is, nil where nobody can send.
func (c *conn) nextStream() *stream {
	if c.sendWindow <= 0 {
		return nil
	}
	for i := range c.queues {
		if s := c.queues[i].first; s != nil {
			return s
		}
	}
	return nil
}

// wakeFirst lets the stream whose turn it is see to the writing; c.mu is held.
func (c *conn) wakeFirst() {
	if s := c.nextStream(); s != nil && !c.writing {
		s.writers.wake()
	}
}

// fillBuffer fills buf from the streams in turn; c.mu is held.
func (c *conn) fillBuffer() {
	for len(c.buf) < outLimit {
		s := c.nextStream()
		if s == nil {
			return
		}
		c.appendData(s)
		if len(s.pending) == 0 || s.sendWindow <= 0 {
			c.dequeue(s)
			s.writers.wake()
		} else if s.priority.incremental {
			c.dequeue(s)
			c.enqueue(s)
		}
	}
}

// appendData adds one DATA frame of s, as large as everybody allows.
func (c *conn) appendData(s *stream) {
	n := min(int64(len(s.pending)), int64(c.frameSize), s.sendWindow, c.sendWindow)
	if n <= 0 {
		return
	}
	if !c.extendLastFrame(s, int(n)) {
		b := appendHeader(c.reserve(int(n)), int(n), http2.FrameData, 0, s.id)
		s.lastFrame, s.lastBatch, s.lastData = len(b)-frameHeaderLen, c.batch, true
		c.buf = append(b, s.pending[:n]...)
		c.earned += earnedByData
	}
	s.pending = s.pending[n:]
	s.sendWindow -= n
	c.sendWindow -= n
	s.moved += int(n)
	c.sent += int(n)
}

// extendLastFrame adds n pending bytes of s to its last DATA frame, if that is the last of all and has not
// left: pieces of a few bytes each, as from a server that sends small chunks, would be a flood of
// frames for the peer, who has to answer each.
func (c *conn) extendLastFrame(s *stream, n int) bool {
	if !s.lastData || s.lastBatch != c.batch || s.lastFrame < 0 || s.lastFrame+frameHeaderLen > len(c.buf) {
		return false
	}
	h := c.buf[s.lastFrame:]
	size := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	if len(h) != frameHeaderLen+size || size+n > c.frameSize {
		return false
	}
	c.buf = append(c.reserve(n), s.pending[:n]...) // the header's room is not needed: no matter
	h = c.buf[s.lastFrame:]
	size += n
	h[0], h[1], h[2] = byte(size>>16), byte(size>>8), byte(size)
	return true
}
