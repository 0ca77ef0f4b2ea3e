package telemetry

import (
	"bytes"
	"context"
	"errors"
	"time"

	"mpgate/task"
)

// Run is the spool's writer. It returns when Close was called and everything is written, or when
// ctx ends: then it writes what it can without waiting for the sink. It runs once.
func (s *Spool) Run(ctx context.Context) error {
	s.mu.Lock()
	running, closed := s.running, s.closed
	s.running = true
	s.mu.Unlock()
	switch {
	case closed && running:
		return nil // Close was called before and has written everything
	case running:
		return errors.New("log: the writer is already running")
	}
	flush := time.NewTimer(s.o.FlushEvery)
	defer flush.Stop()
	for s.wait(ctx, flush) {
		task.Call("log: writer", s.drain)
	}
	if s.markClosed() {
		s.abort.Store(true) // ctx ended without a deadline for the rest
	}
	s.finish()
	return nil
}

// wait returns true when there is something to write, and false when the writer must end.
func (s *Spool) wait(ctx context.Context, flush *time.Timer) bool {
	for waiting := true; waiting; {
		select {
		case <-s.first:
			waiting = false
		case <-s.urgent:
			return true
		case <-s.report.due():
			s.report.send(s)
		case <-s.closing:
			return false
		case <-ctx.Done():
			return false
		}
	}
	flush.Reset(s.o.FlushEvery)
	select {
	case <-flush.C:
	case <-s.urgent:
	case <-s.closing:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

// drain writes all buffered lines.
func (s *Spool) drain() {
	s.swap()
	for {
		buf := s.take()
		if buf == nil {
			break
		}
		s.writeOne(buf)
	}
	if s.o.Own != nil && s.took {
		s.report.note(s)
	}
}

// writeOne writes one buffer. If that panics, the buffer is lost.
func (s *Spool) writeOne(buf []byte) {
	written := false
	defer func() {
		if !written {
			s.drop(buf)
		}
		s.recycle(buf)
	}()
	s.write(buf)
	written = true
}

// finish writes what is left and closes the sink.
func (s *Spool) finish() {
	defer close(s.done)
	defer s.out.close()
	task.Call("log: writer", s.drain)
	s.swap()
	if s.o.Own == nil || s.took {
		s.report.send(s)
	}
	s.report.stop()
}

func (s *Spool) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.full) > 0 {
		buf := s.full[0]
		copy(s.full, s.full[1:])
		s.full = s.full[:len(s.full)-1]
		return buf
	}
	if len(s.filling) == 0 {
		return nil
	}
	buf := s.filling
	s.filling = nil
	if n := len(s.free); n > 0 {
		s.filling, s.free = s.free[n-1], s.free[:n-1]
	} else {
		s.filling = make([]byte, 0, bufferSize)
	}
	return buf
}

// recycle keeps every buffer for later: together they have at most half a MiB.
func (s *Spool) recycle(buf []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(buf) == bufferSize && len(s.free) < cap(s.free) {
		s.free = append(s.free, buf[:0])
	}
	s.makeRoom()
}

// write writes the whole buffer, unless the sink fails permanently or the spool must give up. A
// line that was written in part before is ended first.
func (s *Spool) write(buf []byte) {
	if !s.torn || len(s.push(newline)) == 0 {
		buf = s.push(buf)
	}
	if s.took = len(buf) == 0; !s.took {
		s.drop(buf)
		s.noteFault()
	}
}

// noteFault reports drops and failures, unless the report would go to the failing sink.
func (s *Spool) noteFault() {
	if s.o.Own == nil {
		s.report.note(s)
	}
}

// push returns what it could not write.
func (s *Spool) push(buf []byte) (rest []byte) {
	for len(buf) > 0 {
		n, err := s.out.write(buf)
		if n > 0 {
			s.torn = buf[n-1] != '\n'
			buf = buf[n:]
		}
		if err == nil {
			continue
		}
		again, pause := s.out.retry(err)
		if !again || pause > 0 {
			s.fail(err)
		}
		if s.abort.Load() || !again || (pause > 0 && s.isClosing()) {
			return buf
		}
		s.pause(pause)
		buf = s.swapWithin(buf)
	}
	return nil
}

// pause waits until the sink accepts data, or for d if that cannot be polled.
func (s *Spool) pause(d time.Duration) {
	s.noteFault()
	if d == 0 {
		s.out.wait(pollInterval)
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.closing:
	case <-s.urgent: // perhaps a new file
		signal(s.urgent)
		s.mu.Lock()
		swap := s.next != nil
		s.mu.Unlock()
		if !swap {
			select {
			case <-timer.C:
			case <-s.closing:
			}
		}
	}
}

func (s *Spool) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

func (s *Spool) fail(err error) {
	s.lastErr = err
	s.failed.Add(1)
	s.o.Errors.Inc()
}

// swap starts using a reopened file, and reports whether there was one.
func (s *Spool) swap() bool {
	s.mu.Lock()
	next := s.next
	s.next = nil
	s.mu.Unlock()
	if next == nil {
		return false
	}
	s.out.close()
	s.out, s.torn = next, false
	return true
}

// swapWithin is swap in the middle of a buffer, for a sink that blocks. A line that the old file
// has in part is not continued in the new one.
func (s *Spool) swapWithin(buf []byte) []byte {
	torn := s.torn
	if !s.swap() || !torn {
		return buf
	}
	if len(buf) == 1 { // only its newline was missing
		return nil
	}
	end := bytes.IndexByte(buf, '\n') + 1
	s.drop(buf[:end])
	return buf[end:]
}

// reporter logs drops and failures: the first at once, further ones once in ReportEvery.
type reporter struct {
	dropped, failed uint64 // told
	last            time.Time
	timer           *time.Timer
}

// due fires when a delayed report may be logged.
func (r *reporter) due() <-chan time.Time {
	if r.timer == nil {
		return nil
	}
	return r.timer.C
}

// note logs what is new if ReportEvery has passed; otherwise it schedules the report.
func (r *reporter) note(s *Spool) {
	if r.dropped == s.dropped.Load() && r.failed == s.failed.Load() {
		return
	}
	if left := s.o.ReportEvery - time.Since(r.last); !r.last.IsZero() && left > 0 {
		if r.timer == nil {
			r.timer = time.NewTimer(left)
		}
		return
	}
	r.send(s)
}

func (r *reporter) send(s *Spool) {
	r.stop()
	dropped, failed := s.dropped.Load(), s.failed.Load()
	if r.dropped == dropped && r.failed == failed {
		return
	}
	args := []any{"destination", s.destination(), "dropped", dropped - r.dropped, "failures", failed - r.failed}
	if failed > r.failed && s.lastErr != nil {
		args = append(args, "err", s.lastErr)
	}
	r.dropped, r.failed, r.last = dropped, failed, time.Now()
	if s.o.Own != nil {
		s.o.Logger.Warn("log lines dropped: standard error blocked", args...)
		return
	}
	s.o.Logger.Warn("cannot write the access log: its destination blocks or fails", args...)
}

func (r *reporter) stop() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

func (s *Spool) destination() string {
	switch {
	case s.o.Output != nil:
		return "an open file"
	case s.o.Destination == "":
		return "stdout"
	}
	return s.o.Destination
}
