package http2

import "time"

// waiter is where one goroutine waits for its stream. Spurious wake-ups are possible: the goroutine
// checks again.
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

// wait returns true when it is woken, or false after d. A d of zero or less has no end.
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
