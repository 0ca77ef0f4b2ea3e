package listener

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Gate limits how many connections there are at a time, for all listeners that share it. At the
// limit, accepting pauses and clients wait in the kernel's queue, without polling. Below it, a
// connection costs one atomic operation to enter and one to leave. The zero value and a nil Gate
// have no limit.
type Gate struct {
	// Full, if set before the gate is used, is called when a caller starts to wait, and each second
	// while it waits. It may make room, and must not block.
	Full func() `json:"-"`

	limit   atomic.Int64
	inside  atomic.Int64
	waiting atomic.Int64

	mu   sync.Mutex
	wake chan struct{} // closed and replaced when there is room; nil: no caller waits
}

// NewGate makes a gate; limit 0 means none.
func NewGate(limit int) *Gate {
	g := new(Gate)
	g.limit.Store(int64(limit))
	return g
}

// SetLimit changes the limit, also while connections are inside. A lower one
// ends none of them.
func (g *Gate) SetLimit(limit int) {
	g.limit.Store(int64(limit))
	g.wakeAll()
}

// Limit returns the limit, or 0 if there is none.
func (g *Gate) Limit() int {
	if g == nil {
		return 0
	}
	return int(g.limit.Load())
}

// Inside counts the connections now.
func (g *Gate) Inside() int {
	if g == nil {
		return 0
	}
	return int(g.inside.Load())
}

// Enter takes a place, and waits for one while the gate is full. It fails only
// with the context's error.
func (g *Gate) Enter(ctx context.Context) error {
	if g == nil || g.tryEnter() {
		return nil
	}
	return g.block(ctx, g.tryEnter)
}

// Leave releases a place.
func (g *Gate) Leave() {
	if g == nil {
		return
	}
	if g.inside.Add(-1) < 0 {
		panic("listener: Gate.Leave without Enter")
	}
	if g.waiting.Load() > 0 {
		g.wakeAll()
	}
}

// force takes a place beyond the limit.
func (g *Gate) force() { g.inside.Add(1) }

// await returns when there is room, and does not take it.
func (g *Gate) await(ctx context.Context) error {
	if g == nil || g.room() {
		return nil
	}
	return g.block(ctx, g.room)
}

func (g *Gate) room() bool {
	l := g.limit.Load()
	return l <= 0 || g.inside.Load() < l
}

func (g *Gate) tryEnter() bool {
	for {
		n := g.inside.Load()
		if l := g.limit.Load(); l > 0 && n >= l {
			return false
		}
		if g.inside.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// block waits until try succeeds. No wake-up is lost: waiting is raised before
// try looks, and Leave makes room before it looks at waiting. All are woken,
// since one that only awaits room does not use it up.
func (g *Gate) block(ctx context.Context, try func() bool) error {
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	var again <-chan time.Time
	if g.Full != nil {
		g.Full()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		again = tick.C
	}
	for {
		g.mu.Lock()
		if g.wake == nil {
			g.wake = make(chan struct{})
		}
		woken := g.wake
		g.mu.Unlock()
		if try() {
			return nil
		}
		select {
		case <-woken:
		case <-again:
			g.Full()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *Gate) wakeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wake != nil {
		close(g.wake)
		g.wake = nil
	}
}
