package http2

import (
	"time"

	"mpgate/task"
)

const (
	// maxUnread is how many requests are processed at once whose client has granted no window for
	// the responses. Each takes a connection to a server, and memory on both sides, for nothing
	// that could be sent. The others follow slowly: a client may need the heads first.
	maxUnread   = 4
	unreadPause = 25 * time.Millisecond
)

// start starts the handlers of waiting streams, and drops those that were reset meanwhile.
func (c *ServerConn) start() {
	if len(c.starting) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, blocked := c.starting[:0], false
	for _, s := range c.starting {
		switch {
		case s.reset:
			c.discard(s)
		case c.mayRun() && !c.holdsMuch() && (s.sendWindow > 0 || !blocked && !c.tooManyUnread()):
			c.running++
			s.started = true
			s.run.Go()
		default:
			blocked = blocked || s.sendWindow <= 0
			kept = append(kept, s)
		}
	}
	clear(c.starting[len(kept):])
	c.starting, c.backlog = kept, len(kept)
}

// mayRun says whether one more handler may run; c.mu is held. Handlers whose streams were reset
// count until they return; those whose streams have ended do not, so that a client within the limit
// does not wait for them.
func (c *ServerConn) mayRun() bool {
	return c.running-c.ended < c.streamLimit && c.running < 2*c.streamLimit
}

// tooManyUnread says whether a stream without a window must wait for its start. Then it sets the
// timer that wakes the reader; c.mu is held.
func (c *ServerConn) tooManyUnread() bool {
	n := 0
	for _, s := range c.streams {
		if s.sendWindow <= 0 && s.server.started {
			n++
		}
	}
	if n < maxUnread {
		return false
	}
	now := time.Now()
	wait := unreadPause - now.Sub(c.lastUnread)
	if wait <= 0 {
		c.lastUnread = now
		return false
	}
	if c.resumeTimer == nil {
		c.resumeTimer = task.AfterFunc(wait, "HTTP/2: requests that wait for a window", c.wake)
	}
	return true
}

// wake makes the reader start the streams that waited.
func (c *ServerConn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumeTimer = nil
	if c.err == nil {
		c.base.Interrupt()
	}
}
