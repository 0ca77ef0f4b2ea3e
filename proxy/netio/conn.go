package netio

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// socket is what a Conn wraps: *net.TCPConn or *net.UnixConn, concrete types with a descriptor of
// their own, never something around them.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// Conn is a stream socket with raw, lazy input and output. It is a net.Conn, so crypto/tls can sit
// on it. Reading belongs to one goroutine at a time; writing, closing and interrupting to any.
type Conn struct {
	sock    socket
	raw     syscall.RawConn
	readFn  func(fd uintptr) bool // stored once: a closure made per call would allocate
	writeFn func(fd uintptr) bool
	idleFn  func(fd uintptr)
	tryFn   func(fd uintptr)

	// The reader's.
	dst        []byte  // where a Read wants the bytes
	into       *Buffer // where a Fill wants them
	n          int
	errno      syscall.Errno
	ahead      Buffer // what was read before: it comes first
	unsent     bool   // what is held could not be sent without waiting
	noWait     bool   // give ErrAgain instead of waiting
	drop       bool   // what is read is thrown away
	expectIdle bool   // nothing may be there before what is held is sent; see ExpectSilence
	notIdle    bool   // and something was
	gotFIN     bool   // the peer's FIN was read
	ackNext    bool   // see AcknowledgeNext

	splice   spliceInput
	protocol int // of the socket; 0: not asked yet

	deadline lazyDeadline

	writer
}

// New wraps c, which must be a *net.TCPConn or a *net.UnixConn and belongs to the Conn from now on.
func New(c net.Conn) (*Conn, error) {
	sock, ok := c.(socket)
	if !ok {
		return nil, fmt.Errorf("netio: %T is no socket; want *net.TCPConn or *net.UnixConn", c)
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	conn := &Conn{sock: sock, raw: raw}
	conn.readFn = conn.readStep
	conn.writeFn = conn.writeStep
	conn.idleFn = conn.idleStep
	conn.tryFn = conn.tryStep
	return conn, nil
}

// Raw gives access to the socket, to ask the kernel about it.
func (c *Conn) Raw() syscall.RawConn { return c.raw }

// LocalAddr is the socket's own address.
func (c *Conn) LocalAddr() net.Addr { return c.sock.LocalAddr() }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.sock.RemoteAddr() }

// Read sends what is held, then reads, and waits if there is nothing: one step.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.ahead.Len() > 0 {
		return c.readAhead(p), nil
	}
	c.dst = p
	n, err := c.read()
	c.dst = nil
	return n, err
}

// Fill is Read into b, whose memory is taken from a pool only once there is something to read.
func (c *Conn) Fill(b *Buffer) error {
	if b.Len() >= MaxBuffered {
		return ErrBufferFull
	}
	if c.ahead.Len() > 0 {
		b.added(c.readAhead(b.room()))
		return nil
	}
	c.into = b
	_, err := c.read()
	c.into = nil
	return err
}

// ExpectIdle is for a connection between two exchanges, with the next request held whole: the
// next Fill first looks whether the peer has closed or spoken out of turn, and then gives ErrSpoke
// with nothing sent. Otherwise it sends the request and waits. The look replaces the read that has
// to be tried before waiting: whatever comes after it is news to the poller, which was asked
// before.
func (c *Conn) ExpectIdle() { c.expectIdle = true }

// CheckIdle is for who has called ExpectSilence and is about to write n bytes: where they are too
// many to be held they leave at once, so it looks now, and gives what the Fill would.
func (c *Conn) CheckIdle(n int) error {
	if !c.expectIdle || c.Holds(n) {
		return nil
	}
	c.expectIdle = false
	if !c.Idle() {
		return ErrNotIdle
	}
	return nil
}

// Unread gives back what was read ahead and not used: the reads to come begin with it. It empties
// b.
func (c *Conn) Unread(b *Buffer) {
	c.ahead, *b = *b, Buffer{}
}

// readAhead moves what was given back to p, as much as fits. The memory goes only once it has been
// copied: others use it from then on.
func (c *Conn) readAhead(p []byte) int {
	n := copy(p, c.ahead.Bytes())
	c.ahead.Discard(n)
	if c.ahead.Len() == 0 {
		c.ahead.Release()
	}
	return n
}

// Drop throws away what the peer sends: at most the given number of bytes, until the end of its
// stream (nil), the deadline or an error. The kernel does not copy what it throws away, if it can
// help it (MSG_TRUNC, tcp(7)). What lies on top, such as TLS, sees none of it. Beyond the first 256
// KiB a peer is slowed down, by the window that it is left, to 64 KiB each 5 ms.
func (c *Conn) Drop(most int64) error {
	const free, pause = 256 << 10, 5 * time.Millisecond
	n := int64(c.ahead.Len())
	c.ahead.Release()
	block := newBlock(true)
	c.drop = true
	defer func() {
		c.drop = false
		freeBlock(block)
	}()
	for n < most {
		if n > free {
			time.Sleep(pause)
		}
		k, err := c.Read(block)
		n += int64(k)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// WaitReadable sends what is held and returns once a read would not wait.
func (c *Conn) WaitReadable() error {
	if c.ahead.Len() > 0 {
		return nil
	}
	_, err := c.read()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (c *Conn) read() (int, error) {
	for {
		err := c.raw.Read(c.readFn)
		switch {
		case err == nil && c.unsent:
			// The callback must not wait for room to write; this may.
			c.unsent = false
			c.deadline.arm(c.sock) // it is a wait of the read, too
			if err := c.flushBriefly(); err != nil {
				return 0, err
			}
		case err == nil:
			return c.result()
		case errors.Is(err, os.ErrDeadlineExceeded):
			// An expired deadline returns before the callback runs: what is held has not left yet.
			// Nor may it, where the callback is to look first.
			if !c.expectIdle {
				if err := c.flushBriefly(); err != nil {
					return 0, err
				}
			}
			if c.deadline.interrupted.Load() {
				return 0, ErrInterrupted
			}
			if c.deadline.expired(c.sock) {
				return 0, os.ErrDeadlineExceeded
			}
		default:
			return 0, err
		}
	}
}

func (c *Conn) result() (int, error) {
	switch {
	case c.notIdle:
		c.notIdle = false
		return 0, ErrNotIdle
	case c.errno == syscall.EAGAIN:
		return 0, ErrAgain
	case c.errno != 0:
		return 0, os.NewSyscallError("read", c.errno)
	case c.n == 0:
		c.gotFIN = true
		return 0, io.EOF
	}
	return c.n, nil
}

// readStep runs inside RawConn.Read, which holds only the read lock of the descriptor. It reports
// whether the read is over; false waits for readiness and calls it again.
func (c *Conn) readStep(fd uintptr) bool {
	if c.expectIdle {
		if _, errno := sysPeek(fd); errno != syscall.EAGAIN {
			c.notIdle, c.expectIdle = true, false
			return true
		}
	}
	sent := c.sendHeld(fd)
	if c.expectIdle && sent {
		c.expectIdle = false
		return c.beforeWait(fd)
	}
	c.expectIdle = false
	p := c.dst
	switch {
	case c.into != nil:
		if p = c.into.room(); p == nil {
			c.n, c.errno = 0, syscall.ENOBUFS
			return true
		}
	case p == nil:
		c.n, c.errno = sysPeek(fd)
		return c.readDone(sent) || c.beforeWait(fd)
	}
	if c.drop {
		c.n, c.errno = sysDrop(fd, p)
	} else {
		c.n, c.errno = sysRead(fd, p)
	}
	if c.into != nil {
		if c.errno == 0 {
			c.into.added(c.n)
		} else {
			c.into.releaseIfEmpty()
		}
	}
	return c.readDone(sent) || c.noWait || c.beforeWait(fd)
}

// beforeWait comes before each wait for something to read, and lets it begin: it is false.
func (c *Conn) beforeWait(fd uintptr) bool {
	if c.ackNext {
		c.ackNext = false
		acknowledge(fd)
	}
	c.deadline.arm(c.sock)
	return false
}

// readDone says whether a read that was tried is over. It is also where the peer took not all of
// what is held and has nothing to say: then room is waited for. That comes second, because a peer
// that takes nothing may be waiting for its own bytes to be taken.
func (c *Conn) readDone(sent bool) bool {
	if c.errno == syscall.EAGAIN && !sent {
		c.unsent = true
		return true
	}
	return c.errno != syscall.EAGAIN
}

// Idle says whether a connection that should be silent is: open, and with nothing to read. Anything
// else means that the peer has closed it or spoke out of turn. It costs one system call and does
// not wait; the reader's goroutine calls it.
func (c *Conn) Idle() bool {
	c.errno = 0
	return c.ahead.Len() == 0 && c.raw.Control(c.idleFn) == nil && c.errno == syscall.EAGAIN
}

func (c *Conn) idleStep(fd uintptr) { c.n, c.errno = sysPeek(fd) }

// SetReadDeadline is the time after which a read gives up; zero is never. Moving it further away
// costs a store.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.deadline.set(c.sock, t)
	return nil
}

// ReadBy is SetReadDeadline for whoever reads: the poller's timer is set only once a read comes to
// wait, which spares it where the bytes are there already.
func (c *Conn) ReadBy(t time.Time) { c.deadline.setLazy(t) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.deadline.set(c.sock, t)
	return c.SetWriteDeadline(t)
}

// Interrupt makes the read that is under way, or else the next one, give ErrInterrupted, until
// Resume. Any goroutine may call it.
func (c *Conn) Interrupt() {
	c.deadline.interrupt(c.sock)
}

// Resume ends an interruption. The reader calls it.
func (c *Conn) Resume() {
	c.deadline.resume(c.sock)
}

// CloseWrite sends what is held, then a FIN.
func (c *Conn) CloseWrite() error {
	if err := c.Flush(); err != nil {
		return err
	}
	return c.sock.CloseWrite()
}

// Finish is Flush and Close for a TCP socket: the FIN travels with the last bytes, which spares the
// peer a segment.
func (c *Conn) Finish() error {
	err := c.sendBeforeFIN()
	if err == nil {
		err = c.sock.CloseWrite()
	}
	return errors.Join(err, c.sock.Close())
}

// Close sends what is held if that needs no waiting, and closes the socket. crypto/tls relies on
// it: its Close leaves an alert behind with a write deadline in the past.
func (c *Conn) Close() error {
	c.flushOnClose()
	return c.sock.Close()
}

// Abort closes the socket without sending what is held. The peer sees a reset where SetLinger(0)
// applies to a TCP socket, so that nothing that was cut off can look complete.
func (c *Conn) Abort() error {
	if tcp, ok := c.sock.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // refused on some MPTCP kernels: then it is a FIN
	}
	return c.sock.Close()
}
