package backend

import (
	"sync"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

func TestMaxConnections(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, proxytest.Echo)
	b, _ := pool(t, Options{Servers: servers(o.Address()), MaxConnections: 2, Queue: Queue{Requests: 100, Time: proxytest.Patience}})
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			v, err := enter(t.Context(), b, "all", nil)
			if err != nil {
				t.Error(err)
				return
			}
			if n := b.list()[0].conns.open.Load(); n > 2 {
				t.Errorf("%d connections", n)
			}
			exchange(t, v.up, "GET")
			v.End()
		})
	}
	wg.Wait()
	if n := b.list()[0].conns.open.Load(); n < 1 || n > 2 {
		t.Errorf("%d connections at the end", n)
	}
	// An idle one is closed for a connection that it cannot be used for.
	l, err := b.list()[0].openLink(t.Context(), Addresses{}, true)
	if err != nil {
		t.Fatal(err)
	}
	l2, err := b.list()[0].openLink(t.Context(), Addresses{}, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.list()[0].openLink(t.Context(), Addresses{}, true); err != errFull {
		t.Errorf("a third connection: %v", err)
	}
	l.Close()
	l2.Close()
}

// A place at a server that the backend no longer has is for none of the requests that wait.
func TestPlacesOfRemovedServers(t *testing.T) {
	one, two := proxytest.NewOrigin(t, mptcp.Off, silent), proxytest.NewOrigin(t, mptcp.Off, silent)
	b, _ := limited(t, 1, Queue{Requests: 10, Time: proxytest.Patience}, one.Address(), two.Address())
	gone, stays := mustEnter(t, b, "all"), mustEnter(t, b, "all")
	next := queueOne(t, b)
	b.membersMu.Lock()
	err := b.setServers([]*Server{stays.Server()})
	b.membersMu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	gone.leave()
	stays.leave()
	if got, want := <-next, stays.Server().Address; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A request that is sent to its server again has a place there.
func TestReopenNeedsAPlace(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	b, _ := limited(t, 1, Queue{}, o.Address())
	v, r := mustEnter(t, b, "all"), &Request{Now: time.Now(), Bodyless: true, Repeatable: true}
	v.up.Abort()
	v.up.Release(time.Now())
	v.failed(ErrNotProcessed)
	other := mustEnter(t, b, "all")
	if _, err := v.Reopen(t.Context(), r); err == nil {
		t.Error("the server has two requests, and may have one")
	}
	other.leave()
	var err error
	if v.up, err = v.Reopen(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n := b.list()[0].places.used.Load(); n != 1 {
		t.Errorf("%d places are taken, want 1", n)
	}
	v.leave()
}

// A request that needs a new connection to its server waits until there may be one.
func TestReopenWaitsForAConnection(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	b, _ := pool(t, Options{Servers: servers(o.Address()), MaxConnections: 1, Queue: Queue{Requests: 1, Time: proxytest.Patience}})
	v := mustEnter(t, b, "all")
	v.up.Abort()
	v.up.Release(time.Now())
	l, err := b.list()[0].openLink(t.Context(), Addresses{}, true)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		up, err := v.Reopen(t.Context(), &Request{Now: time.Now(), Bodyless: true, Repeatable: true})
		v.up = up
		done <- err
	}()
	waitQueue(t, b, 1)
	l.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	v.leave()
}

func TestReserve(t *testing.T) {
	b, _ := limited(t, 2, Queue{}, "127.0.0.1:1")
	var list [3]Attempt
	for i, want := range []bool{true, true, false} {
		list[i].Reset(b)
		if got := list[i].reserve(b.list()[0]); got != want {
			t.Errorf("place %d: %v", i, got)
		}
	}
	list[0].End()
	list[0].End() // a second time changes nothing
	if !list[2].reserve(b.list()[0]) || list[0].reserve(b.list()[0]) {
		t.Error("one place is free")
	}
}

// A request that found no connection is behind those that wait already, unless it waited itself.
func TestUndo(t *testing.T) {
	b, _ := limited(t, 2, Queue{}, "127.0.0.1:1")
	now := time.Now()
	for _, waited := range []time.Time{{}, now} {
		var a Attempt
		a.Reset(b)
		a.queueUntil = waited
		if !a.next(now, nil) || !a.served {
			t.Fatal("no place")
		}
		a.undo()
		if first := a.served; first == waited.IsZero() || a.Tries() != 0 || b.list()[0].places.used.Load() != 0 {
			t.Errorf("waited before: %v, first of its route: %v, %d tries", !waited.IsZero(), first, a.Tries())
		}
	}
}

func TestPlacesDoNotAllocate(t *testing.T) {
	b, _ := limited(t, 5, Queue{}, "127.0.0.1:1", "127.0.0.1:2")
	now := time.Now()
	a := new(Attempt)
	if n := testing.AllocsPerRun(1000, func() { a.Reset(b); a.next(now, nil); a.End() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
