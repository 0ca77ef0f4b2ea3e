package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/dnstest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/message"
	"mpgate/proxy/resolve"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// asks returns options for names that are resolved by a server.
func asks(s *dnstest.Server) Resolve { return Resolve{Servers: []netip.AddrPort{s.Addr}} }

// namesOf returns a name that is resolved by a server, with a search list that is empty.
func namesOf(t *testing.T, host string, s *dnstest.Server) *names {
	t.Helper()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("options attempts:1 timeout:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return newNames(host, resolve.New(resolve.Options{Servers: []netip.AddrPort{s.Addr}, ResolvConf: file, Hosts: file}))
}

// again makes a lookup as if the last answer had expired.
func again(n *names) ([]netip.Addr, error) {
	renewOne(&n.resolved)
	list, _, err := n.cached()
	return list, err
}

// follow keeps a name fresh until the test or the context ends.
func follow(ctx context.Context, t *testing.T, n *names) {
	ctx, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		n.keepFresh(ctx, func() bool { return false }, func(bool, error) {}, nil)
	})
	t.Cleanup(func() { stop(); wait.Wait() })
}

// What a resolver says while it fails or is wrong takes no known address away.
func TestNamesOutliveTheResolver(t *testing.T) {
	s := dnstest.New(t)
	s.Set("api.example. 60 IN A 192.0.2.1", "api.example. 60 IN AAAA 2001:db8::1")
	n := namesOf(t, "api.example", s)
	const want = "[2001:db8::1 192.0.2.1]"
	if list, err := again(n); err != nil || fmt.Sprint(list) != want {
		t.Fatalf("%v, %v; want %s", list, err, want)
	}
	s.Set("api.example. 60 IN A "+dnstest.Forged, "api.example. 60 IN AAAA ::")
	for _, mode := range []dnstest.Mode{dnstest.ServFail, dnstest.NXDomain, dnstest.Empty, dnstest.Refused, dnstest.Malformed, dnstest.Garbage} {
		s.Behave(mode)
		for range 2 {
			if list, err := again(n); err != nil || fmt.Sprint(list) != want {
				t.Errorf("mode %d: %v, %v; want %s", mode, list, err, want)
			}
			if mode == dnstest.Garbage {
				break // it takes a second
			}
		}
	}
	if left := time.Until(n.expires); left > maxRetry {
		t.Errorf("the next lookup is in %v, want at most %v", left, maxRetry)
	}
	s.Behave(dnstest.Normal)
	s.Set("api.example. 60 IN A 192.0.2.2", "api.example. 60 IN AAAA 2001:db8::1")
	if list, err := again(n); err != nil || fmt.Sprint(list) != "[2001:db8::1 192.0.2.2]" {
		t.Errorf("after that: %v, %v", list, err)
	}
}

// The addresses of one family are gone once two answers in a row say so, and soon asked for again
// after the first.
func TestFamilyThatGoes(t *testing.T) {
	s := dnstest.New(t)
	s.Set("api.example. 60 IN A 192.0.2.1", "api.example. 60 IN AAAA 2001:db8::1")
	n := namesOf(t, "api.example", s)
	_, _ = again(n)
	s.Set("api.example. 60 IN A 192.0.2.2")
	if list, _ := again(n); fmt.Sprint(list) != "[2001:db8::1 192.0.2.2]" || time.Until(n.expires) > confirmAfter {
		t.Errorf("after one answer without AAAA: %v for %v", list, time.Until(n.expires))
	}
	if list, _ := again(n); fmt.Sprint(list) != "[192.0.2.2]" || time.Until(n.expires) < 50*time.Second {
		t.Errorf("after two: %v for %v", list, time.Until(n.expires))
	}
}

// An answer is used as long as its TTL says, or as Every says.
func TestTTL(t *testing.T) {
	s := dnstest.New(t)
	s.Set("api.example. 60 IN A 192.0.2.1", "api.example. 30 IN AAAA 2001:db8::1")
	n := namesOf(t, "api.example", s)
	for _, c := range []struct{ every, want time.Duration }{{0, 30 * time.Second}, {2 * time.Minute, 2 * time.Minute}} {
		n.every = c.every
		_, _ = again(n)
		if left := time.Until(n.expires); left > c.want || left < c.want-20*time.Second {
			t.Errorf("every %v: for %v, want %v", c.every, left, c.want)
		}
		asked := s.Asked("api.example", "A")
		if _, err := n.lookup(t.Context()); err != nil || s.Asked("api.example", "A") != asked {
			t.Errorf("%v, or asked within the time", err)
		}
	}
}

// silentNames returns names whose lookups end with their contexts, or when the test answers. It
// counts them.
func silentNames(known ...netip.Addr) (n *names, asked *atomic.Int64, answers chan found[netip.Addr]) {
	n, asked, answers = &names{}, new(atomic.Int64), make(chan found[netip.Addr])
	n.resolved = newResolved("example.org", func(ctx context.Context) found[netip.Addr] {
		asked.Add(1)
		select {
		case f := <-answers:
			return f
		case <-ctx.Done():
			return found[netip.Addr]{err: ctx.Err()}
		}
	})
	if n.list = known; known != nil {
		n.snapshot.Store(&n.list)
	}
	return n, asked, answers
}

// ended returns a context that has ended.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// A resolver that does not answer takes little of the time for a connect if its last answer is at
// hand. The lookup goes on.
func TestSilentResolver(t *testing.T) {
	n, asked, answers := silentNames(addrs("192.0.2.1")...)
	follow(t.Context(), t, n)
	for i := range 2 { // the second finds that the resolver was just asked
		list, err := n.lookup(t.Context())
		if err != nil || fmt.Sprint(list) != "[192.0.2.1]" || asked.Load() != 1 {
			t.Errorf("lookup %d: %v, %v, after %d questions; want the old answer after one", i, list, err, asked.Load())
		}
	}
	answers <- found[netip.Addr]{list: addrs("192.0.2.2"), ttl: time.Minute}
	moved := func() bool {
		list, _ := n.lookup(t.Context())
		return fmt.Sprint(list) == "[192.0.2.2]"
	}
	if !proxytest.Within(proxytest.Patience, moved) || asked.Load() != 1 {
		t.Errorf("the answer is not used, after %d questions", asked.Load())
	}
	// A connect that finds the answer too old does not wait until the task looks by itself.
	n.mu.Lock()
	n.expires = time.Time{}
	n.mu.Unlock()
	if list, err := n.lookup(t.Context()); err != nil || fmt.Sprint(list) != "[192.0.2.2]" {
		t.Errorf("got %v, %v; want the old answer", list, err)
	}
	if !proxytest.Within(proxytest.Patience, func() bool { return asked.Load() == 2 }) {
		t.Error("no lookup begins")
	}
}

// While a refresh waits for a resolver, no connect does.
func TestNoConnectWaitsForARefresh(t *testing.T) {
	n, asked, _ := silentNames(addrs("192.0.2.1")...)
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { n.refresh(ctx) })
	defer func() { stop(); wait.Wait() }()
	if !proxytest.Within(proxytest.Patience, func() bool { return asked.Load() > 0 }) {
		t.Fatal("no lookup begins")
	}
	if list, err := n.lookup(ended(t)); err != nil || fmt.Sprint(list) != "[192.0.2.1]" || len(n.wanted) > 0 {
		t.Errorf("got %v, %v, wants %d lookups; want the old answer", list, err, len(n.wanted))
	}
}

// For a name that was never resolved there is one lookup for all connects that wait. One whose
// context ends takes nothing away from the others.
func TestResolverThatNeverAnswered(t *testing.T) {
	n, asked, answers := silentNames()
	follow(t.Context(), t, n)
	if _, err := n.lookup(ended(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("the connect that waits got %v, want the end of the context", err)
	}
	got := make(chan error, 2)
	for range cap(got) {
		go func() {
			_, err := n.lookup(t.Context())
			got <- err
		}()
	}
	wrong := errors.New("wrong")
	answers <- found[netip.Addr]{err: wrong}
	for range cap(got) {
		if err := await(t, got); err != wrong {
			t.Errorf("got %v, want the error of the lookup", err)
		}
	}
	if _, err := n.lookup(ended(t)); err != wrong || asked.Load() != 1 {
		t.Errorf("%v after %d lookups, want the error of the first", err, asked.Load())
	}
}

// A lookup that ends with its backend says nothing about the name: another backend that has it asks
// again, and who waits gets that answer.
func TestLookupOfABackendThatEnds(t *testing.T) {
	n, asked, answers := silentNames()
	first, stop := context.WithCancel(t.Context())
	follow(first, t, n)
	got := make(chan string, 1)
	go func() {
		list, err := n.lookup(t.Context())
		got <- fmt.Sprint(list, err)
	}()
	if !proxytest.Within(proxytest.Patience, func() bool { return asked.Load() > 0 }) {
		t.Fatal("no lookup begins")
	}
	follow(t.Context(), t, n)
	stop()
	if !proxytest.Within(proxytest.Patience, func() bool { return asked.Load() > 1 }) {
		t.Fatal("no further lookup begins")
	}
	answers <- found[netip.Addr]{list: addrs("192.0.2.2"), ttl: time.Minute}
	if s := await(t, got); s != "[192.0.2.2] <nil>" {
		t.Errorf("got %s", s)
	}
}

// renew resolves all names of a backend again, as if their answers had expired.
func renew(b *Backend) {
	known := b.options.Names
	known.mu.Lock()
	var renewals []func()
	for _, n := range known.hosts {
		renewals = append(renewals, func() { renewOne(&n.resolved) })
	}
	for _, s := range known.services {
		renewals = append(renewals, func() { renewOne(&s.resolved) })
	}
	known.mu.Unlock()
	for _, f := range renewals {
		f()
	}
	_ = b.assemble()
	for _, s := range b.list() {
		s.closeExpired(time.Now())
	}
}

func renewOne[T any](n *resolved[T]) {
	n.resolving <- struct{}{}
	n.mu.Lock()
	n.expires = time.Time{}
	n.mu.Unlock()
	n.resolve(context.Background())
}

// moving returns a pool of one server, whose name resolves to one address, and after move to
// another. serve gets "old" or "new".
func moving(t *testing.T, o Options, entry ServerOptions, serve func(at string) func(*proxytest.Conn)) (b *Backend, s *dnstest.Server, move func()) {
	t.Helper()
	first := proxytest.NewOrigin(t, mptcp.Off, serve("old"))
	port := netip.MustParseAddrPort(first.Address()).Port()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	proxytest.OriginOn(t, l, serve("new"))
	s = dnstest.New(t)
	s.Set("name.example. 300 IN A 127.0.0.1")
	entry.Address, entry.MPTCP = fmt.Sprintf("name.example.:%d", port), mptcp.Off
	o.Servers, o.Resolve = []ServerOptions{entry}, asks(s)
	b, _ = pool(t, o)
	return b, s, func() {
		s.Set("name.example. 300 IN A 127.0.0.2")
		renew(b)
	}
}

// answering answers each request with a text.
func answering(text string) func(*proxytest.Conn) {
	return proxytest.Always(proxytest.Response("200 OK", text))
}

// After a name has moved to another address, connections to the old one are not used again, neither
// idle ones nor those in use at that moment.
func TestNameThatMoves(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all=%v", all), func(t *testing.T) {
			b, _, move := moving(t, Options{}, ServerOptions{All: all}, answering)
			if got := ask(t, b, "GET"); got != "old" {
				t.Fatalf("%q answered, want old", got)
			}
			var a Attempt
			a.Reset(b)
			used, err := a.Open(t.Context(), &Request{Now: time.Now(), Bodyless: true, Repeatable: true})
			if err != nil || !used.Reused() {
				t.Fatalf("%v; want the idle connection", err)
			}
			old := a.Server()
			second, err := a.Reopen(t.Context(), &Request{Now: time.Now(), Bodyless: true, Repeatable: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := exchange(t, second, "GET"); got != "old" {
				t.Fatalf("%q answered, want old", got)
			}
			move()
			if got := ask(t, b, "GET"); got != "new" {
				t.Errorf("%q answered after the move", got)
			}
			if got := exchange(t, used, "GET"); got != "old" {
				t.Errorf("%q answered the exchange that was under way", got)
			}
			want := 0
			if !all {
				want = 1 // that of the new address
			}
			if n := old.status(time.Now()).Idle; n != want {
				t.Errorf("%d idle connections, want %d", n, want)
			}
			if got := b.list()[0] == old; got == all {
				t.Errorf("the same server: %v", got)
			}
		})
	}
}

// Under steady traffic a name that has moved is followed, and no request fails.
func TestNameThatMovesUnderLoad(t *testing.T) {
	t.Run("HTTP/1, all", func(t *testing.T) {
		t.Parallel()
		testMoveUnderLoad(t, true, HTTP1)
	})
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		testMoveUnderLoad(t, false, HTTP2)
	})
}

func testMoveUnderLoad(t *testing.T, all bool, protocol Protocol) {
	s := dnstest.New(t)
	s.Set("name.example. 1 IN A 127.0.0.1")
	first := proxytest.Listen(t, mptcp.Off)
	port := first.Addr().(*net.TCPAddr).Port
	second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	var served [2]atomic.Int64
	for i, l := range []net.Listener{first, second} {
		if protocol == HTTP2 {
			serveH2C(t, countedListener{l, &served[i]})
		} else {
			proxytest.OriginOn(t, l, func(c *proxytest.Conn) {
				for c.Request() != nil && c.Send(proxytest.Response("200 OK", "x")) {
					served[i].Add(1)
				}
			})
		}
	}
	b, in := pool(t, Options{Protocol: protocol, Resolve: asks(s), Servers: []ServerOptions{{
		Address: fmt.Sprintf("name.example.:%d", port), All: all, MPTCP: mptcp.Off,
	}}})
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer func() { stop(); load.Wait() }()
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				_ = ask(t, b, "GET")
			}
		})
	}
	wait := func(i int) {
		t.Helper()
		if !proxytest.Within(proxytest.Patience, func() bool { return served[i].Load() > 0 }) {
			t.Fatalf("nothing arrives at server %d", i)
		}
	}
	wait(0)
	s.Set("name.example. 1 IN A 127.0.0.2")
	moved := time.Now()
	wait(1)
	t.Logf("followed after %v", time.Since(moved))
	stop()
	load.Wait()
	open := func() float64 { return proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_open") }
	if !proxytest.Within(proxytest.Patience, func() bool { return open() <= 4 }) {
		t.Errorf("%v connections are open, want only those to the new address", open())
	}
}

// countedListener counts what arrives on its connections.
type countedListener struct {
	net.Listener
	n *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// While the resolver does not answer, its last answer and the connections stay in use.
func TestNameWithoutAResolverKeepsItsConnections(t *testing.T) {
	for _, all := range []bool{false, true} {
		b, s, _ := moving(t, Options{}, ServerOptions{All: all}, answering)
		_ = ask(t, b, "GET")
		s.Behave(dnstest.NXDomain)
		renew(b)
		if n := b.Status()[0].Idle; n != 1 {
			t.Errorf("all=%v: %d idle connections, want 1", all, n)
		}
	}
}

// Connections to a name with several addresses are used for a while only; to one with a single
// address as long as it lasts.
func TestMaxNamedUse(t *testing.T) {
	n := newNames("example.org", nil)
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
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all=%v", all), func(t *testing.T) { testMoveHTTP2(t, all) })
	}
}

func testMoveHTTP2(t *testing.T, all bool) {
	first := proxytest.Listen(t, mptcp.Off)
	port := first.Addr().(*net.TCPAddr).Port
	second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	var reached atomic.Int64
	serveH2C(t, first)
	serveH2C(t, countedListener{second, &reached})
	dns := dnstest.New(t)
	dns.Set("name.example. 300 IN A 127.0.0.1")
	b, in := pool(t, Options{Protocol: HTTP2, Resolve: asks(dns), Servers: []ServerOptions{{
		Address: fmt.Sprintf("name.example.:%d", port), All: all, MPTCP: mptcp.Off,
	}}})
	var a Attempt
	a.Reset(b)
	used, err := a.Open(t.Context(), &Request{Now: time.Now(), Bodyless: true, Repeatable: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := used.WriteHead(&message.Request{Method: []byte("GET"), Scheme: "http", Host: []byte("a.example"), Path: []byte("/"), ContentLength: message.Unknown}); err != nil {
		t.Fatal(err)
	}
	dns.Set("name.example. 300 IN A 127.0.0.2")
	renew(b)
	if got := ask(t, b, "GET"); got != "HTTP/2.0" || reached.Load() != 1 {
		t.Errorf("%q; want a request at the new address", got)
	}
	conns := func() float64 { return proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_open") }
	if conns() != 2 {
		t.Errorf("%v connections, want the old one, which is in use, and a new one", conns())
	}
	used.Abort()
	used.Release(time.Now())
	proxytest.WaitMetric(t, in.Registry(), 1, "mpgate_backend_connections_open")
}

// It is reported once that a name no longer resolves, and once that it resolves again.
func TestStaleNameIsReported(t *testing.T) {
	s := dnstest.New(t)
	var said []string
	tell := func(known bool, err error) { said = append(said, fmt.Sprint(known, err == nil)) }
	n := namesOf(t, "moved.example", s)
	reported := false
	for _, c := range []struct {
		mode dnstest.Mode
		want string
	}{
		{dnstest.ServFail, ""}, {dnstest.ServFail, "false false"}, {dnstest.Normal, "false false, true true"}, {dnstest.NXDomain, "false false, true true"},
		{dnstest.Normal, "false false, true true"}, {dnstest.ServFail, "false false, true true"}, {dnstest.ServFail, "false false, true true, true false"},
		{dnstest.ServFail, "false false, true true, true false"}, {dnstest.Normal, "false false, true true, true false, true true"},
	} {
		s.Set("moved.example. 60 IN A 192.0.2.7")
		s.Behave(c.mode)
		_, _ = again(n)
		reported = n.reportFailures(reported, tell)
		if got := strings.Join(said, ", "); got != c.want {
			t.Fatalf("reported %q, want %q", got, c.want)
		}
	}
}

// What one backend knows about a name, another one that shares Names knows at once, also if the
// resolver is silent by then: a reload that changes the backend stops no traffic.
func TestNamesAreShared(t *testing.T) {
	for _, all := range []bool{false, true} {
		var known Names
		b, s, _ := moving(t, Options{Names: &known}, ServerOptions{All: all}, answering)
		_ = ask(t, b, "GET")
		s.Behave(dnstest.Silent)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		next, err := New(Options{Name: "next", Names: &known, Servers: b.options.Servers, Resolve: asks(s)})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- next.Run(ctx) }()
		if got := ask(t, next, "GET"); got != "old" {
			t.Errorf("all=%v: %q answers", all, got)
		}
		cancel()
		<-ended
		if n := len(known.hosts); n != 1 {
			t.Errorf("all=%v: %d names, want that of the first backend", all, n)
		}
	}
}
