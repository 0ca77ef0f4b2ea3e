package netio

import (
	"os"
	"time"
)

// The ways to send what is held. They differ in how long they wait, for room in the socket and for
// another writer.

// Flush sends what is held. It waits while the peer takes nothing, as long as its pace and the
// write deadline allow.
func (c *Conn) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.werr != nil {
		return c.werr
	}
	if len(c.held) == 0 {
		return nil
	}
	return c.send(nil)
}

// TryFlush sends what is held as far as that needs no waiting, and says whether all of it has left.
// It is for readers of multiplexed connections: one that waited for room to write while its peer
// does the same would never get any.
func (c *Conn) TryFlush() bool {
	if !c.mu.TryLock() {
		return false // another writer may be waiting
	}
	defer c.mu.Unlock()
	if c.werr == nil && len(c.held) > 0 {
		_ = c.raw.Control(c.tryFn)
	}
	return c.freeIfSent()
}

// tryStep runs inside RawConn.Control. It sends as much of what is held as the socket takes.
func (c *Conn) tryStep(fd uintptr) {
	for len(c.held) > 0 && c.writeOnce(fd) {
	}
}

// freeIfSent gives the memory back if nothing is left that could be sent, and says whether that is
// so; c.mu is held.
func (c *Conn) freeIfSent() bool {
	if c.werr == nil && len(c.held) > 0 {
		return false
	}
	c.freeHeld()
	return true
}

// briefWait is how long a reader waits for room to send what is held before it looks again for
// something to read.
const briefWait = time.Second

// flushBriefly is Flush for a reader. It does not wait for another writer, which flushes itself,
// and waits only briefly for the peer: either may wait for what the reader reads.
func (c *Conn) flushBriefly() error {
	if !c.mu.TryLock() {
		return nil
	}
	defer c.mu.Unlock()
	if c.werr != nil || len(c.held) == 0 {
		return c.werr
	}
	c.blocked = true
	c.setWriteErr(c.wait(time.Now(), briefWait))
	c.blocked = false
	c.armWrite(time.Time{}, 0)
	c.freeIfSent()
	return c.werr
}

// sendHeld is the first step of a read: it sends what is held if there is no other writer. false:
// some of it is left, and sending it needs waiting.
func (c *Conn) sendHeld(fd uintptr) bool {
	if !c.mu.TryLock() {
		return true // the other writer flushes itself
	}
	defer c.mu.Unlock()
	if len(c.held) == 0 || c.werr != nil {
		return true
	}
	c.tryStep(fd)
	// The next write reports a write error: what the peer sent before it may still be read.
	return c.freeIfSent()
}

// sendBeforeFIN sends what is held, and lets the last segment wait for the FIN.
func (c *Conn) sendBeforeFIN() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.werr == nil && len(c.held) > 0 {
		c.finNext = true
		_ = c.send(nil)
		c.finNext = false
	}
	return c.werr
}

// flushOnClose makes one attempt to send what is held, without waiting for another writer or for
// room.
func (c *Conn) flushOnClose() {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if len(c.held) > 0 && c.werr == nil {
		_ = c.raw.Control(c.tryFn)
	}
	c.freeHeld()
	if c.werr == nil {
		c.werr = os.ErrClosed
	}
}
