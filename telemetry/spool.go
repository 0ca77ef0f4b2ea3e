package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/task"
)

// SpoolOptions say where lines go. Besides the destination the zero value is right.
type SpoolOptions struct {
	// "stdout" (also ""), "stderr", or a file, made with mode 0640 and appended to; a FIFO needs no
	// reader
	Destination string
	Output      Blocking // instead of Destination: an *os.File that stays the caller's

	Logger *slog.Logger // reports faults, at most once in ReportEvery; nil: not reported
	// Own, instead of Logger, is for the program's own log, which reports its own faults: it
	// returns a logger that writes to w. Faults are reported once the sink accepts lines again.
	Own     func(w io.Writer) *slog.Logger
	Dropped *Counter // lines dropped; nil: not counted
	Errors  *Counter // failed writes and reopens; nil: not counted

	FlushEvery  time.Duration // how late a line may be while the buffer is not full; 250 ms
	Wait        time.Duration // how long a line waits for room; 100 ms
	ReportEvery time.Duration // 1 minute
}

// Blocking is the part of *os.File that Output needs. Its descriptor may be blocking: the spool
// polls before it writes to a pipe, sends to a socket without waiting, and does not change the
// descriptor's flags, which other programs may share. (Another writer of the same pipe may write in
// between; then only the spool's task blocks.)
type Blocking interface{ Fd() uintptr }

const (
	bufferSize = 64 << 10
	// buffers that wait for the writer, in addition to the one being filled and the one being
	// written
	maxFull = 8
	// pollInterval is how soon a writer that waits for its sink notices that it must stop or use a
	// reopened file.
	pollInterval = 20 * time.Millisecond
	// retryInterval is the time between attempts to write to a full disk.
	retryInterval = time.Second
)

// Spool collects lines in buffers, which one task writes: when 64 KiB are full, or FlushEvery after
// the first line of a buffer. Adding a line does not wait for the sink. When the sink blocks and
// all buffers are full, lines wait until Wait has passed since that moment. Then they are dropped
// and counted, at once, until the sink accepts data again.
type Spool struct {
	o SpoolOptions

	first   chan struct{} // a line came into an empty buffer
	urgent  chan struct{} // a buffer is full, or a file was reopened
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when the writer has ended
	abort   atomic.Bool   // the writer must give up

	dropped, failed atomic.Uint64

	mu        sync.Mutex
	filling   []byte
	full      [][]byte // oldest first
	free      [][]byte
	fullSince time.Time     // when the buffers became full; zero: there is room
	room      chan struct{} // closed when there is room again; nil: no writer waits
	next      *output       // opened by Reopen, not yet in use
	closed    bool
	running   bool

	// The rest is the writer's.
	out     *output
	torn    bool // the last write ended within a line
	took    bool // the sink accepted all of the last buffer
	lastErr error
	report  reporter
}

// OpenSpool opens the destination. Nothing is written until Run (or Close).
func OpenSpool(o SpoolOptions) (*Spool, error) {
	if o.FlushEvery <= 0 {
		o.FlushEvery = 250 * time.Millisecond
	}
	if o.Wait <= 0 {
		o.Wait = 100 * time.Millisecond
	}
	if o.ReportEvery <= 0 {
		o.ReportEvery = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	out, err := o.open()
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	s := &Spool{
		o: o, out: out,
		first: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		closing: make(chan struct{}), done: make(chan struct{}),
		filling: make([]byte, 0, bufferSize),
		full:    make([][]byte, 0, maxFull), free: make([][]byte, 0, maxFull),
	}
	if o.Own != nil {
		s.o.Logger = o.Own(direct{s})
	}
	return s, nil
}

// direct writes past the buffers. Only the spool's writer may use it, between two of them.
type direct struct{ s *Spool }

func (d direct) Write(p []byte) (int, error) {
	d.s.push(p)
	return len(p), nil
}

func (o *SpoolOptions) open() (*output, error) {
	switch {
	case o.Output != nil:
		return inheritOutput(o.Output.Fd())
	case o.Destination == "" || o.Destination == "stdout":
		return inheritOutput(1)
	case o.Destination == "stderr":
		return inheritOutput(2)
	}
	return openOutput(o.Destination)
}

// isFile reports whether Reopen can open the destination again.
func (o *SpoolOptions) isFile() bool {
	return o.Output == nil && o.Destination != "" && o.Destination != "stdout" && o.Destination != "stderr"
}

// Write adds one or more whole lines; a Spool can be the writer of a slog handler. It never fails:
// lines that do not fit are dropped and counted.
func (s *Spool) Write(p []byte) (int, error) {
	s.add(p)
	return len(p), nil
}

func (s *Spool) add(line []byte) {
	var waiting time.Time
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.reserve(line) {
		if s.closed || !s.waitForRoom(&waiting) {
			s.drop(line)
			return
		}
	}
	if len(s.filling) == 0 {
		signal(s.first)
	}
	s.filling = append(s.filling, line...)
}

// reserve makes room for the line, in a new buffer if necessary. A line larger than a buffer gets a
// buffer of its own.
func (s *Spool) reserve(line []byte) bool {
	if s.closed {
		return false
	}
	if len(s.filling) == 0 || len(s.filling)+len(line) <= bufferSize {
		return true
	}
	if len(s.full) == maxFull {
		return false
	}
	s.full = append(s.full, s.filling)
	if n := len(s.free); n > 0 {
		s.filling, s.free = s.free[n-1], s.free[:n-1]
	} else {
		s.filling = make([]byte, 0, bufferSize)
	}
	signal(s.urgent)
	return true
}

// waitForRoom releases the lock until there is room, or until this line or all lines have waited
// long enough.
func (s *Spool) waitForRoom(waiting *time.Time) bool {
	now := time.Now()
	if s.fullSince.IsZero() {
		s.fullSince = now
	}
	if waiting.IsZero() {
		*waiting = now
	}
	since := s.fullSince
	if waiting.Before(since) {
		since = *waiting
	}
	left := s.o.Wait - now.Sub(since)
	if left <= 0 {
		return false
	}
	if s.room == nil {
		s.room = make(chan struct{})
	}
	room := s.room
	s.mu.Unlock()
	defer s.mu.Lock()
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-room:
	case <-timer.C:
	}
	return true
}

func (s *Spool) drop(lines []byte) {
	n := uint64(bytes.Count(lines, newline))
	s.dropped.Add(n)
	s.o.Dropped.Add(n)
}

var newline = []byte{'\n'}

// signal wakes the writer, if it has not been woken already.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Reopen opens the file again: after it was renamed, the same path is a new file. Lines go to the
// new one as soon as the current buffer is written; no line is lost or split. If it cannot be
// opened, the old one stays in use, and an error is returned. Other destinations need no reopening.
func (s *Spool) Reopen() error {
	if !s.o.isFile() {
		return nil
	}
	out, err := openOutput(s.o.Destination)
	if err != nil {
		s.o.Errors.Inc()
		return fmt.Errorf("log: reopen: %w; the file that was open stays in use", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		out.close()
		return nil
	}
	if s.next != nil {
		s.next.close()
	}
	s.next = out
	signal(s.urgent)
	return nil
}

// Close accepts no more lines and returns when the buffered ones are written. If ctx ends before
// that, the rest is dropped and counted, and the error has their number.
func (s *Spool) Close(ctx context.Context) error {
	s.markClosed()
	s.mu.Lock()
	running := s.running
	s.running = true
	s.mu.Unlock()
	stop := task.AfterDone(ctx, "log: abort", func() { s.abort.Store(true) })
	defer stop()
	before := s.dropped.Load()
	if !running {
		s.finish()
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		// The writer gives up within pollInterval, unless it hangs in a call to the kernel.
		select {
		case <-s.done:
		case <-time.After(10 * pollInterval):
			return fmt.Errorf("log: the destination blocks, lines are lost: %w", ctx.Err())
		}
	}
	if n := s.dropped.Load() - before; n > 0 {
		return errors.Join(fmt.Errorf("log: %d lines could not be written", n), s.lastErr, ctx.Err())
	}
	return nil
}

// markClosed accepts no more lines. It reports whether this call was the first.
func (s *Spool) markClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	close(s.closing)
	s.makeRoom() // no writer needs to wait any more
	return true
}

// makeRoom wakes all calls of waitForRoom. The lock is held.
func (s *Spool) makeRoom() {
	s.fullSince = time.Time{}
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}
