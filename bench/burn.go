//go:build linux

package main

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// burner wastes known amounts of CPU time. It counts steps that it timed once: reading a clock
// while it burns would cost system calls, and a thread's clock is of no use to a goroutine that
// moves between threads.
type burner struct {
	perStep float64 // nanoseconds
	state   atomic.Uint64
}

func newBurner() *burner {
	b := &burner{}
	b.state.Store(88172645463325252)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const steps = 2_000_000
	start := threadCPU()
	b.steps(steps)
	b.perStep = float64(threadCPU()-start) / steps
	return b
}

// burn uses about d of CPU time.
func (b *burner) burn(d time.Duration) { b.steps(int(float64(d) / b.perStep)) }

// steps does arithmetic of which each step needs the one before; its result is kept, so that no
// compiler drops it.
func (b *burner) steps(n int) {
	x := b.state.Load()
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	b.state.Store(x)
}

func threadCPU() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}
