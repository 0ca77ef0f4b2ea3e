package netio

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// Pace bounds the slowness of a peer without an absolute deadline: in each Window spent waiting for
// it, it must move MinRate bytes a second on average, and at least one. The zero value bounds
// nothing. Only time spent waiting counts, so a slow source does not make its receiver look slow.
//
// Where an exchange moves in both directions at once, silence in one of them is no fault while the
// other one moves: a client may listen to a stream of events without a word, and a server may take
// an upload without one. Nor is slowness once the opposite direction has begun: a client that
// listens to a response may send a few bytes now and then.
type Pace struct {
	Window  time.Duration
	MinRate int64 // bytes a second
	// Own is told when this direction moves, Other says when the opposite one did; nil: it is not
	// looked at.
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
		return nil
	}
	bytes, rate := p.bytes, float64(p.bytes)/p.spent.Seconds()
	p.spent, p.bytes = 0, 0
	slow := bytes == 0 || rate < float64(p.MinRate) && !p.Other.hasBegun()
	if slow && p.Grace() <= 0 {
		return fmt.Errorf("%.0f bytes a second over %v: %w", rate, p.Window, os.ErrDeadlineExceeded)
	}
	return nil
}

// Grace is for how much longer silence may last, since the opposite direction has moved: less than
// zero or zero where it has not for a whole window.
func (p *Pace) Grace() time.Duration {
	at := p.Other.last()
	if at == 0 {
		return 0
	}
	return p.Window - (time.Since(epoch) - at)
}

// Progress is when a direction of an exchange last moved. Any goroutine may use it; nil is one that
// never does.
type Progress struct {
	at    atomic.Int64 // since epoch; 0: never
	begun atomic.Bool
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
}

func (p *Progress) hasBegun() bool { return p != nil && p.begun.Load() }

func (p *Progress) last() time.Duration {
	if p == nil {
		return 0
	}
	return time.Duration(p.at.Load())
}
