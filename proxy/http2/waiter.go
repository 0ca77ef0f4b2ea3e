package http2

import "time"

// waiter is where one goroutine waits for its stream to move on. It is woken spuriously at times:
// whoever waits looks again.
type waiter struct {
	ch    chan struct{}
	timer *time.Timer
}

func newWaiter() waiter { return waiter{ch: make(chan struct{}, 1)} }

func (w *waiter) wake() {
	select {
	case w.ch <- struct{}{}:
	default: // it is awake already
	}
}

// wait returns once it is woken, true, or after d, false. A d of zero or less is without end.
func (w *waiter) wait(d time.Duration) bool {
	if d <= 0 {
		<-w.ch
		return true
	}
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	select {
	case <-w.ch:
		w.timer.Stop()
		return true
	case <-w.timer.C:
		return false
	}
}
