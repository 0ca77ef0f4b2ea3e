package backend

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// ConnLimit bounds the number of connections to servers, for all backends that share it: each takes
// a file descriptor. Requests that meet the limit, or another shortage of this host, wait in its
// queue. The zero value has no limit.
type ConnLimit struct {
	// CloseIdle, if set before the first use, is called to close an idle connection to a server. It
	// returns false if there is none.
	CloseIdle func() bool

	limit, used, waiting atomic.Int64

	mu    sync.Mutex // guards queue
	queue list.List  // of *waiter
}

// waiter is a request in the queue.
type waiter struct {
	backend *Backend
	ready   chan struct{} // buffers one signal
}

// SetLimit changes the limit; 0 means no limit.
func (l *ConnLimit) SetLimit(limit int) {
	l.limit.Store(int64(limit))
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.queue.Front(); e != nil; e = l.queue.Front() {
		l.wakeElement(e)
	}
}

// ample reports whether at least half of the connections are free, so that some may be kept for
// checks.
func (l *ConnLimit) ample() bool {
	limit := l.limit.Load()
	return limit == 0 || 2*l.used.Load() <= limit
}

// Used returns the number of connections.
func (l *ConnLimit) Used() int { return int(l.used.Load()) }

// Acquire counts a connection, or another descriptor, such as that of a file that is sent. It
// returns false at the limit, if no idle connection can be closed.
func (l *ConnLimit) Acquire() bool {
	for !l.tryAcquire() {
		if l.CloseIdle == nil || !l.CloseIdle() {
			return false
		}
	}
	return true
}

func (l *ConnLimit) tryAcquire() bool {
	for {
		n := l.used.Load()
		if limit := l.limit.Load(); limit > 0 && n >= limit {
			return false
		}
		if l.used.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release counts a connection as closed.
func (l *ConnLimit) Release() {
	l.used.Add(-1)
	l.wake(nil)
}

// fairShare reports whether one client's connection may use n connections to servers at a time: a
// quarter of those that are left, so that few connections with many streams do not use all.
func (l *ConnLimit) fairShare(n int64) bool {
	const always = 4
	limit := l.limit.Load()
	return limit <= 0 || n <= always || n <= (limit-l.used.Load())/4
}

// wake lets the first request in the queue try again, because a resource may have become free. If b
// is not nil, the first request of b is preferred.
func (l *ConnLimit) wake(b *Backend) {
	if l.waiting.Load() == 0 {
		return
	}
	const maxSkipped = 64 // requests of other backends
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.queue.Front()
	if first == nil {
		return
	}
	for e, n := first, 0; e != nil && n < maxSkipped && b != nil; e, n = e.Next(), n+1 {
		if w := e.Value.(*waiter); w.backend == b {
			first = e
			break
		}
	}
	l.wakeElement(first)
}

// wakeElement removes a waiter from the queue and wakes it. mu must be held.
func (l *ConnLimit) wakeElement(e *list.Element) {
	l.queue.Remove(e)
	l.waiting.Add(-1)
	e.Value.(*waiter).signal()
}

func (w *waiter) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// retryDelay returns how long a request waits before it tries again without being woken, because
// the kernel does not report when a resource becomes free. With many waiting requests each tries
// less often.
func retryDelay(waiting int) time.Duration {
	const first, most = 25 * time.Millisecond, 500 * time.Millisecond
	return min(first*time.Duration(1+waiting/64), most)
}

// queueWait is the time that one request spends in the queue, over all of its waits.
type queueWait struct {
	until  time.Time
	waiter *waiter
}

// wait waits until a resource may have become free. It returns false when the time for that is
// over.
func (q *queueWait) wait(ctx context.Context, b *Backend) bool {
	now := time.Now()
	l := b.connLimit
	first := q.waiter == nil
	if first {
		q.until = now.Add(b.options.ConnectTimeout)
		q.waiter = &waiter{backend: b, ready: make(chan struct{}, 1)}
	}
	left := q.until.Sub(now)
	if left <= 0 || ctx.Err() != nil {
		l.wake(b) // another request may use what this one was woken for
		return false
	}
	l.mu.Lock()
	var element *list.Element
	if first {
		element = l.queue.PushBack(q.waiter)
	} else {
		element = l.queue.PushFront(q.waiter) // it was woken, but the resource was not free
	}
	l.waiting.Add(1)
	delay := retryDelay(l.queue.Len())
	l.mu.Unlock()
	timer := time.NewTimer(min(left, delay))
	defer timer.Stop()
	select {
	case <-q.waiter.ready:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-q.waiter.ready: // it was woken at the same time
	default:
		l.queue.Remove(element)
		l.waiting.Add(-1)
	}
	return true
}

// CloseIdle closes the idle connection that was not used for the longest time. It returns false if
// there is none.
func (b *Backend) CloseIdle() bool {
	var of *Server
	var oldest time.Time
	for _, s := range b.list() {
		s.mu.Lock()
		if len(s.idle) > 0 && (of == nil || s.idle[0].used.Before(oldest)) {
			of, oldest = s, s.idle[0].used
		}
		s.mu.Unlock()
	}
	return of != nil && of.closeOldestIdle()
}
