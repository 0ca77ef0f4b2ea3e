package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// output is a file descriptor that lines are written to without blocking. It does not use os.File,
// which has no deadlines for an inherited descriptor, and whose Write ends the program if stdout is
// broken. Making stdout non-blocking would change it for every program that shares it.
type output struct {
	fd    int
	name  string
	kind  outputKind
	owned bool
}

type outputKind uint8

const (
	outputFile   outputKind = iota // never blocks for long
	outputPipe                     // pipe, FIFO, terminal: poll, then write what certainly fits
	outputSocket                   // journald's stdout: send without waiting
)

// inheritOutput uses a descriptor that it does not own. It reopens it if possible (pipes and
// terminals of the same user) in non-blocking mode, because another writer may fill the pipe
// between poll and write.
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

// openOutput opens or creates a file to append to. A FIFO is opened for reading too: opening and
// writing then need no reader, and a reader that restarts finds what was written meanwhile.
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

// write writes as many whole lines as it can without waiting. The error is why it did not write all
// of them.
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
	// POLLERR (no reader) counts: the write returns the error.
	return n > 0 && err == nil
}

// retry reports whether a failed write should be tried again, and after what pause; 0: as soon as
// wait returns true.
func (o *output) retry(err error) (again bool, pause time.Duration) {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return true, 0
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return true, retryInterval // a full disk: try again later
	}
	return false, 0
}

func (o *output) close() {
	if o.owned {
		unix.Close(o.fd)
	}
}
