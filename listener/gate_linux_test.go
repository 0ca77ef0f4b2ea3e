package listener

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestGate(t *testing.T) {
	g := NewGate(2)
	ctx := context.Background()
	for range 2 {
		if err := g.Enter(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if g.Inside() != 2 || g.Limit() != 2 {
		t.Fatalf("%d of %d inside", g.Inside(), g.Limit())
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if err := g.Enter(short); !errors.Is(err, context.Canceled) {
		t.Fatalf("the third: %v", err)
	}
	in := make(chan error)
	go func() { in <- g.Enter(ctx) }()
	g.Leave()
	if err := <-in; err != nil {
		t.Fatal(err)
	}
	go func() { in <- g.Enter(ctx) }()
	g.SetLimit(3)
	if err := <-in; err != nil {
		t.Fatal(err)
	}
	g.SetLimit(0)
	for range 100 {
		if err := g.Enter(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var none *Gate
	if none.Enter(ctx) != nil || none.Inside() != 0 || none.Limit() != 0 {
		t.Error("a nil gate is open")
	}
	none.Leave()
}

func TestGateFastPathAllocatesNothing(t *testing.T) {
	g := NewGate(10)
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		_ = g.await(ctx)
		_ = g.Enter(ctx)
		g.Leave()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Many come and go at once: never more than the limit inside, and nobody waits
// for ever.
func TestGateCrowd(t *testing.T) {
	const limit, crowd = 3, 16
	g := NewGate(limit)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var most, now atomic.Int64
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			for range 300 {
				if g.await(ctx) != nil || g.Enter(ctx) != nil {
					t.Error("starved")
					return
				}
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				now.Add(-1)
				g.Leave()
			}
		})
	}
	wg.Wait()
	if most.Load() > limit || g.Inside() != 0 {
		t.Errorf("most inside %d, at the end %d", most.Load(), g.Inside())
	}
}

// Two listeners share a gate. At the limit further clients wait in the kernel's
// queue; when one leaves the next is served, on whichever listener.
func TestGatePausesAccepting(t *testing.T) {
	g := NewGate(2)
	type conn struct {
		net.Conn
		s *Socket
	}
	served := make(chan conn, 8)
	var addresses []string
	for _, n := range []string{"a", "b"} {
		l := open(t, Options{Name: n, Addresses: []string{"127.0.0.1:0"}, Gate: g}, nil)
		addresses = append(addresses, l.Sockets()[0].Address)
		serve(t, l, func(c net.Conn, s *Socket) { served <- conn{c, s} })
	}
	clients := make([]net.Conn, 0, 6)
	for i := range 6 {
		clients = append(clients, dial(t, addresses[i%2]))
	}
	var inside []conn
	for range 2 {
		inside = append(inside, <-served)
	}
	for done := 0; done < 4; done++ {
		if n := g.Inside(); n != 2 {
			t.Fatalf("%d inside", n)
		}
		select {
		case c := <-served:
			t.Fatalf("%s was served beyond the limit", c.RemoteAddr())
		default:
		}
		inside[0].Close()
		inside = inside[1:]
		g.Leave()
		inside = append(inside, <-served)
	}
	for _, c := range inside {
		c.Close()
		g.Leave()
	}
	for _, c := range clients {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a client ended with %v", err)
		}
	}
}

func TestFullGateIsLoggedOnceInAWhile(t *testing.T) {
	var log syncBuffer
	gate := NewGate(1)
	l, err := Open(context.Background(), Options{
		Name: "web", Addresses: []string{"127.0.0.1:0"}, Gate: gate, Log: slog.New(slog.NewTextHandler(&log, nil)),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 8)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, func(c net.Conn, _ *Socket) { accepted <- c }) }()
	for range 3 {
		c, err := net.Dial("tcp", l.Sockets()[0].Address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range 3 {
		(<-accepted).Close()
		gate.Leave()
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "connection limit reached"); n != 1 || !strings.Contains(log.String(), "connections=1") {
		t.Errorf("said %d times in %q, want once, with the limit", n, log.String())
	}
}

// syncBuffer is a bytes.Buffer that many may write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
