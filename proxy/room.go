package proxy

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/proxy/backend"
	"mpgate/telemetry"
)

// Room limits the exchanges in progress by the free memory; others are answered with 503. The zero
// value and nil have no limit.
type Room struct {
	// Free returns how many bytes the process may still allocate; nil: no limit.
	Free func() int64
	// Cost is the memory of a new exchange that Free does not show yet, in bytes: the buffers of
	// both sides, the stacks of its goroutines, and the kernel's buffers; 96 KiB.
	Cost int64

	inFlight atomic.Int64
	limit    atomic.Int64 // of exchanges in progress, until the next check
	known    atomic.Bool  // limit is valid

	mu      sync.Mutex // guards what follows
	checked time.Time
	low     [2]int64 // fewest exchanges in progress in this period and the one before
	period  time.Time
}

const (
	// exchangeCost was measured: a response that is not read takes 37 KiB, one from an HTTP/2
	// server 80 KiB.
	exchangeCost = 96 << 10
	// settledPart: one of so many old exchanges may need its cost again, for its response.
	settledPart = 4
	// settleTime is after what time Free shows most of an exchange's memory.
	settleTime = 500 * time.Millisecond
	// maxCheckAge is the age up to which a check may refuse an exchange.
	maxCheckAge = time.Millisecond
	// renewInterval is the time between checks while no exchange is refused.
	renewInterval = 100 * time.Millisecond
)

var errNoRoom = &backend.ShortError{Of: telemetry.ShortMemory, Err: errors.New("the memory limit is nearly reached")}

// acquire begins an exchange, which release ends. It returns false if the memory does not suffice.
func (r *Room) acquire() bool {
	if r == nil || r.Free == nil {
		return true
	}
	n := r.inFlight.Add(1)
	if r.known.Load() && n <= r.limit.Load() || r.check(time.Now(), maxCheckAge, n) {
		return true
	}
	r.release()
	return false
}

func (r *Room) release() {
	if r != nil && r.Free != nil {
		r.inFlight.Add(-1)
	}
}

// check reads the free memory, unless the last check is younger than age, and reports whether n
// exchanges may be in progress.
func (r *Room) check(now time.Time, age time.Duration, n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.checked) < age {
		return n <= r.limit.Load()
	}
	r.checked = now
	f := r.inFlight.Load()
	switch since := now.Sub(r.period); {
	case since >= 2*settleTime: // no check for long: all exchanges may be new
		r.low, r.period = [2]int64{0, 0}, now
	case since >= settleTime:
		r.low[0], r.low[1], r.period = f, r.low[0], now
	}
	r.low[0] = min(r.low[0], f)
	settled := min(r.low[0], r.low[1])
	free := r.Free()
	if free == math.MaxInt64 {
		r.limit.Store(free)
	} else {
		cost := r.Cost
		if cost == 0 {
			cost = exchangeCost
		}
		free -= (f-settled)*cost + settled*cost/settledPart
		r.limit.Store(f + free/cost)
	}
	r.known.Store(true)
	return n <= r.limit.Load()
}

// Renew checks the memory. It must be called several times a second.
func (r *Room) Renew(now time.Time) { r.check(now, renewInterval/2, 0) }
