package http2

import "golang.org/x/net/http2"

const (
	// minWindow is the window of a stream when memory is short, and how much it may hold unread
	// whatever its connection holds.
	minWindow = 16 << 10
	// holdStep is the step in which memory is leased for what comes in the first windows.
	holdStep = 16 << 10
)

// adaptWindows tells the peer of a smaller initial window of streams when memory is short, and of
// the usual one when that is over; c.mu is held. It counts for the streams that are open, too (RFC
// 9113 section 6.9.2).
func (c *conn) adaptWindows() {
	if c.unacked > 0 {
		return
	}
	c.cutback = 0
	if c.limits.memory.Pressed() {
		c.cutback = defaultWindow - minWindow
	}
	c.appendSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(defaultWindow - c.cutback)})
	if c.cutback == 0 {
		c.enforce()
		more := max(connWindow, 2*c.target) - c.recvTarget
		c.recvTarget += max(0, more)
		c.returnCredit(max(0, more))
	}
	c.wantFlush()
}

// appendFirstSettings adds the initial window of streams to the settings that a connection begins
// with, if it is not the usual one; c.mu is held.
func (c *conn) appendFirstSettings(list ...http2.Setting) {
	if c.limits.memory.Pressed() {
		c.cutback = defaultWindow - minWindow
		list = append(list, http2.Setting{ID: http2.SettingInitialWindowSize, Val: minWindow})
	}
	c.appendSettings(list...)
}

// settingsAcked is called when the peer has acknowledged settings; c.mu is held.
func (c *conn) settingsAcked() {
	c.unacked = max(0, c.unacked-1)
	switch {
	case c.unacked > 0:
		return
	case c.limits.memory.Pressed() != (c.cutback > 0):
		c.adaptWindows()
		return
	case c.cutback == 0:
		return
	}
	c.enforce()
	for _, s := range c.streams {
		c.returnCredit(int64(s.withheld))
		s.withheld = 0
	}
	c.wantFlush()
}

// enforce applies the initial window that the peer was told to its streams; c.mu is held.
func (c *conn) enforce() {
	for _, s := range c.streams {
		s.recvWindow += c.enforced - c.cutback
	}
	c.enforced = c.cutback
}

// mayHoldMore says whether the connection's window is granted again for bytes of s that have just
// come, and were not taken; c.mu is held. When memory is short it is not, beyond what is free
// for each, until the peer keeps to the small windows of streams.
func (c *conn) mayHoldMore(s *stream) bool {
	return !c.limits.memory.Pressed() || c.enforced > 0 || c.lent <= connWindow || s.inbox.size <= minWindow
}

// holdInbox accounts for n more bytes that lie in inboxes; c.mu is held. The lease of windows that
// grew covers some of them, the rest is accounted for as it comes: most connections hold very
// little.
func (c *conn) holdInbox(n int) {
	c.inboxBytes += n
	if short := c.inboxBytes - c.leased - c.lent; short > 0 {
		short = (short + holdStep - 1) / holdStep * holdStep
		c.limits.memory.hold(short)
		c.lent += short
	}
}

// releaseInbox accounts for n bytes that left the inbox of s; c.mu is held.
func (c *conn) releaseInbox(s *stream, n int) {
	c.inboxBytes -= n
	if unused := min(c.lent, c.leased+c.lent-c.inboxBytes); unused > 0 && (c.inboxBytes == 0 || unused >= connWindow) {
		c.limits.memory.release(unused)
		c.lent -= unused
	}
	if n = min(n, s.withheld); n > 0 {
		s.withheld -= n
		c.returnCredit(int64(n))
	}
}

// widen makes the window of s larger, up to target, as far as there is memory for what it then
// may bring; c.mu is held.
func (c *conn) widen(s *stream) {
	more := min(c.target-s.target, c.limits.memory.growth())
	if more < min(defaultWindow, c.target-s.target) { // not worth a change
		return
	}
	c.limits.memory.hold(int(more))
	c.leased += int(more)
	s.credit += more
	s.target += more
}

// shrink makes a window that grew smaller by what its reader has taken, which is not granted
// again; c.mu is held.
func (c *conn) shrink(s *stream) {
	if n := min(s.credit, s.target-defaultWindow); n > 0 {
		s.credit -= n
		c.narrow(s, n)
	}
}

// narrow gives back the lease for n bytes of the window of s; c.mu is held.
func (c *conn) narrow(s *stream, n int64) {
	s.target -= n
	c.leased -= int(n)
	// That lease covers bytes that are held.
	if short := c.inboxBytes - c.leased - c.lent; short > 0 {
		c.lent += short
		n -= int64(short)
	}
	c.limits.memory.release(int(n))
}

// holdPiece accounts for a piece that waits for the peer's window; c.mu is held. dropPiece must
// follow.
func (c *conn) holdPiece(n int) {
	c.pieceBytes += n
	c.limits.memory.hold(n)
}

func (c *conn) dropPiece(n int) {
	c.pieceBytes -= n
	c.limits.memory.release(n)
}

// holdsMuch says whether more than its share waits for the peer while no memory is left: then the
// connection should begin nothing that adds to it; c.mu is held. Bodies of requests do not count:
// to begin those requests frees memory.
func (c *conn) holdsMuch() bool { return c.pieceBytes > connWindow && c.limits.memory.Full() }
