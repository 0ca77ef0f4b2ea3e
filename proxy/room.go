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

// Room bounds the exchanges under way by the memory that is left: what finds no room is answered
// with 503. The zero value and nil have no bound.
type Room struct {
	// Free says how many bytes the process may still take before it is short of memory, now; nil:
	// as many as it likes.
	Free func() int64
	// Cost is what an exchange may take that has begun and whose memory does not show yet: the
	// buffers of both sides, the stacks of its goroutines, and what Free sees of the kernel's
	// buffers; 96 KiB.
	Cost int64

	inFlight atomic.Int64
	limit    atomic.Int64 // exchanges that may be under way until the memory is looked at again
	known    atomic.Bool  // most is

	mu      sync.Mutex // guards what follows
	checked time.Time
	low     [2]int64 // least exchanges under way in this period and the one before
	period  time.Time
}

const (
	// exchangeCost was measured: an answer that is not read takes 37 KiB, one from a server of
	// HTTP/2 80 KiB.
	exchangeCost = 96 << 10
	// settledPart: one in so many exchanges whose memory shows may come to take as much again, when
	// its answer comes.
	settledPart = 4
	// settleTime is how long after its beginning most of what an exchange takes shows.
	settleTime = 500 * time.Millisecond
	// maxCheckAge is how old a look at the memory may be that an exchange is refused by.
	maxCheckAge = time.Millisecond
	// renewInterval is how often the memory is looked at where nobody is refused.
	renewInterval = 100 * time.Millisecond
)

var errNoRoom = &backend.ShortError{Of: telemetry.ShortMemory, Err: errors.New("the memory limit is nearly reached")}

// acquire begins an exchange, which leave ends; false: there is no room for it.
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

// check looks at the memory, unless that was done within the given time, and says whether n
// exchanges may be under way.
func (r *Room) check(now time.Time, age time.Duration, n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.checked) < age {
		return n <= r.limit.Load()
	}
	r.checked = now
	f := r.inFlight.Load()
	switch since := now.Sub(r.period); {
	case since >= 2*settleTime: // nobody looked: what there is may all be new
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

// Renew looks at the memory once more. It must be called some times a second.
func (r *Room) Renew(now time.Time) { r.check(now, renewInterval/2, 0) }
