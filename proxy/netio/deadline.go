package netio

import (
	"sync"
	"sync/atomic"
	"time"
)

// lazyDeadline keeps the poller's timer at or before the requested deadline. Moving that further
// away is a store; when the timer then fires early it is set again. The zero value has no deadline.
type lazyDeadline struct {
	want  atomic.Int64 // since epoch; 0 is never
	armed atomic.Int64 // what the poller's timer is set to; 0 is not at all
	mu    sync.Mutex   // held while the timer is set

	// interrupted keeps the timer in the past, whatever the deadline. It is written with mu held,
	// so that setting the timer at the same time does not undo an interruption.
	interrupted atomic.Bool
}

type deadliner interface{ SetReadDeadline(time.Time) error }

// epoch makes deadlines monotonic numbers. It lies a second in the past, so that no deadline is 0.
var epoch = time.Now().Add(-time.Second)

var past = time.Unix(1, 0)

func (d *lazyDeadline) set(s deadliner, t time.Time) {
	d.setLazy(t)
	d.arm(s)
}

// setLazy sets the deadline but not the timer: arm must follow before a wait.
func (d *lazyDeadline) setLazy(t time.Time) {
	want := int64(0)
	if !t.IsZero() {
		want = max(1, int64(t.Sub(epoch)))
	}
	d.want.Store(want)
}

// arm sets the timer if it would fire after the deadline.
func (d *lazyDeadline) arm(s deadliner) {
	want := d.want.Load()
	if armed := d.armed.Load(); want != 0 && (armed == 0 || want < armed) {
		d.rearm(s)
	}
}

// expired says, when the poller's timer has fired, whether the deadline has passed. If not, it sets
// the timer to the deadline.
func (d *lazyDeadline) expired(s deadliner) bool {
	want := d.want.Load()
	if want != 0 && int64(time.Since(epoch)) >= want {
		return true
	}
	d.rearm(s)
	return false
}

func (d *lazyDeadline) rearm(s deadliner) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.interrupted.Load() {
		d.setTimer(s)
	}
}

// setTimer sets the timer to the deadline; d.mu is held.
func (d *lazyDeadline) setTimer(s deadliner) {
	want := d.want.Load()
	d.armed.Store(want)
	if want == 0 {
		_ = s.SetReadDeadline(time.Time{}) // fails only on a closed socket, as will the read
		return
	}
	_ = s.SetReadDeadline(epoch.Add(time.Duration(want)))
}

// interrupt fires the timer now and until resume, whatever the deadline.
func (d *lazyDeadline) interrupt(s deadliner) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.interrupted.Store(true)
	d.armed.Store(1)
	_ = s.SetReadDeadline(past)
}

func (d *lazyDeadline) resume(s deadliner) {
	if !d.interrupted.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.interrupted.Store(false)
	d.setTimer(s)
}
