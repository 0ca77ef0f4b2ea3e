package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// output is a file descriptor that lines are written to without blocking on it. It does not go by
// os.File: for an inherited descriptor that has no deadlines, its Write on a broken stdout ends
// the program, and making stdout non-blocking would change it for every program that shares it.
type output struct {
	fd    int
	name  string
	kind  outputKind
	owned bool
}

type outputKind uint8

const (
	outputFile   outputKind = iota // never blocks for long
	outputPipe                     // pipe, FIFO, terminal: ask by poll, then write what fits for certain
	outputSocket                   // journald's stdout: send without waiting
)

// inheritOutput uses a descriptor that stays somebody else's. Where it can be reopened, as pipes
// and terminals can unless they are another user's, it is, so as not to block: between the question
// whether there is room and the write, another writer may take it.
func inheritOutput(fd uintptr) (*output, error) {
	o := &output{fd: int(fd), name: fmt.Sprintf("file descriptor %d", fd)}
	if err := o.inspect(); err != nil || o.kind != outputPipe {
		return o, err
	}
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK
	if own, err := openRetry(fmt.Sprintf("/proc/self/fd/%d", fd), flags); err == nil {
		o.fd, o.owned = own, true
	}
	return o, nil
}

// openOutput opens or makes a file to append to. A FIFO is opened for reading as well: so neither
// opening nor writing needs a reader, and one that restarts finds what was written meanwhile.
func openOutput(path string) (*output, error) {
	const flags = unix.O_APPEND | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK
	fd, err := openRetry(path, unix.O_WRONLY|unix.O_CREAT|flags)
	if err == unix.ENXIO {
		fd, err = openRetry(path, unix.O_RDWR|flags)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	o := &output{fd: fd, name: path, owned: true}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
		if rw, err := openRetry(path, unix.O_RDWR|flags); err == nil {
			unix.Close(fd)
			o.fd = rw
		}
	}
	if err := o.inspect(); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func openRetry(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags, 0o640)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (o *output) inspect() error {
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: o.name, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		o.kind = outputFile
	case unix.S_IFSOCK:
		o.kind = outputSocket
	default:
		o.kind = outputPipe
	}
	return nil
}

// write writes what it can of whole lines now. The error says why it was not all.
func (o *output) write(b []byte) (int, error) {
	switch o.kind {
	case outputSocket:
		return o.done(unix.SendmsgN(o.fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL))
	case outputPipe:
		if !o.wait(0) {
			return 0, unix.EAGAIN
		}
		return o.done(unix.Write(o.fd, atomicPiece(b)))
	}
	return o.done(unix.Write(o.fd, b))
}

func (o *output) done(n int, err error) (int, error) {
	if err == unix.EINTR {
		err = nil
	}
	return max(n, 0), err
}

// pipeBuf is PIPE_BUF: a pipe that polls writable takes this much without blocking, and in one
// piece.
const pipeBuf = 4096

// atomicPiece cuts off what can be written at once: whole lines where that is possible.
func atomicPiece(b []byte) []byte {
	if len(b) <= pipeBuf {
		return b
	}
	if end := bytes.LastIndexByte(b[:pipeBuf], '\n'); end >= 0 {
		return b[:end+1]
	}
	return b[:pipeBuf]
}

// wait returns true as soon as something can be written, or false after d.
func (o *output) wait(d time.Duration) bool {
	p := []unix.PollFd{{Fd: int32(o.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, int(d/time.Millisecond))
	// POLLERR (no reader) counts: the write says what is wrong.
	return n > 0 && err == nil
}

// retry says whether a write that failed is worth another try, and after what pause; 0: as soon as
// wait says so.
func (o *output) retry(err error) (again bool, pause time.Duration) {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return true, 0
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return true, retryEvery // somebody will make room
	}
	return false, 0
}

func (o *output) close() {
	if o.owned {
		unix.Close(o.fd)
	}
}
