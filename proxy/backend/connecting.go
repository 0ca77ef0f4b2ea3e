package backend

import (
	"sync/atomic"
	"time"
)

// connectTooLong is how long a connect waits until its server counts as one that may not answer. A
// SYN that was lost is sent again after 1 s (RFC 6298 section 2): two are lost by then.
const connectTooLong = 1500 * time.Millisecond

// connecting notices that a server does not answer connects before the first of them has failed:
// until the connect timeout, further requests would join it.
type connecting struct {
	since atomic.Int64 // when the oldest connect began that is known, ns since epoch; 0: none waits
}

// begin records that a connect begins. Its result goes to end.
func (c *connecting) begin() (began int64) {
	began = max(1, int64(time.Since(epoch)))
	c.since.CompareAndSwap(0, began)
	return began
}

// end records the result of a connect. One that succeeds says that the server answers.
func (c *connecting) end(began int64, err error) {
	if err == nil {
		if c.since.Load() != 0 {
			c.since.Store(0)
		}
		return
	}
	c.since.CompareAndSwap(began, 0)
}

// tooLong reports whether a connect waits for an answer, and no other has succeeded meanwhile.
func (c *connecting) tooLong(now time.Time) bool {
	since := c.since.Load()
	return since != 0 && now.Sub(epoch)-time.Duration(since) > connectTooLong
}
