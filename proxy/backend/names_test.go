package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/message"
)

// resolverOf returns a resolver whose server answers with the result of addrs; it does not answer
// if that is nil.
func resolverOf(t *testing.T, addrs func() []netip.Addr) *net.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			list := addrs()
			if list == nil {
				continue
			}
			q := m.Questions[0]
			m.Header = dnsmessage.Header{ID: m.Header.ID, Response: true}
			m.Additionals = nil
			for _, a := range list {
				if q.Type == dnsmessage.TypeA {
					h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
				}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = c.WriteTo(out, from)
			}
		}
	})
	t.Cleanup(func() { c.Close(); wait.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", c.LocalAddr().String())
	}}
}

// silentResolver does not answer until its context ends.
func silentResolver(asked *atomic.Int64) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// stale returns names whose last answer is too old to be used without a lookup.
func stale(host string, r *net.Resolver) *names {
	n := newNames(host)
	n.addrs, n.resolvedAt, n.resolver = addrs("192.0.2.1"), time.Now().Add(-2*maxNameAge), r
	return n
}

func TestNamesOutliveTheResolver(t *testing.T) {
	n := newNames("localhost")
	list, err := n.lookup(t.Context())
	if err != nil || len(list) == 0 || !list[0].IsLoopback() {
		t.Fatalf("localhost is %v, %v", list, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel() // a resolver that fails
	if again, err := n.lookup(ended); err != nil || again[0] != list[0] {
		t.Errorf("within its age: %v, %v", again, err)
	}
	if old, err := stale("name.invalid", nil).lookup(ended); err != nil || fmt.Sprint(old) != "[192.0.2.1]" {
		t.Errorf("without a resolver: %v, %v; want the old answer", old, err)
	}
	if _, err := newNames("name.invalid").lookup(ended); err == nil {
		t.Error("no error for a name that was never resolved")
	}
}

// TestSilentAddress: an address of a name that does not answer leaves time for the next one, and
// comes last for a while.
func TestSilentAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("waits 2 s for an address that is silent")
	}
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	good := netip.MustParseAddrPort(o.Address())
	bad := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), good.Port())
	proxytest.FullQueue(t, bad)
	b, _ := pool(t, Options{Servers: servers(fmt.Sprintf("name.invalid:%d", good.Port())), ConnectTimeout: 3 * time.Second})
	n := b.list()[0].names
	n.mu.Lock()
	n.addrs, n.resolvedAt = []netip.Addr{bad.Addr(), good.Addr()}, time.Now().Add(time.Hour)
	n.mu.Unlock()
	for i, most := range []time.Duration{2900 * time.Millisecond, time.Second} {
		began := time.Now()
		if _, tries, err := open(t, b); err != nil || tries != 1 {
			t.Fatalf("connect %d: %v, after %d tries", i+1, err, tries)
		}
		if took := time.Since(began); took > most {
			t.Errorf("connect %d took %v, want at most %v", i+1, took, most)
		}
	}
	n.mu.Lock()
	n.preferredUntil = time.Now()
	n.mu.Unlock()
	list, err := n.addresses(t.Context())
	if err != nil || list[0] != bad.Addr() || n.addrs[0] != bad.Addr() {
		t.Errorf("after that the order is %v, %v; want the resolver's order", list, err)
	}
}

func TestConnectTime(t *testing.T) {
	for _, c := range []struct {
		left  time.Duration
		addrs int
		want  time.Duration
	}{
		{5 * time.Second, 1, 5 * time.Second},
		{5 * time.Second, 2, 2500 * time.Millisecond},
		{5 * time.Second, 4, 2 * time.Second},
		{time.Second, 2, time.Second},
	} {
		if got := connectTime(c.left, c.addrs); got != c.want {
			t.Errorf("%v for %d: %v each, want %v", c.left, c.addrs, got, c.want)
		}
	}
}

// TestSilentResolver: one that does not answer takes little of the time for a connect if its last
// answer is at hand.
func TestSilentResolver(t *testing.T) {
	var asked atomic.Int64
	n := stale("example.org", silentResolver(&asked))
	began := time.Now()
	list, err := n.lookup(t.Context())
	if err != nil || fmt.Sprint(list) != "[192.0.2.1]" {
		t.Errorf("got %v, %v; want the old answer", list, err)
	}
	if took := time.Since(began); took < refreshWait || took > 3*refreshWait {
		t.Errorf("it took %v, want %v", took, refreshWait)
	}
	began = time.Now()
	if _, err := n.lookup(t.Context()); err != nil || time.Since(began) > refreshWait/2 {
		t.Errorf("asked at once again, %v", err)
	}
}

// While a refresh waits for a resolver, no connect does.
func TestNoConnectWaitsForARefresh(t *testing.T) {
	var asked atomic.Int64
	n := stale("example.org", silentResolver(&asked))
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { n.refresh(ctx) })
	defer func() { stop(); wait.Wait() }()
	if !proxytest.Within(proxytest.Patience, func() bool { return asked.Load() > 0 }) {
		t.Fatal("no lookup begins")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if list, err := n.lookup(ended); err != nil || fmt.Sprint(list) != "[192.0.2.1]" {
		t.Errorf("got %v, %v; want the old answer", list, err)
	}
}

// For a name that was never resolved there is one lookup for all connects that wait, and each of
// them ends with its context.
func TestResolverThatNeverAnswered(t *testing.T) {
	var asked atomic.Int64
	n := newNames("example.org")
	n.resolver = silentResolver(&asked)
	first, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = n.lookup(first) })
	if !proxytest.Within(proxytest.Patience, func() bool { return asked.Load() > 0 }) {
		t.Fatal("no lookup begins")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.lookup(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the connect that waits got %v, want the end of the context", err)
	}
	stop()
	wait.Wait()
	before := asked.Load()
	if _, err := n.lookup(t.Context()); err == nil || asked.Load() != before {
		t.Errorf("%v, and asked again at once; want the error of before", err)
	}
}

// moving returns a pool of one server, whose name resolves to one address, and after move to
// another. serve gets "old" or "new".
func moving(t *testing.T, o Options, serve func(at string) func(*proxytest.Conn)) (b *Backend, move func()) {
	t.Helper()
	first := proxytest.NewOrigin(t, mptcp.Off, serve("old"))
	port := netip.MustParseAddrPort(first.Address()).Port()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	proxytest.OriginOn(t, l, serve("new"))
	var now atomic.Pointer[[]netip.Addr]
	to := func(a string) { list := addrs(a); now.Store(&list) }
	to("127.0.0.1")
	o.Servers = servers(fmt.Sprintf("name.example:%d", port))
	b, _ = pool(t, o, func(b *Backend) {
		b.list()[0].names.resolver = resolverOf(t, func() []netip.Addr { return *now.Load() })
	})
	return b, func() {
		to("127.0.0.2")
		b.list()[0].names.refresh(t.Context())
	}
}

// After a name has moved to another address, connections to the old one are not used again, neither
// idle ones nor those in use at that moment.
func TestNameThatMoves(t *testing.T) {
	b, move := moving(t, Options{}, func(at string) func(*proxytest.Conn) {
		return proxytest.Always(proxytest.Response("200 OK", at))
	})
	s := b.list()[0]
	if got := ask(t, b, "GET"); got != "old" {
		t.Fatalf("%q answered, want old", got)
	}
	var a Attempt
	a.Reset(b)
	used, err := a.Open(t.Context(), &Request{Now: time.Now(), Bodyless: true, Repeatable: true})
	if err != nil || !used.Reused() {
		t.Fatalf("%v; want the idle connection", err)
	}
	second, err := a.Reopen(t.Context(), &Request{Now: time.Now(), Bodyless: true, Repeatable: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := exchange(t, second, "GET"); got != "old" {
		t.Fatalf("%q answered, want old", got)
	}
	move()
	s.closeExpired(time.Now())
	if n := b.Status()[0].Idle; n != 0 {
		t.Errorf("%d idle connections to the old address", n)
	}
	if got := exchange(t, used, "GET"); got != "old" {
		t.Errorf("%q answered the exchange that was under way", got)
	}
	if got := ask(t, b, "GET"); got != "new" {
		t.Errorf("%q answered after the move, want new", got)
	}
}

// While the resolver does not answer, its last answer and the connections stay in use.
func TestNameWithoutAResolverKeepsItsConnections(t *testing.T) {
	b, _ := moving(t, Options{}, func(at string) func(*proxytest.Conn) {
		return proxytest.Always(proxytest.Response("200 OK", at))
	})
	s := b.list()[0]
	_ = ask(t, b, "GET")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.names.refresh(ended)
	s.closeExpired(time.Now())
	if n := b.Status()[0].Idle; n != 1 {
		t.Errorf("%d idle connections, want 1", n)
	}
}

// Connections to a name with several addresses are used for a while only; to one with a single
// address as long as it lasts.
func TestMaxNamedUse(t *testing.T) {
	n := newNames("example.org")
	s := &Server{names: n}
	l := &Link{server: s, addr: netip.MustParseAddr("192.0.2.1"), opened: time.Now()}
	late := l.opened.Add(maxNamedUse)
	for _, c := range []struct {
		addrs       []netip.Addr
		now, onTime bool
	}{
		{nil, false, false}, {addrs("192.0.2.1"), false, false}, {addrs("192.0.2.1", "192.0.2.2"), false, true}, {addrs("192.0.2.2"), true, true},
	} {
		if c.addrs != nil {
			n.snapshot.Store(&c.addrs)
		}
		if got := l.outdated(l.opened); got != c.now {
			t.Errorf("%v: outdated at once: %v", c.addrs, got)
		}
		if got := l.outdated(late); got != c.onTime {
			t.Errorf("%v: outdated after %v: %v", c.addrs, maxNamedUse, got)
		}
	}
	s.names = nil
	if l.outdated(late) {
		t.Error("a connection to a fixed address is outdated")
	}
}

// A shared connection to an old address of a name gets no further exchanges, and ends after those
// that it has.
func TestNameThatMovesHTTP2(t *testing.T) {
	first := proxytest.Listen(t, mptcp.Off)
	port := first.Addr().(*net.TCPAddr).Port
	second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	serveH2C(t, first)
	serveH2C(t, second)
	now := addrs("127.0.0.1")
	b, in := pool(t, Options{Servers: servers(fmt.Sprintf("name.example:%d", port)), Protocol: HTTP2}, func(b *Backend) {
		b.list()[0].names.addrs, b.list()[0].names.resolvedAt = now, time.Now().Add(time.Hour)
		b.list()[0].names.snapshot.Store(&now)
	})
	n := b.list()[0].names
	var a Attempt
	a.Reset(b)
	used, err := a.Open(t.Context(), &Request{Now: time.Now(), Bodyless: true, Repeatable: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := used.WriteHead(&message.Request{Method: []byte("GET"), Scheme: "http", Host: []byte("a.example"), Path: []byte("/"), ContentLength: message.Unknown}); err != nil {
		t.Fatal(err)
	}
	now2 := addrs("127.0.0.2")
	n.mu.Lock()
	n.addrs = now2
	n.snapshot.Store(&now2)
	n.mu.Unlock()
	b.list()[0].closeExpired(time.Now())
	if got := ask(t, b, "GET"); got != "HTTP/2.0" {
		t.Errorf("got %q", got)
	}
	conns := func() float64 { return proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_open") }
	if conns() != 2 {
		t.Errorf("%v connections, want the old one, which is in use, and a new one", conns())
	}
	used.Abort()
	used.Release(time.Now())
	proxytest.WaitMetric(t, in.Registry(), 1, "mpgate_backend_connections_open")
}
