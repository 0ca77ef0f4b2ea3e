package backend

import (
	"cmp"
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/task"
	"mpgate/telemetry"
)

// Queue says how many requests wait for a place at a server, and how long.
type Queue struct {
	Requests int           // of all routes; 0: none waits
	Time     time.Duration // the longest wait of a request, over all of its tries; 0: 5 s
}

// Client is the client of a request that waits.
type Client interface {
	// WatchClient calls gone once, from another goroutine, when the client leaves.
	WatchClient(gone func())
	// StopWatchClient ends that, and waits for a call that is under way.
	StopWatchClient()
}

// queue are the requests that wait for a place at any server of a backend. Routes are served in
// turn, the requests of one route in the order in which they came. A place that becomes free goes
// to one request, which alone is woken. While requests wait, no new one takes a place that they can
// use.
type queue struct {
	backend *Backend
	options Queue
	meter   *telemetry.BackendMeter
	waiting atomic.Int64

	mu     sync.Mutex // guards what follows
	own    int        // of waiting, those that waited for one server when they came
	routes map[string]*routeQueue
	turns  list.List // of *routeQueue, none of them empty; the first is served next
}

// routeQueue are the requests of one route.
type routeQueue struct {
	name     string
	requests list.List     // of *queued
	turn     *list.Element // in queue.turns
}

// queued is a request in the queue. Its Attempt belongs to the queue meanwhile.
type queued struct {
	attempt *Attempt
	route   *routeQueue
	element *list.Element // in route.requests; nil: it is no longer in the queue
	own     bool          // it is in queue.own
	done    chan struct{} // closed when it was given a place, or had to make room for another route
	evicted bool
}

func (q *queue) init(b *Backend, o Queue) {
	o.Time = cmp.Or(o.Time, 5*time.Second)
	q.backend, q.options, q.routes = b, o, map[string]*routeQueue{}
	q.meter = b.options.Instruments.Backend(b.options.Name)
}

// wait waits until a server has a place for the request, which it takes: a.granted is that server.
// Otherwise it returns ErrBusy, or an error that says why nobody waits any longer.
func (q *queue) wait(ctx context.Context, a *Attempt, r *Request) error {
	began := time.Now()
	if a.queueUntil.IsZero() {
		a.queueUntil = began.Add(q.options.Time)
	}
	if a.ownUntil.IsZero() {
		a.ownUntil = began.Add(q.options.Time / 2)
	}
	w := q.push(a, r.Route)
	if w == nil {
		q.meter.Queued(telemetry.QueueFull, 0)
		return ErrBusy
	}
	q.dispatch(nil) // a place may have become free before the request was in the queue
	result, err := q.await(ctx, w, r.Client)
	waited := time.Since(began)
	a.queued += waited
	q.meter.Queued(result, waited)
	return err
}

func (q *queue) await(ctx context.Context, w *queued, client Client) (result telemetry.QueueResult, err error) {
	select {
	case <-w.done:
		return w.result()
	default:
	}
	gone := make(chan struct{})
	if client != nil {
		client.WatchClient(func() { close(gone) })
		defer client.StopWatchClient()
	}
	timer := time.NewTimer(time.Until(w.attempt.queueUntil))
	defer timer.Stop()
	if w.own { // from then on another server may have it
		defer task.AfterFunc(time.Until(w.attempt.ownUntil), "queue: other servers", func() { q.dispatch(nil) }).Stop()
	}
	result, err = telemetry.QueueTimeout, ErrBusy
	select {
	case <-w.done:
		return w.result()
	case <-timer.C:
	case <-gone:
		result, err = telemetry.QueueLeft, context.Canceled
	case <-ctx.Done():
		result, err = telemetry.QueueLeft, ctx.Err()
	}
	if q.leave(w) {
		return result, err
	}
	if result == telemetry.QueueTimeout { // it was given a place at the same time
		return w.result()
	}
	if a := w.attempt; !w.evicted {
		s := a.granted
		a.granted = nil
		a.leavePlace()
		s.noteRoom()
	}
	return result, err
}

// result is the outcome when done is closed.
func (w *queued) result() (telemetry.QueueResult, error) {
	if w.evicted {
		return telemetry.QueueFull, ErrBusy
	}
	return telemetry.QueueServed, nil
}

// push adds a request of a route. A request that had a place before is the first of its route. If
// the queue is full, the last request of the route with the most makes room for one of a route with
// fewer. Otherwise push returns nil.
func (q *queue) push(a *Attempt, route string) *queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	own := a.awaitsOwn(time.Now())
	if own && q.own >= q.options.Requests/2 {
		return nil // requests that other servers could process must find room
	}
	r := q.routes[route]
	if r == nil {
		r = &routeQueue{name: route}
	}
	if int(q.waiting.Load()) >= q.options.Requests && !q.makeRoom(r.requests.Len()+1) {
		return nil
	}
	if r.turn == nil {
		q.routes[route] = r
		r.turn = q.turns.PushBack(r)
	}
	w := &queued{attempt: a, route: r, own: own, done: make(chan struct{})}
	if own {
		q.own++
	}
	if a.served {
		w.element = r.requests.PushFront(w)
	} else {
		w.element = r.requests.PushBack(w)
	}
	q.waiting.Add(1)
	q.meter.Waiting(1)
	return w
}

// makeRoom removes a request of a route that has more than n. It returns false if there is none.
func (q *queue) makeRoom(n int) bool {
	var longest *routeQueue
	for e := q.turns.Front(); e != nil; e = e.Next() {
		if r := e.Value.(*routeQueue); r.requests.Len() > n {
			longest, n = r, r.requests.Len()
		}
	}
	if longest == nil {
		return false
	}
	last := longest.requests.Back().Value.(*queued)
	q.remove(last)
	last.evicted = true
	close(last.done)
	return true
}

// remove takes a request out. mu must be held.
func (q *queue) remove(w *queued) {
	r := w.route
	r.requests.Remove(w.element)
	w.element = nil
	if w.own {
		q.own--
	}
	if r.requests.Len() == 0 {
		q.turns.Remove(r.turn)
		r.turn = nil
		delete(q.routes, r.name)
	}
	q.waiting.Add(-1)
	q.meter.Waiting(-1)
}

// leave takes out a request that waits no longer. It returns false if the request is not in the
// queue.
func (q *queue) leave(w *queued) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.element == nil {
		return false
	}
	q.remove(w)
	return true
}

// dispatch gives free places to requests in the queue: those of a server, or with nil those of any.
func (q *queue) dispatch(s *Server) {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for (s == nil || !s.full()) && q.serveOne(s, now) {
	}
}

// dispatchOne lets one request use the room that has become free on the connections to a server. It
// returns false if none waits for that.
func (q *queue) dispatchOne(s *Server) bool {
	if q.waiting.Load() == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.serveOne(s, time.Now())
}

// awaitsOwn reports whether the request waits for the server of its cookie, which is full and which
// may have the only copy of its session, and not for others. It does so for half of its time in the
// queue. HAProxy waits for all of its time, and then gives up.
func (a *Attempt) awaitsOwn(now time.Time) bool {
	s := a.sticky
	return s != nil && a.backend.queue.options.Requests > 0 && s.full() && !a.wasTried(s) && s.mayKeep(now) &&
		(a.ownUntil.IsZero() || now.Before(a.ownUntil))
}

// serveOne gives a place at a server, or with nil at any, to the first request that can use it. It
// returns false if there is none. A request that was tried on the server cannot, and must not keep
// the place from those behind it. mu must be held.
func (q *queue) serveOne(s *Server, now time.Time) bool {
	const mostPassed = 64
	passed := 0
	blocked := false // no request that was not tried yet can be served: they are all alike
	for turn := q.turns.Front(); turn != nil; turn = turn.Next() {
		for e := turn.Value.(*routeQueue).requests.Front(); e != nil; e = e.Next() {
			w := e.Value.(*queued)
			untried := w.attempt.tries == 0 && !w.attempt.awaitsOwn(now)
			if !(untried && blocked) && w.attempt.grant(s, now) {
				q.turns.MoveToBack(turn)
				q.remove(w)
				close(w.done)
				return true
			}
			if untried {
				blocked = true
				break // most of those that were tried are before the others
			}
			if passed++; passed == mostPassed {
				return false
			}
		}
	}
	return false
}

// grant gives the request a place at a server, or with nil at any. A given one may be starting
// slowly: no other has a place.
func (a *Attempt) grant(s *Server, now time.Time) bool {
	if own := s != nil && s == a.sticky; !own && a.awaitsOwn(now) {
		return false
	}
	if s == nil {
		s = a.pick(now)
	} else if !a.eligible(s, now) || !a.inTurn(s, now) {
		return false
	}
	if s == nil || !a.reserve(s) {
		return false
	}
	a.granted = s
	return true
}
