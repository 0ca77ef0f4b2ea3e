package auth

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"

	"mpgate/telemetry"
)

func TestQueue(t *testing.T) {
	q := NewQueue(2)
	var wait sync.WaitGroup
	begun, end := make(chan struct{}, 200), make(chan struct{})
	work := func() { begun <- struct{}{}; <-end }
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(i / 256), byte(i)}) }
	run := func(client netip.Addr, threads int64) {
		wait.Go(func() {
			if err := q.run(t.Context(), client, threads, work); err != nil {
				t.Error(err)
			}
		})
	}
	run(at(1), 1)
	run(at(2), 1)
	<-begun
	<-begun
	waiting := func(n int) func() bool {
		return func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.waiting == n }
	}
	// One client has a part of the places only, and a network of IPv6 is one client.
	mine := netip.MustParsePrefix("2001:db8::/64")
	for i := range maxWaitingPerClient {
		a := mine.Addr().As16()
		a[15] = byte(i)
		run(netip.AddrFrom16(a), 1)
	}
	eventually(t, "all wait", waiting(2+maxWaitingPerClient))
	if err := q.run(t.Context(), netip.MustParseAddr("2001:db8::1:2:3"), 1, work); !errors.Is(err, errBusy) {
		t.Errorf("%v, want errBusy", err)
	}
	for i := range maxWaiting - maxWaitingPerClient {
		run(at(100+i), 2) // it takes all
	}
	eventually(t, "the queue is full", waiting(2+maxWaiting))
	if err := q.run(t.Context(), at(9), 1, work); !errors.Is(err, errBusy) {
		t.Errorf("%v, want errBusy", err)
	}
	if n := len(begun); n != 0 {
		t.Errorf("%d more than 2 run", n)
	}
	close(end)
	wait.Wait()
	if q.waiting != 0 || len(q.clients) != 0 {
		t.Errorf("%d wait, of %d clients", q.waiting, len(q.clients))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.run(ctx, at(1), 1, work); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

// A request that gets no turn is answered with 503, and a request of somebody who is remembered is
// not hindered.
func TestBusy(t *testing.T) {
	b := newBasic(t, write(t, "users", "alice:"+bcryptOf(t, "secret", 4)))
	if r := newRequest(t, basic("alice:secret")); b.FilterRequest(r) {
		t.Fatal(r.Answer)
	}
	b.users.queue.waiting = maxWaiting + 1
	r := newRequest(t, basic("alice:wrong"))
	if !b.FilterRequest(r) || r.Answer.Status != 503 || r.Answer.End != telemetry.EndLimited {
		t.Errorf("%+v", r.Answer)
	}
	if r := newRequest(t, basic("alice:secret")); b.FilterRequest(r) {
		t.Error(r.Answer)
	}
}
