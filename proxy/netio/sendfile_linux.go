package netio

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
)

// sendfileMost bounds one system call, in which the file may have to be read from a disk.
const sendfileMost = 1 << 20

// CanSendFile says whether the kernel sends files on the connection without copying them to this
// process and back: it uses plain TCP.
func CanSendFile(c *Conn) bool { return c.spliceable() }

// SendFile sends n bytes of f, which begin at an offset, after what is held. It keeps the pace and
// the deadline as a write does. If f ends before, the error is io.ErrUnexpectedEOF. f must stay
// open meanwhile.
func (c *Conn) SendFile(f *os.File, offset, n int64) (sent int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.file
	if s == nil {
		s = &fileSender{c: c}
		s.stepFn = s.step
		c.file = s
	}
	s.file, s.offset, s.left, s.fault = int(f.Fd()), offset, n, nil
	s.send()
	runtime.KeepAlive(f)
	if err = s.fault; err == nil {
		err = c.werr
	}
	return s.offset - offset, err
}

// fileSender is the state of a SendFile; the write lock of the connection guards it. A connection
// that has sent a file keeps it, because its callback must not allocate.
type fileSender struct {
	c            *Conn
	stepFn       func(fd uintptr) bool
	file         int
	offset, left int64
	moved        int
	fault        error // of the file
}

func (s *fileSender) send() {
	c := s.c
	if len(c.held) > 0 && c.werr == nil {
		c.finNext = true // more follows at once
		_ = c.send(nil)
		c.finNext = false
	}
	armed := false
	for c.werr == nil && s.fault == nil && s.left > 0 {
		var since time.Time
		if c.blocked {
			since = time.Now()
			c.armWrite(since, 0)
			armed = true
		}
		s.moved = 0
		err := c.raw.Write(s.stepFn)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.writeDeadlinePassed():
			c.armWrite(time.Time{}, 0)
			c.blocked = false // what fits now is what a slow peer took, see wait
			if err = c.raw.Write(s.stepFn); err == nil {
				err = c.pace.Wait(time.Since(since), s.moved)
			}
			c.setWriteErr(err)
		case err != nil:
			c.setWriteErr(err)
		case armed && !since.IsZero():
			c.setWriteErr(c.pace.Wait(time.Since(since), s.moved))
		}
	}
	c.blocked = false
	if armed {
		c.armWrite(time.Time{}, 0)
	}
}

// step runs inside RawConn.Write, as writeStep does.
func (s *fileSender) step(fd uintptr) bool {
	c := s.c
	for s.left > 0 {
		offset := s.offset
		n, err := syscall.Sendfile(int(fd), s.file, &offset, int(min(s.left, sendfileMost)))
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			wait := c.blocked && s.moved == 0
			c.blocked = true
			return !wait
		case err == syscall.EIO:
			s.fault = os.NewSyscallError("sendfile", err)
			return true
		case err != nil:
			c.werr = os.NewSyscallError("sendfile", err)
			return true
		case n == 0:
			s.fault = io.ErrUnexpectedEOF
			return true
		}
		s.offset += int64(n)
		s.left -= int64(n)
		s.moved += n
	}
	return true
}
