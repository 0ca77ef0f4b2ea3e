package listener

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Probe wakes each accept loop and waits until it has answered, or ctx ends. The loops are woken by
// a deadline in the past, as they are by a connection: by the same poller and scheduler, busy or
// idle. A loop that waits for room in the Gate answers by that. Probe waits for Serve to be called,
// and callers for one another.
func (l *Listener) Probe(ctx context.Context) error {
	l.probing.Lock()
	defer l.probing.Unlock()
	select {
	case <-l.started:
	case <-ctx.Done():
	}
	l.mu.Lock()
	serving := l.serving && !l.closed
	l.mu.Unlock()
	if !serving {
		return fmt.Errorf("listener %q: no accept loop is running", l.o.Name)
	}
	for _, s := range l.sockets {
		if s.held.Load() {
			continue
		}
		select {
		case <-s.answered: // of a probe that ended early
		default:
		}
		s.setDeadline(time.Unix(1, 0))
	}
	for _, s := range l.sockets {
		if s.held.Load() {
			continue
		}
		select {
		case <-s.answered:
		case <-ctx.Done():
			return fmt.Errorf("listener %q: %s: the accept loop does not answer", l.o.Name, s.info.Address)
		}
	}
	return nil
}

// answer answers a probe. It is false where the error is not one, or the serving ended meanwhile.
func (s *Socket) answer(ctx context.Context, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	s.setDeadline(time.Time{})
	if ctx.Err() != nil { // it may have removed another probe's deadline
		return false
	}
	s.tell()
	return true
}

func (s *Socket) tell() {
	select {
	case s.answered <- struct{}{}:
	default:
	}
}

// await waits for room in the gate, and answers probes meanwhile.
func (l *Listener) await(ctx context.Context, s *Socket) error {
	if g := l.o.Gate; g == nil || g.room() {
		return nil
	}
	s.held.Store(true)
	s.tell()
	defer s.held.Store(false)
	l.logFull()
	return l.o.Gate.await(ctx)
}

// logFull logs that accepting pauses, at most once a minute: waiting clients get no error.
func (l *Listener) logFull() {
	now := time.Now().UnixNano()
	last := l.loggedFull.Load()
	if last != 0 && now-last < int64(time.Minute) || !l.loggedFull.CompareAndSwap(last, now) {
		return
	}
	l.o.log().Warn("connection limit reached: not accepting", "listener", l.o.Name, "connections", l.o.Gate.Limit(),
		"remedy", "raise limits.connections, or the file descriptor limit of the process (RLIMIT_NOFILE, LimitNOFILE= of the unit)")
}
