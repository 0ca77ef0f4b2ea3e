package backend

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Places bounds how many connections to servers there are at a time, for all backends that share
// it: each takes a file descriptor. Requests that find no place, or meet another shortage of this
// host, wait in line here. The zero value has no limit.
type Places struct {
	// Spare, if it is set before the first use, is asked to close a connection that no request
	// uses; false: there is none.
	Spare func() bool

	limit, used, waiting atomic.Int64

	mu   sync.Mutex // guards line
	line list.List  // of *waiter
}

// waiter is a request in the line.
type waiter struct {
	backend *Backend
	ready   chan struct{} // holds one signal
}

// SetLimit changes the limit; 0 is none.
func (p *Places) SetLimit(limit int) {
	p.limit.Store(int64(limit))
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.line.Front(); e != nil; e = p.line.Front() {
		p.call(e)
	}
}

// Used is how many places are taken.
func (p *Places) Used() int { return int(p.used.Load()) }

// take takes a place; false: there is none, nor any that could be made free.
func (p *Places) take() bool {
	for !p.tryTake() {
		if p.Spare == nil || !p.Spare() {
			return false
		}
	}
	return true
}

func (p *Places) tryTake() bool {
	for {
		n := p.used.Load()
		if l := p.limit.Load(); l > 0 && n >= l {
			return false
		}
		if p.used.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave gives a place back.
func (p *Places) leave() {
	p.used.Add(-1)
	p.wake(nil)
}

// Enter takes a place for another descriptor than that of a connection to a server: a file. Leave
// must follow if it is true.
func (p *Places) Enter() bool { return p.take() }

// Leave gives back what Enter took.
func (p *Places) Leave() { p.leave() }

// fair says whether one client's connection may use n connections to servers at a time: a quarter
// of what is left for others, so that a few connections with many streams do not take all.
func (p *Places) fair(n int64) bool {
	const always = 4
	l := p.limit.Load()
	return l <= 0 || n <= always || n <= (l-p.used.Load())/4
}

// wake lets the first in line try again, the first of b where there is one: something it may wait
// for has become free.
func (p *Places) wake(b *Backend) {
	if p.waiting.Load() == 0 {
		return
	}
	const most = 64 // others' requests that are passed by
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.line.Front()
	if first == nil {
		return
	}
	for e, n := first, 0; e != nil && n < most && b != nil; e, n = e.Next(), n+1 {
		if w := e.Value.(*waiter); w.backend == b {
			first = e
			break
		}
	}
	p.call(first)
}

// call takes a waiter out of the line and wakes it; mu is held.
func (p *Places) call(e *list.Element) {
	p.line.Remove(e)
	p.waiting.Add(-1)
	e.Value.(*waiter).signal()
}

func (w *waiter) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// turn is a request's in the line, over all of its waits.
type turn struct {
	until  time.Time
	waiter *waiter
}

// wait waits until something may have become free, and is false where the time for that is over.
func (t *turn) wait(ctx context.Context, b *Backend, s Shortage) bool {
	now := time.Now()
	p := b.places
	first := t.waiter == nil
	if first {
		t.until = now.Add(b.options.ConnectTimeout)
		t.waiter = &waiter{backend: b, ready: make(chan struct{}, 1)}
	}
	left := t.until.Sub(now)
	if left <= 0 || ctx.Err() != nil {
		p.wake(b) // what it was woken by, if it was, is others'
		return false
	}
	p.mu.Lock()
	var place *list.Element
	if first {
		place = p.line.PushBack(t.waiter)
	} else {
		place = p.line.PushFront(t.waiter) // it was woken for nothing
	}
	p.waiting.Add(1)
	pause := again(s, p.line.Len())
	p.mu.Unlock()
	timer := time.NewTimer(min(left, pause))
	defer timer.Stop()
	select {
	case <-t.waiter.ready:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	p.mu.Lock()
	select {
	case <-t.waiter.ready: // meanwhile
	default:
		p.line.Remove(place)
		p.waiting.Add(-1)
	}
	p.mu.Unlock()
	return true
}

// Spare closes the kept connection that was not used for the longest time; false: there is none.
func (b *Backend) Spare() bool {
	var of *Server
	var oldest time.Time
	for _, s := range b.servers {
		s.mu.Lock()
		if len(s.kept) > 0 && (of == nil || s.kept[0].used.Before(oldest)) {
			of, oldest = s, s.kept[0].used
		}
		s.mu.Unlock()
	}
	return of != nil && of.spare()
}

func (s *Server) spare() bool {
	s.mu.Lock()
	if len(s.kept) == 0 {
		s.mu.Unlock()
		return false
	}
	c := s.kept[0]
	s.kept = append(s.kept[:0], s.kept[1:]...)
	s.mu.Unlock()
	s.meter.Idle(-1)
	c.close()
	return true
}
