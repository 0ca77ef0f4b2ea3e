package netio

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// Pace bounds the slowness of a peer without an absolute deadline: in each Window spent waiting for
// it, it must move MinRate bytes a second on average, and at least one. The zero value bounds
// nothing. Only time spent waiting counts, so a slow source is not blamed on its receiver.
//
// When an exchange moves in both directions at once, silence in one of them is not an error while
// the other one moves: a client may only listen to a stream of events, and a server may only
// receive an upload. Slowness is not an error either once the opposite direction has begun: a
// client that listens to a response may send a few bytes now and then. An opposite direction that
// is itself too slow because of the same peer does not count: a client that takes and sends almost
// nothing could hold an exchange for ever.
type Pace struct {
	Window  time.Duration
	MinRate int64 // bytes a second
	// Own records when this direction moves, Other says when the opposite one did; nil: not used.
	Own, Other *Progress

	spent time.Duration
	bytes int64
}

// Wait accounts for a wait that brought n bytes, and gives an error that is os.ErrDeadlineExceeded
// when the peer was too slow over a whole window.
func (p *Pace) Wait(waited time.Duration, n int) error {
	if p.Window <= 0 {
		return nil
	}
	if n > 0 {
		p.Own.Mark()
	}
	p.spent += waited
	p.bytes += int64(n)
	if p.spent < p.Window {
		if p.MinRate > 0 && float64(p.bytes) >= float64(p.MinRate)*p.Window.Seconds() {
			p.Own.setSlow(false)
		}
		return nil
	}
	bytes, rate := p.bytes, float64(p.bytes)/p.spent.Seconds()
	p.spent, p.bytes = 0, 0
	slow := rate < float64(p.MinRate)
	if p.MinRate > 0 {
		p.Own.setSlow(slow)
	}
	if (bytes == 0 || slow && !p.otherHasBegun()) && p.Grace() <= 0 {
		return fmt.Errorf("%.0f bytes a second over %v: %w", rate, p.Window, os.ErrDeadlineExceeded)
	}
	return nil
}

// Grace is how much longer silence may last because the opposite direction has moved. It is zero or
// negative if that has not moved for a whole window, or was too slow.
func (p *Pace) Grace() time.Duration {
	at, now := p.Other.last(), time.Since(epoch)
	if at == 0 || p.otherIsSlow() {
		return 0
	}
	return p.Window - (now - at)
}

// otherIsSlow says whether the opposite direction was found too slow of late.
func (p *Pace) otherIsSlow() bool {
	// A direction that waits all the time is judged once in a window, or in two if it moves once in
	// each.
	const judged = 3
	return p.MinRate > 0 && p.Other.slowSince(time.Since(epoch)-judged*p.Window)
}

// otherHasBegun says whether the opposite direction has begun, and its peer is not too slow for it.
func (p *Pace) otherHasBegun() bool {
	return p.Other != nil && p.Other.begun.Load() && !p.otherIsSlow()
}

// Progress is when a direction of an exchange last moved. Any goroutine may use it; nil never
// moves.
type Progress struct {
	at     atomic.Int64 // since epoch; 0: never
	begun  atomic.Bool
	slowAt atomic.Int64 // when its peer was last found too slow; 0: it is not
}

// Mark notes that something has moved now.
func (p *Progress) Mark() {
	if p != nil {
		p.at.Store(int64(time.Since(epoch)))
	}
}

// Begin notes that something has moved, and that more may follow at any time.
func (p *Progress) Begin() {
	p.Mark()
	if p != nil {
		p.begun.Store(true)
	}
}

// Reset forgets all movement.
func (p *Progress) Reset() {
	p.at.Store(0)
	p.begun.Store(false)
	p.slowAt.Store(0)
}

// setSlow notes whether the peer that sets the pace of the direction was found too slow.
func (p *Progress) setSlow(is bool) {
	switch {
	case p == nil:
	case is:
		p.slowAt.Store(int64(time.Since(epoch)))
	case p.slowAt.Load() != 0:
		p.slowAt.Store(0)
	}
}

// slowSince says whether its peer was found too slow since then, and not fast enough afterwards.
func (p *Progress) slowSince(t time.Duration) bool {
	if p == nil {
		return false
	}
	at := p.slowAt.Load()
	return at != 0 && time.Duration(at) >= t
}

func (p *Progress) last() time.Duration {
	if p == nil {
		return 0
	}
	return time.Duration(p.at.Load())
}
