package netio

// TryFlush sends what is held as far as that needs no waiting, and says whether all of it has left.
// It is for readers of multiplexed connections: one that waited for room to write while its peer
// does the same would never get any.
func (c *Conn) TryFlush() bool {
	if !c.mu.TryLock() {
		return false // whoever writes may be waiting
	}
	if c.werr != nil || len(c.held) == 0 {
		c.mu.Unlock()
		return true
	}
	_ = c.raw.Control(c.tryFn)
	done := len(c.held) == 0 || c.werr != nil
	if done {
		c.freeHeld()
	}
	c.mu.Unlock()
	return done
}

func (c *Conn) tryStep(fd uintptr) {
	for len(c.held) > 0 && c.writeOnce(fd) {
	}
}
