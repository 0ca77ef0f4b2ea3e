package http2

import "golang.org/x/net/http2"

// queue holds the streams of one urgency that have more to send than fits.
type queue struct{ first, last *stream }

// enqueue adds s to the queue of its urgency; c.mu is held. Streams that are not incremental come
// first, in the order of their identifiers; incremental ones take turns.
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

// nextStream is the stream that sends next, nil if none can.
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

// wakeFirst makes the stream that sends next write; c.mu is held.
func (c *conn) wakeFirst() {
	if s := c.nextStream(); s != nil && !c.writing {
		s.writers.wake()
	}
}

// fillBuffer fills buf from the queued streams; c.mu is held.
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

// appendData adds one DATA frame of s, as large as the windows and the peer allow.
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

// extendLastFrame adds n pending bytes of s to its last DATA frame, if that ends the buffer.
// Without that, small pieces, as of a server that sends small chunks, would flood the peer with
// frames that it has to answer.
func (c *conn) extendLastFrame(s *stream, n int) bool {
	if !s.lastData || s.lastBatch != c.batch || s.lastFrame < 0 || s.lastFrame+frameHeaderLen > len(c.buf) {
		return false
	}
	h := c.buf[s.lastFrame:]
	size := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	if len(h) != frameHeaderLen+size || size+n > c.frameSize {
		return false
	}
	// Reserve also counts a frame header, which is not needed.
	c.buf = append(c.reserve(n), s.pending[:n]...)
	h = c.buf[s.lastFrame:]
	size += n
	h[0], h[1], h[2] = byte(size>>16), byte(size>>8), byte(size)
	return true
}
