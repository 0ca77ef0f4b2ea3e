package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/telemetry"
)

// limited is a pool of servers with a limit of requests, and a queue.
func limited(t *testing.T, limit int, q Queue, addresses ...string) (*Backend, *telemetry.Instruments) {
	t.Helper()
	list := servers(addresses...)
	for i := range list {
		list[i].MaxRequests = limit
	}
	return pool(t, Options{Servers: list, Queue: q})
}

// visit is a request that has a place until it leaves.
type visit struct {
	Attempt
	up Stream
}

// enter opens a stream for a request of a route.
func enter(ctx context.Context, b *Backend, route string, client Client) (*visit, error) {
	v := &visit{}
	v.Reset(b)
	var err error
	v.up, err = v.Open(ctx, &Request{Now: time.Now(), Bodyless: true, Repeatable: true, Route: route, Client: client})
	if err != nil {
		v.End()
		return nil, err
	}
	return v, nil
}

func (v *visit) leave() {
	v.up.Abort()
	v.up.Release(time.Now())
	v.End()
}

func mustEnter(t *testing.T, b *Backend, route string) *visit {
	t.Helper()
	v, err := enter(t.Context(), b, route, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// waitQueue waits until n requests wait.
func waitQueue(t *testing.T, b *Backend, n int64) {
	t.Helper()
	if !proxytest.Within(proxytest.Patience, func() bool { return b.queue.waiting.Load() == n }) {
		t.Fatalf("%d requests wait, want %d", b.queue.waiting.Load(), n)
	}
}

func TestServersGetNoMoreRequestsThanTheyMay(t *testing.T) {
	one, two := proxytest.NewOrigin(t, mptcp.Off, silent), proxytest.NewOrigin(t, mptcp.Off, silent)
	b, in := limited(t, 3, Queue{Requests: 100, Time: proxytest.Patience}, one.Address(), two.Address())
	var most [2]atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			v, err := enter(t.Context(), b, "all", nil)
			if err != nil {
				t.Error(err)
				return
			}
			for i, s := range b.list() {
				if v.Server() == s {
					for n := s.inFlight.Load(); ; {
						old := most[i].Load()
						if n <= old || most[i].CompareAndSwap(old, n) {
							break
						}
					}
				}
			}
			v.leave()
		})
	}
	wg.Wait()
	for i := range most {
		if n := most[i].Load(); n > 3 || n == 0 {
			t.Errorf("server %d had %d requests at a time", i, n)
		}
		if n := b.list()[i].places.used.Load(); n != 0 {
			t.Errorf("server %d: %d places are still taken", i, n)
		}
	}
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_queue_requests"); n != 0 {
		t.Errorf("%v requests still wait", n)
	}
}

// Without a queue, or if it is full, the request is refused at once.
func TestBusyServers(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	for _, size := range []int{0, 2} {
		b, in := limited(t, 1, Queue{Requests: size, Time: proxytest.Patience}, o.Address())
		first := mustEnter(t, b, "all")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range size {
			wg.Go(func() {
				if _, err := enter(ctx, b, "all", nil); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
		waitQueue(t, b, int64(size))
		if _, err := enter(ctx, b, "all", nil); err != ErrBusy {
			t.Errorf("a queue of %d: got %v", size, err)
		}
		cancel()
		wg.Wait()
		first.leave()
		mustEnter(t, b, "all").leave()
		for result, want := range map[string]float64{"full": 1, "left": float64(size), "served": 0} {
			if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_queued_requests_total", "result", result); n != want {
				t.Errorf("a queue of %d: %v requests are %s, want %v", size, n, result, want)
			}
		}
	}
}

func TestTimeInTheQueue(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	const limit = 50 * time.Millisecond
	b, in := limited(t, 1, Queue{Requests: 1, Time: limit}, o.Address())
	defer mustEnter(t, b, "all").leave()
	var a Attempt
	a.Reset(b)
	defer a.End()
	if _, err := a.Open(t.Context(), &Request{Now: time.Now(), Route: "all"}); err != ErrBusy || a.Queued() < limit || a.Tries() != 0 {
		t.Errorf("%v after %v, %d tries", err, a.Queued(), a.Tries())
	}
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_queued_requests_total", "result", "timeout"); n != 1 {
		t.Errorf("%v requests waited too long, want 1", n)
	}
}

// Routes are served in turn, and the requests of each in the order in which they came.
func TestRoutesAreServedInTurn(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	b, _ := limited(t, 1, Queue{Requests: 100, Time: proxytest.Patience}, o.Address())
	first := mustEnter(t, b, "all")
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	add := func(route string, i int) {
		before := b.queue.waiting.Load()
		wg.Go(func() {
			v, err := enter(t.Context(), b, route, nil)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, fmt.Sprint(route, i))
			mu.Unlock()
			v.leave()
		})
		waitQueue(t, b, before+1)
	}
	for i := range 4 {
		add("a", i)
	}
	add("b", 0)
	add("b", 1)
	add("c", 0)
	first.leave()
	wg.Wait()
	want := []string{"a0", "b0", "c0", "a1", "b1", "a2", "a3"}
	if !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
}

// A route whose requests fill the queue leaves room for others.
func TestFullQueueIsShared(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	b, _ := limited(t, 1, Queue{Requests: 4, Time: proxytest.Patience}, o.Address())
	first := mustEnter(t, b, "all")
	results := make(chan string, 10)
	add := func(route string) {
		go func() {
			v, err := enter(t.Context(), b, route, nil)
			if err == nil {
				v.leave()
			}
			results <- fmt.Sprint(route, " ", err)
		}()
	}
	for i := range int64(4) {
		add("greedy")
		waitQueue(t, b, i+1)
	}
	for range 2 {
		add("modest")
		if got, want := <-results, fmt.Sprint("greedy ", ErrBusy); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	add("modest") // they have equal shares now
	if got, want := <-results, fmt.Sprint("modest ", ErrBusy); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	first.leave()
	served := map[string]int{}
	for range 4 {
		served[<-results]++
	}
	if served["greedy <nil>"] != 2 || served["modest <nil>"] != 2 {
		t.Errorf("got %v", served)
	}
}

// leaver is a client that leaves when gone is called.
type leaver struct{ watched chan func() }

func (l leaver) WatchClient(gone func()) { l.watched <- gone }

func (leaver) StopWatchClient() {}

func TestClientLeavesTheQueue(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	b, in := limited(t, 1, Queue{Requests: 2, Time: proxytest.Patience}, o.Address())
	first := mustEnter(t, b, "all")
	l := leaver{make(chan func(), 1)}
	done := make(chan error)
	go func() { _, err := enter(t.Context(), b, "all", l); done <- err }()
	gone := <-l.watched
	second := make(chan error)
	go func() {
		v, err := enter(t.Context(), b, "all", nil)
		if err == nil {
			v.leave()
		}
		second <- err
	}()
	waitQueue(t, b, 2)
	gone()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	waitQueue(t, b, 1)
	first.leave() // for the second one
	if err := <-second; err != nil {
		t.Error(err)
	}
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_queued_requests_total", "result", "left"); n != 1 {
		t.Errorf("%v requests left, want 1", n)
	}
}

// A place that becomes free wakes one request, also when many leave the queue at that moment.
func TestPlacesAreNotLost(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	b, _ := limited(t, 2, Queue{Requests: 1000, Time: proxytest.Patience}, o.Address())
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			if i%3 != 0 {
				leaves := time.AfterFunc(time.Duration(i%5)*time.Millisecond, cancel)
				defer leaves.Stop()
			}
			v, err := enter(ctx, b, fmt.Sprint(i%7), nil)
			cancelled := ctx.Err() != nil
			cancel()
			if err == nil {
				v.leave()
			} else if !cancelled {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, waiting := b.list()[0].places.used.Load(), b.queue.waiting.Load(); n != 0 || waiting != 0 || len(b.queue.routes) != 0 {
		t.Errorf("%d places are taken, %d requests wait, %d routes", n, waiting, len(b.queue.routes))
	}
}

// A server that comes back serves requests that wait for another one.
func TestQueueUsesServersThatComeBack(t *testing.T) {
	t.Parallel()
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	down := proxytest.NewRefusing(t)
	b, _ := limited(t, 1, Queue{Requests: 10, Time: proxytest.Patience}, o.Address(), down.Address)
	busy := []*visit{mustEnter(t, b, "all")}
	for _, s := range b.list() {
		if s.Address == down.Address && s.outage.Load() == nil {
			_, _, err := s.dial(t.Context(), Addresses{}, false)
			if err == nil {
				t.Fatal("no outage")
			}
		}
	}
	done := make(chan string)
	go func() {
		v, err := enter(t.Context(), b, "all", nil)
		if err != nil {
			done <- err.Error()
			return
		}
		defer v.leave()
		done <- v.Server().Address
	}()
	waitQueue(t, b, 1)
	proxytest.OriginOn(t, down.Listen(), silent)
	if got := <-done; got != down.Address {
		t.Errorf("got %s, want %s", got, down.Address)
	}
	busy[0].leave()
}

// queueOne begins a request that finds no place. The result is the address of its server, or an
// error.
func queueOne(t *testing.T, b *Backend) (result chan string) {
	t.Helper()
	result = make(chan string, 1)
	before := b.queue.waiting.Load()
	go func() {
		v, err := enter(t.Context(), b, "all", nil)
		if err != nil {
			result <- err.Error()
			return
		}
		result <- v.Server().Address
		v.leave()
	}()
	waitQueue(t, b, before+1)
	return result
}

// A request that has failed on one server waits for the other one, and others use the first.
func TestRetryThatWaitsDelaysNoOther(t *testing.T) {
	one, two := proxytest.NewOrigin(t, mptcp.Off, silent), proxytest.NewOrigin(t, mptcp.Off, silent)
	b, _ := limited(t, 1, Queue{Requests: 10, Time: proxytest.Patience}, one.Address(), two.Address())
	failed, other := mustEnter(t, b, "all"), mustEnter(t, b, "all")
	if failed.Server() == other.Server() {
		t.Fatal("both have the same server")
	}
	first, next := failed.Server(), queueOne(t, b)
	again := make(chan error)
	failed.up.Abort()
	failed.up.Release(time.Now())
	go func() {
		up, err := failed.Another(t.Context(), &Request{Now: time.Now(), Bodyless: true, Repeatable: true, Route: "all"})
		failed.up = up
		again <- err
	}()
	if got, want := <-next, first.Address; got != want { // where a place has become free
		t.Errorf("the next request: %s, want %s", got, want)
	}
	waitQueue(t, b, 1)
	for range 3 { // new requests do not wait for it either
		mustEnter(t, b, "all").leave()
	}
	other.leave()
	if err := <-again; err != nil {
		t.Fatal(err)
	}
	if failed.Server() != other.Server() {
		t.Error("the retry went to the same server")
	}
	failed.leave()
}

// A request that waits takes the place of a server that starts slowly.
func TestQueueUsesServersThatStartSlowly(t *testing.T) {
	b, _ := pool(t, Options{Servers: servers("127.0.0.1:1"), MaxConnections: 1, SlowStart: time.Hour})
	s := b.list()[0]
	s.startSlowly(time.Now())
	var a Attempt
	a.Reset(b)
	a.lot = 1<<32 - 1
	if now := time.Now(); a.candidate(s, now) || !a.grant(s, now) {
		t.Error("the place is not used")
	}
	a.End()
}

// A request whose cookie names a server that is full waits for that one for half of the time in the
// queue, and then goes to another; it does not delay requests that others can process. Without a
// queue it goes to another one at once.
func TestQueueForTheOwnServer(t *testing.T) {
	t.Parallel()
	one, two := proxytest.NewOrigin(t, mptcp.Off, silent), proxytest.NewOrigin(t, mptcp.Off, silent)
	own := func(b *Backend, v *visit) (*visit, error) {
		v.Reset(b)
		v.sticky = b.list()[0]
		var err error
		v.up, err = v.Open(t.Context(), &Request{Now: time.Now(), Bodyless: true, Repeatable: true, Route: "all"})
		return v, err
	}
	for name, tt := range map[string]struct {
		queue  Queue
		waits  bool // for its server
		second bool // it gets another one
	}{
		"no queue":    {Queue{}, false, true},
		"a queue":     {Queue{Requests: 4, Time: 2 * proxytest.Patience}, true, false},
		"not so long": {Queue{Requests: 4, Time: 4 * time.Second}, true, true},
		"no room":     {Queue{Requests: 1, Time: 2 * proxytest.Patience}, false, true},
	} {
		b, _ := limited(t, 2, tt.queue, one.Address(), two.Address())
		var held []*visit
		for range 2 { // the first server is full
			v, err := own(b, &visit{})
			if err != nil || v.Server() != b.list()[0] {
				t.Fatalf("%s: %v, %v", name, v.Server(), err)
			}
			held = append(held, v)
		}
		type result struct {
			v   *visit
			err error
		}
		got := make(chan result)
		go func() { v, err := own(b, &visit{}); got <- result{v, err} }()
		if tt.waits && !tt.second {
			waitQueue(t, b, 1)
			other := mustEnter(t, b, "all") // it passes
			if other.Server() != b.list()[1] {
				t.Errorf("%s: another request got %s", name, other.Server().Address)
			}
			held[0].leave()
			held = append(held[1:], other)
		}
		r := <-got
		if r.err != nil || (r.v.Server() == b.list()[1]) != tt.second {
			t.Fatalf("%s: server %v, %v", name, r.v.Server(), r.err)
		}
		if waited := r.v.Queued() > 0; waited != tt.waits {
			t.Errorf("%s: waited: %v, want %v", name, waited, tt.waits)
		}
		for _, v := range append(held, r.v) {
			v.leave()
		}
		if b.queue.own != 0 || b.queue.waiting.Load() != 0 {
			t.Errorf("%s: %d requests still wait, %d of them for their server", name, b.queue.waiting.Load(), b.queue.own)
		}
	}
}
