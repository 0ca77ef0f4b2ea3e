package netio

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// pipeSize is what one step can move. Each page of it holds a fragment of what came from the
// socket.
const pipeSize = 256 << 10

const (
	spliceNonblock = 2    // SPLICE_F_NONBLOCK
	setPipeSize    = 1031 // F_SETPIPE_SZ
)

// pipe carries bytes inside the kernel. It is empty while it is in the pool.
type pipe struct{ r, w int }

// pipes are kept for the next splice. Their number is limited, since each takes two descriptors,
// which connections need more: bodies beyond that are copied.
var (
	pipes     = make(chan *pipe, maxPipes(descriptors()))
	pipesMade atomic.Int64
)

var errNoPipe = errors.New("netio: all pipes are in use")

// maxPipes is how many pipes there may be: they take an eighth of the descriptors, and 128 at
// most.
func maxPipes(descriptors uint64) int { return int(min(descriptors/16, 64)) }

func descriptors() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return r.Cur
}

func takePipe() (*pipe, error) {
	select {
	case p := <-pipes:
		return p, nil
	default:
	}
	if pipesMade.Add(1) > int64(cap(pipes)) {
		pipesMade.Add(-1)
		return nil, errNoPipe
	}
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		pipesMade.Add(-1)
		return nil, err
	}
	// The default of 64 KiB works too; the larger size may be refused beyond a user's share.
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[1]), setPipeSize, pipeSize)
	return &pipe{fds[0], fds[1]}, nil
}

// release puts the pipe back, or closes it if it is dirty, which means that it is not empty.
func (p *pipe) release(dirty bool) {
	if !dirty {
		pipes <- p // there is room for all
		return
	}
	_ = syscall.Close(p.r)
	_ = syscall.Close(p.w)
	pipesMade.Add(-1)
}

// spliceInput is the state of a splice, stored with the Conn at either end because its callbacks
// must not allocate.
type spliceInput struct {
	pipe   *pipe
	want   int64
	n      int64
	errno  syscall.Errno
	noWait bool
	inFn   func(fd uintptr) bool
	outFn  func(fd uintptr) bool
}

// CanSplice says whether bytes can be moved between the two inside the kernel: both use plain TCP.
// On MPTCP sockets the kernel (6.18) copies anyway and it costs more.
func CanSplice(a, b *Conn) bool { return a.spliceable() && b.spliceable() }

// errReadAhead: what Unread returned comes before what the socket brings, and cannot be spliced.
var errReadAhead = errors.New("netio: bytes that were read ahead cannot be spliced")

func (c *Conn) spliceable() bool {
	if c.protocol == 0 {
		c.protocol = -1
		_ = c.raw.Control(func(fd uintptr) {
			const soProtocol = 38
			if p, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, soProtocol); err == nil {
				c.protocol = p
			}
		})
		if c.protocol == 0 {
			c.protocol = -1 // a unix socket
		}
	}
	return c.protocol == syscall.IPPROTO_TCP
}

// Splice moves up to n bytes from src to dst, after what dst holds. It returns when all have moved,
// when src has nothing more and wait is false or something has moved, or with an error: a
// *SpliceError (io.EOF if src has ended), or another one, with nothing moved, if no splice is
// possible. With wait it may wait for the first bytes, until the read deadline of src; waited is
// how long that took.
func Splice(dst, src *Conn, n int64, wait bool) (moved int64, waited time.Duration, err error) {
	if src.ahead.Len() > 0 {
		return 0, 0, errReadAhead
	}
	if err := dst.Flush(); err != nil {
		return 0, 0, &SpliceError{Err: err}
	}
	p, err := takePipe()
	if err != nil {
		return 0, 0, err
	}
	dirty := false
	defer func() { p.release(dirty) }()
	since := time.Now()
	for moved < n {
		k, err := src.spliceIn(p, n-moved, !wait || moved > 0)
		if moved == 0 {
			waited = time.Since(since)
		}
		if err != nil {
			if errors.Is(err, ErrAgain) {
				return moved, waited, nil
			}
			return moved, waited, &SpliceError{Reading: true, Err: err}
		}
		if err := dst.spliceOut(p, k); err != nil {
			dirty = true
			return moved, waited, &SpliceError{Err: err}
		}
		moved += k
	}
	return moved, waited, nil
}

// spliceSteps is the state of a splice with its callbacks.
func (c *Conn) spliceSteps() *spliceInput {
	s := &c.splice
	if s.inFn == nil {
		s.inFn, s.outFn = c.spliceInStep, c.spliceOutStep
	}
	return s
}

// spliceIn moves up to n bytes from the socket to the pipe.
func (c *Conn) spliceIn(p *pipe, n int64, noWait bool) (int64, error) {
	s := c.spliceSteps()
	s.pipe, s.want, s.noWait = p, n, noWait
	for {
		err := c.raw.Read(s.inFn)
		switch {
		case err == nil && s.errno == 0 && s.n == 0:
			return 0, io.EOF
		case err == nil && s.errno == syscall.EAGAIN:
			return 0, ErrAgain
		case err == nil && s.errno != 0:
			return 0, os.NewSyscallError("splice", s.errno)
		case err == nil:
			return s.n, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case c.deadline.interrupted.Load():
			return 0, ErrInterrupted
		case c.deadline.expired(c.sock):
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (c *Conn) spliceInStep(fd uintptr) bool {
	s := &c.splice
	s.n, s.errno = sysSplice(int(fd), s.pipe.w, min(s.want, pipeSize))
	return s.errno != syscall.EAGAIN || s.noWait || c.beforeWait(fd)
}

// spliceOut sends what is in the pipe. It keeps the pace and the deadline as a write does.
func (c *Conn) spliceOut(p *pipe, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.spliceSteps()
	c.out.pipe, c.out.want = p, n
	armed := false
	for c.werr == nil && c.out.want > 0 {
		var since time.Time
		if c.blocked {
			since = time.Now()
			c.armWrite(since, 0)
			armed = true
		}
		c.out.moved = 0
		err := c.raw.Write(s.outFn)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.writeDeadlinePassed():
			c.setWriteErr(c.pace.Wait(time.Since(since), int(c.out.moved)))
		case err != nil:
			c.setWriteErr(err)
		case armed:
			c.setWriteErr(c.pace.Wait(time.Since(since), int(c.out.moved)))
		}
	}
	c.blocked = false
	if armed {
		c.armWrite(time.Time{}, 0)
	}
	c.out.pipe = nil
	return c.werr
}

func (c *Conn) spliceOutStep(fd uintptr) bool {
	for c.out.want > 0 {
		n, errno := sysSplice(c.out.pipe.r, int(fd), c.out.want)
		switch {
		case errno == syscall.EAGAIN:
			wait := c.blocked && c.out.moved == 0
			c.blocked = true
			return !wait
		case errno != 0:
			c.werr = os.NewSyscallError("splice", errno)
			return true
		}
		c.out.want -= n
		c.out.moved += n
	}
	return true
}

// spliceOutput is the write side of a splice; the write lock guards it.
type spliceOutput struct {
	pipe  *pipe
	want  int64
	moved int64
}
