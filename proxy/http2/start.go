package http2

import (
	"time"

	"mpgate/task"
)

const (
	// maxUnread is how many requests are worked on at once whose client has given no window for the
	// answers. Each takes a connection to a server, and memory here and there, for nothing that
	// could leave. The others follow slowly: a client may want to see the heads first.
	maxUnread   = 4
	unreadPause = 25 * time.Millisecond
)

// start runs the handlers of streams that wait for that. One that was reset meanwhile is none.
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

// mayRun says whether one more handler may run; c.mu is held. Those whose streams were reset count
// until they return. A client that keeps to the limit does not wait for those whose streams have
// ended.
func (c *ServerConn) mayRun() bool {
	return c.running-c.ended < c.streamLimit && c.running < 2*c.streamLimit
}

// tooManyUnread says that a stream without a window must wait for its start, and then has the
// reader woken at its time; c.mu is held.
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

// wake lets the reader start what waits for its time.
func (c *ServerConn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumeTimer = nil
	if c.err == nil {
		c.base.Interrupt()
	}
}
