package netio

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// writer is the write side of a Conn.
type writer struct {
	mu      sync.Mutex // guards what follows; a reader never waits for it
	block   []byte     // the memory of held, nil when nothing is held
	large   bool       // take large blocks
	held    []byte     // waits to be sent
	piece   []byte     // sent after held, in the caller's memory; only during a call
	iov     [2]syscall.Iovec
	werr    error       // sticky: after a failed write nothing more is sent
	moved   int         // bytes sent by the running call
	blocked bool        // the socket took no more when it was last tried
	finNext bool        // a FIN or a file follows what is sent
	replies atomic.Bool // what is written now is a reply of crypto/tls, see reply
	pace    Pace
	out     spliceOutput
	file    *fileSender // nil until a file is sent

	wdeadline atomic.Int64 // since epoch; 0 is never
	wmu       sync.Mutex   // held while the poller's write timer is set
}

// SetPace bounds how slowly the peer may take what is written.
func (c *Conn) SetPace(p Pace) {
	c.mu.Lock()
	c.pace = p
	c.mu.Unlock()
}

// SetProgress sets the directions that the pace of writing considers, see Pace. No write may be in
// progress.
func (c *Conn) SetProgress(own, other *Progress) {
	c.mu.Lock()
	c.pace.Own, c.pace.Other = own, other
	c.mu.Unlock()
}

// Write holds a copy of p until the next Flush or read. What does not fit is sent at once, after
// what was held, without a copy.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.werr != nil {
		return 0, c.werr
	}
	if c.holds(len(p)) {
		if c.block == nil {
			c.block = newBlock(c.large)
			c.held = c.block[:0]
		}
		c.held = append(c.held, p...)
		return len(p), nil
	}
	if c.replies.Load() {
		return c.reply(p)
	}
	if err := c.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Holds says whether a Write of n bytes would hold them instead of sending.
func (c *Conn) Holds(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holds(n)
}

func (c *Conn) holds(n int) bool {
	room := smallBlock
	if c.large {
		room = largeBlock
	}
	return len(c.held)+n <= room
}

// ErrRepliesUnread means that the peer requests replies and does not read them.
var ErrRepliesUnread = errors.New("netio: the peer does not read the replies that it requests")

// reply is a Write beyond what fits, for what crypto/tls writes while it reads, such as the reply
// to a KeyUpdate. It must not wait for the peer: that time would not count against the read
// deadline.
func (c *Conn) reply(p []byte) (int, error) {
	if c.block == nil {
		return 0, c.send(p) // crypto/tls writes no reply of that length
	}
	if err := c.raw.Control(c.tryFn); err != nil && c.werr == nil {
		c.werr = err
	}
	if c.werr == nil && len(c.held)+len(p) > largeBlock {
		c.werr = ErrRepliesUnread
	}
	if c.werr != nil {
		return 0, c.werr
	}
	// It may have outgrown a block that was taken before UseLargeBlocks.
	if len(c.held) <= len(c.block) {
		c.held = c.block[:copy(c.block, c.held)]
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

// UseLargeBlocks makes the connection hold up to 64 KiB, for writers whose pieces must be copied.
func (c *Conn) UseLargeBlocks() {
	c.mu.Lock()
	c.large = true
	c.mu.Unlock()
}

// Held is how many bytes wait for a Flush.
func (c *Conn) Held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held)
}

// send sends what is held and then p; c.mu is held. The poller's timer is set only when the socket
// takes no more, and reset afterwards.
func (c *Conn) send(p []byte) error {
	c.piece = p
	armed := false
	for c.werr == nil && len(c.held)+len(c.piece) > 0 {
		if !c.blocked {
			c.setWriteErr(c.raw.Write(c.writeFn))
			continue
		}
		armed = true
		c.setWriteErr(c.wait(time.Now(), 0))
	}
	c.blocked = false
	if armed {
		c.armWrite(time.Time{}, 0)
	}
	c.piece = nil
	c.freeHeld()
	return c.werr
}

// wait waits once for room, at most for the given time if that is not 0, sends what then fits, and
// checks the pace.
func (c *Conn) wait(since time.Time, most time.Duration) error {
	c.armWrite(since, most)
	c.moved = 0
	err := c.raw.Write(c.writeFn)
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.writeDeadlinePassed() {
		// The window is over, but a socket is writable only when a third of its buffer is free, for
		// which a slow peer may need longer. What it took shows in what fits now.
		c.armWrite(time.Time{}, 0)
		c.blocked = false
		err = c.raw.Write(c.writeFn)
	}
	if err != nil {
		return err
	}
	return c.pace.Wait(time.Since(since), c.moved)
}

func (c *Conn) setWriteErr(err error) {
	switch {
	case c.werr != nil:
	case errors.Is(err, os.ErrDeadlineExceeded) && c.writeDeadlinePassed():
		c.werr = os.ErrDeadlineExceeded
	default:
		c.werr = err
	}
}

func (c *Conn) writeDeadlinePassed() bool {
	w := c.wdeadline.Load()
	return w != 0 && int64(time.Since(epoch)) >= w
}

// writeStep runs inside RawConn.Write. When the socket takes no more it returns true, so that the
// caller checks the pace and sets a deadline; it waits only after that, with nothing sent.
func (c *Conn) writeStep(fd uintptr) bool {
	for len(c.held)+len(c.piece) > 0 {
		if c.writeOnce(fd) {
			continue
		}
		if c.werr != nil || c.moved > 0 || !c.blocked {
			c.blocked = true
			return true
		}
		return false
	}
	return true
}

// writeOnce makes one system call and removes what it sent. false: nothing.
func (c *Conn) writeOnce(fd uintptr) bool {
	n, errno := sysWrite(fd, &c.iov, c.held, c.piece, c.finNext)
	switch errno {
	case 0:
	case syscall.EAGAIN:
		return false
	default:
		c.werr = os.NewSyscallError("write", errno)
		return false
	}
	c.moved += n
	k := min(n, len(c.held))
	c.held = c.held[k:]
	c.piece = c.piece[n-k:]
	return true
}

func (c *Conn) freeHeld() {
	if c.block != nil {
		freeBlock(c.block)
		c.block, c.held = nil, nil
	}
}

// SetWriteDeadline is the time after which a write that waits gives up; zero is never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if t.IsZero() {
		c.wdeadline.Store(0)
	} else {
		c.wdeadline.Store(max(1, int64(t.Sub(epoch))))
	}
	return c.sock.SetWriteDeadline(t)
}

// armWrite sets the poller's timer for a wait that begins now: to the write deadline, the end of
// the pace's window or the end of the given time, whichever is first. With a zero now it sets only
// the deadline.
func (c *Conn) armWrite(now time.Time, most time.Duration) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.pace.Window > 0 && (most == 0 || c.pace.Window < most) {
		most = c.pace.Window
	}
	var until time.Time
	if most > 0 && !now.IsZero() {
		until = now.Add(most)
	}
	if w := c.wdeadline.Load(); w != 0 {
		if t := epoch.Add(time.Duration(w)); until.IsZero() || t.Before(until) {
			until = t
		}
	}
	_ = c.sock.SetWriteDeadline(until) // fails only on a closed socket, as will the write
}
