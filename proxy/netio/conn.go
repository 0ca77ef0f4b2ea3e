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

	// The reading goroutine's.
	dst        []byte  // where a Read wants the bytes
	into       *Buffer // where a Fill wants them
	n          int
	errno      syscall.Errno
	ahead      Buffer // what Unread returned: it comes first
	unsent     bool   // what is held could not be sent without waiting
	noWait     bool   // give ErrAgain instead of waiting
	drop       bool   // what is read is discarded
	expectIdle bool   // see ExpectIdle
	notIdle    bool   // there was something to read
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
		return nil, fmt.Errorf("netio: %T is not a socket; want *net.TCPConn or *net.UnixConn", c)
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

// Read sends what is held, then reads, and waits if nothing has come.
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

// ExpectIdle is for a connection between two exchanges that holds the complete next request: the
// next Fill first checks whether the peer has closed the connection or sent something, and then
// gives ErrNotIdle with nothing sent. Otherwise it sends the request and waits. The check replaces
// the read that must be tried before waiting: RawConn.Read has reset the readiness before it.
func (c *Conn) ExpectIdle() { c.expectIdle = true }

// CheckIdle is called after ExpectIdle, before a Write of n bytes. If these are too many to be held
// they leave at once: then it checks now, and gives the error that Fill would.
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

// Unread returns what was read and not used: the next reads begin with it. It empties b.
func (c *Conn) Unread(b *Buffer) {
	c.ahead, *b = *b, Buffer{}
}

// readAhead moves what Unread returned to p, as much as fits. The memory is released after the
// copy: others use it from then on.
func (c *Conn) readAhead(p []byte) int {
	n := copy(p, c.ahead.Bytes())
	c.ahead.Discard(n)
	if c.ahead.Len() == 0 {
		c.ahead.Release()
	}
	return n
}

// Linger bounds how long a connection discards what its peer sends.
type Linger struct {
	Bytes   int64
	Silence time.Duration // of the peer
	Time    time.Duration // in all
}

// Drop discards what the peer sends, within the bounds of l, until the end of its stream (nil), a
// deadline or an error. TCP sockets do not even copy it (MSG_TRUNC, tcp(7)), and TLS above the
// connection does not see it. After the first 256 KiB, the receive window slows the peer down to
// 64 KiB per 5 ms. It sets the read deadline.
func (c *Conn) Drop(l Linger) error {
	const step, pause = 64 << 10, 5 * time.Millisecond
	end, unpaced := time.Now().Add(l.Time), int64(-256<<10)
	n := int64(c.ahead.Len())
	c.ahead.Release()
	block := newBlock(true)
	c.drop = true
	defer func() {
		c.drop = false
		freeBlock(block)
	}()
	for n < l.Bytes {
		if unpaced >= step {
			time.Sleep(pause)
			unpaced = 0
		}
		silent := time.Now().Add(l.Silence)
		if silent.After(end) {
			silent = end
		}
		_ = c.SetReadDeadline(silent)
		k, err := c.Read(block)
		n, unpaced = n+int64(k), unpaced+int64(k)
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
			// The callback must not wait for room to write; here it is possible.
			c.unsent = false
			c.deadline.arm(c.sock) // this is a wait of the read, too
			if err := c.flushBriefly(); err != nil {
				return 0, err
			}
		case err == nil:
			return c.result()
		case errors.Is(err, os.ErrDeadlineExceeded):
			// An expired deadline returns before the callback runs: what is held has not left yet.
			// It must not leave before the check of ExpectIdle.
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

// beforeWait is called before each wait for something to read. It is false, which begins the wait.
func (c *Conn) beforeWait(fd uintptr) bool {
	if c.ackNext {
		c.ackNext = false
		acknowledge(fd)
	}
	c.deadline.arm(c.sock)
	return false
}

// readDone says whether a read that was tried is over. It also is when nothing has come and the
// peer did not take all of what is held: then the caller waits for room. Reading comes first,
// because a peer that takes nothing may be waiting until its own bytes are taken.
func (c *Conn) readDone(sent bool) bool {
	if c.errno == syscall.EAGAIN && !sent {
		c.unsent = true
		return true
	}
	return c.errno != syscall.EAGAIN
}

// Idle says whether the connection is open and has nothing to read. It costs one system call and
// does not wait; the reading goroutine calls it.
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

// ReadBy is SetReadDeadline for the reading goroutine: the poller's timer is set only before a read
// waits, not when the bytes have come already.
func (c *Conn) ReadBy(t time.Time) { c.deadline.setLazy(t) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.deadline.set(c.sock, t)
	return c.SetWriteDeadline(t)
}

// Interrupt makes the current read, or else the next one, give ErrInterrupted, until Resume. Any
// goroutine may call it.
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

// Finish is Flush and Close for a TCP socket: the FIN travels with the last bytes, which saves a
// segment.
func (c *Conn) Finish() error {
	err := c.sendBeforeFIN()
	if err == nil {
		err = c.sock.CloseWrite()
	}
	return errors.Join(err, c.sock.Close())
}

// Close sends what is held if that needs no waiting, and closes the socket. crypto/tls relies on
// that: its Close writes an alert with a write deadline in the past.
func (c *Conn) Close() error {
	c.flushOnClose()
	return c.sock.Close()
}

// Abort closes the socket without sending what is held. The peer sees a reset where SetLinger(0)
// applies to a TCP socket, so that a truncated message cannot look complete.
func (c *Conn) Abort() error {
	if tcp, ok := c.sock.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // some kernels refuse it for MPTCP: then it is a FIN
	}
	return c.sock.Close()
}
