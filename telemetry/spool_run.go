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
		return nil // Close came first and has seen to it
	case running:
		return errors.New("log: its writer runs already")
	}
	flush := time.NewTimer(s.o.FlushEvery)
	defer flush.Stop()
	for s.wait(ctx, flush) {
		task.Call("log: writer", s.drain)
	}
	if s.shut() {
		s.abort.Store(true) // ctx ended, and nobody has said how long to wait
	}
	s.finish()
	return nil
}

// wait returns true when there is something to write, and false when the writer is to end.
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

// drain writes all that has gathered.
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

// writeOne writes one buffer. It is lost where that panics.
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

// recycle keeps every buffer: a load that needed them once will again, and they are half a MiB at
// most.
func (s *Spool) recycle(buf []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(buf) == bufferSize && len(s.free) < cap(s.free) {
		s.free = append(s.free, buf[:0])
	}
	s.makeRoom()
}

// write writes the buffer whole, unless the sink fails for good or the spool is to give up. What
// broke off before becomes a line of its own.
func (s *Spool) write(buf []byte) {
	if !s.torn || len(s.push(newline)) == 0 {
		buf = s.push(buf)
	}
	if s.took = len(buf) == 0; !s.took {
		s.drop(buf)
		s.noteFault()
	}
}

// noteFault reports what has gone wrong, unless that would be to the sink that does not work.
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

// pause waits for a sink that takes nothing now: until it does, or for d where only trying tells.
func (s *Spool) pause(d time.Duration) {
	s.noteFault()
	if d == 0 {
		s.out.wait(lookEvery)
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

// swap puts a reopened file into use, and says whether it did.
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

// swapWithin is swap in the middle of a buffer, which only a sink that blocks makes necessary. The
// line that the old one has in part is not continued in the new one.
func (s *Spool) swapWithin(buf []byte) []byte {
	torn := s.torn
	if !s.swap() || !torn {
		return buf
	}
	if len(buf) == 1 { // nothing but its newline was missing
		return nil
	}
	end := bytes.IndexByte(buf, '\n') + 1
	s.drop(buf[:end])
	return buf[end:]
}

// reporter tells the program's log of drops and failures: the first at once, more once in
// ReportEvery.
type reporter struct {
	dropped, failed uint64 // told
	last            time.Time
	timer           *time.Timer
}

// due fires when something that was held back may be told.
func (r *reporter) due() <-chan time.Time {
	if r.timer == nil {
		return nil
	}
	return r.timer.C
}

// note tells what is new if it is time, or else sees to it that it is told later.
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
