package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pool makes a backend that runs as long as the test. Its origins speak TCP.
func pool(t *testing.T, o Options) (*Backend, *telemetry.Instruments) {
	t.Helper()
	o.Name, o.Instruments = "pool", telemetry.NewInstruments("test")
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { _ = b.Run(ctx) })
	t.Cleanup(func() { stop(); wait.Wait() })
	return b, o.Instruments
}

func silent(c *proxytest.Conn) { _, _ = c.R.ReadByte() }

func servers(addresses ...string) (list []ServerOptions) {
	for _, a := range addresses {
		list = append(list, ServerOptions{Address: a, MPTCP: mptcp.Off})
	}
	return list
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		servers []ServerOptions
		want    string
	}{
		{nil, `backend "b" has no servers`},
		{servers("example.org"), `backend "b": server "example.org": want host:port or unix:/path`},
		{servers("10.0.0.1:80", "[::1"), `backend "b": server "[::1": want host:port or unix:/path`},
		{servers("example.org:0"), `backend "b": server "example.org:0": want a port from 1 to 65535`},
		{servers("example.org:65536"), `backend "b": server "example.org:65536": want a port from 1 to 65535`},
		{servers("example.org:http"), `backend "b": server "example.org:http": want a port from 1 to 65535`},
	} {
		_, err := New(Options{Name: "b", Servers: c.servers})
		if err == nil || err.Error() != c.want {
			t.Errorf("%v: got %v, want %s", c.servers, err, c.want)
		}
	}
}

func TestTurnsFollowTheWeights(t *testing.T) {
	for _, c := range []struct {
		weights []int
		want    string
	}{
		{[]int{1}, "[0]"}, {[]int{1, 1, 1}, "[0 1 2]"}, {[]int{5, 1, 1}, "[0 0 1 0 2 0 0]"}, {[]int{1, 3}, "[1 0 1 1]"},
	} {
		if got := fmt.Sprint(mixTurns(c.weights)); got != c.want {
			t.Errorf("weights %v give %s, want %s", c.weights, got, c.want)
		}
	}
}

// open opens one attempt and ends it, and gives the server.
func open(t *testing.T, b *Backend) (server string, tries int, err error) {
	t.Helper()
	var a Attempt
	a.Reset(b)
	up, err := a.Open(context.Background(), &Request{Now: time.Now(), Repeatable: true, Bodyless: true})
	if err == nil {
		up.Abort()
		up.Release(time.Now())
	}
	if a.Server() != nil {
		server = a.Server().Address
	}
	return server, a.Tries(), err
}

func TestServersInTurn(t *testing.T) {
	one, two := proxytest.NewOrigin(t, mptcp.Off, silent), proxytest.NewOrigin(t, mptcp.Off, silent)
	list := servers(one.Address(), two.Address())
	list[0].Weight = 3
	b, _ := pool(t, Options{Servers: list})
	got := map[string]int{}
	for range 20 {
		server, tries, err := open(t, b)
		if err != nil || tries != 1 {
			t.Fatalf("%d tries, %v", tries, err)
		}
		got[server]++
	}
	if got[one.Address()] != 15 || got[two.Address()] != 5 {
		t.Errorf("got %v, want 15 and 5", got)
	}
}

func TestThreeTriesAtMost(t *testing.T) {
	var list []string
	for range 5 {
		list = append(list, proxytest.NewRefusing(t).Address)
	}
	b, in := pool(t, Options{Servers: servers(list...)})
	_, tries, err := open(t, b)
	if tries != 3 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%d tries, %v; want 3 and a refusal", tries, err)
	}
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_retries_total"); n != 2 {
		t.Errorf("%v retries, want 2", n)
	}
	if n := resting(b); n != 3 {
		t.Errorf("%d servers rest, want the 3 that were tried", n)
	}
	if _, tries, err = open(t, b); tries != 3 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%d tries, %v; want 3 and a refusal", tries, err)
	}
	for _, s := range b.Status() {
		if !s.Resting || s.Speaks != "" {
			t.Errorf("%+v does not rest", s)
		}
	}
}

func resting(b *Backend) (n int) {
	for _, s := range b.Status() {
		if s.Resting {
			n++
		}
	}
	return n
}

func TestServersWhoseConnectsTakeLongRest(t *testing.T) {
	b, _ := pool(t, Options{Servers: servers(proxytest.NewRefusing(t).Address, proxytest.NewRefusing(t).Address)})
	for _, s := range b.servers {
		s.restsLong.Store(true)
		s.restUntil.Store(time.Now().Add(time.Minute).UnixNano())
	}
	if _, tries, err := open(t, b); tries != 0 || err != ErrNoServer {
		t.Errorf("%d tries, %v; want %v", tries, err, ErrNoServer)
	}
}

// A server that refused is left alone for a second, as long as there is another one.
func TestServerThatRefusedIsLeftAlone(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	b, in := pool(t, Options{Servers: servers(proxytest.NewRefusing(t).Address, o.Address())})
	began := time.Now()
	for range 10 {
		if server, _, err := open(t, b); err != nil || server != o.Address() {
			t.Fatalf("%q, %v; want %s", server, err, o.Address())
		}
	}
	// A slow machine may come to a second rest, and a third.
	most := 1 + float64(time.Since(began)/rest)
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_retries_total"); n < 1 || n > most {
		t.Errorf("%v retries, want 1 for each second that began, %v", n, most)
	}
}

func TestOnlyServerThatIsBackIsUsedAtOnce(t *testing.T) {
	server := proxytest.NewRefusing(t)
	b, _ := pool(t, Options{Servers: servers(server.Address)})
	if _, _, err := open(t, b); err == nil {
		t.Fatal("nobody listens, and no error")
	}
	proxytest.OriginOn(t, server.Listen(), silent)
	if _, _, err := open(t, b); err != nil {
		t.Fatal(err)
	}
	if s := b.Status()[0]; s.Resting || s.Speaks != "tcp" {
		t.Errorf("%+v", s)
	}
}

func TestCloseEndsWhatWasKept(t *testing.T) {
	gone := make(chan struct{}, 1)
	o := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) { silent(c); gone <- struct{}{} })
	b, in := pool(t, Options{Servers: servers(o.Address())})
	s := b.servers[0]
	_, c, err := s.dial(context.Background(), Addresses{}, false)
	if err != nil {
		t.Fatal(err)
	}
	s.keep(c, time.Now())
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_idle"); n != 1 || b.Status()[0].Kept != 1 {
		t.Errorf("%v idle, %+v; want one", n, b.Status())
	}
	s.close()
	<-gone
	_, late, err := s.dial(context.Background(), Addresses{}, false)
	if err != nil {
		t.Fatal(err)
	}
	s.keep(late, time.Now()) // too late
	<-gone
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_open"); n != 0 {
		t.Errorf("%v open, want none", n)
	}
}

func TestConnectResults(t *testing.T) {
	for _, c := range []struct {
		err  error
		want telemetry.ConnectResult
	}{
		{nil, telemetry.ConnectOK},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, telemetry.ConnectRefused},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, telemetry.ConnectTimeout},
		{os.NewSyscallError("connect", syscall.ETIMEDOUT), telemetry.ConnectTimeout},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, telemetry.ConnectUnreachable},
		{os.NewSyscallError("connect", syscall.ENETUNREACH), telemetry.ConnectUnreachable},
		{os.NewSyscallError("connect", syscall.ENOENT), telemetry.ConnectUnreachable},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, telemetry.ConnectError},
		{errors.New("x"), telemetry.ConnectError},
	} {
		if got := connectResult(c.err); got != c.want {
			t.Errorf("%v is %v, want %v", c.err, got, c.want)
		}
	}
}

func TestNamesOutliveTheResolver(t *testing.T) {
	var n names
	addrs, err := n.lookup(context.Background(), "localhost")
	if err != nil || len(addrs) == 0 || !addrs[0].IsLoopback() {
		t.Fatalf("localhost is %v, %v", addrs, err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel() // a resolver that fails
	if again, err := n.lookup(ended, "localhost"); err != nil || again[0] != addrs[0] {
		t.Errorf("within its age: %v, %v", again, err)
	}
	n.at = time.Now().Add(-2 * maxNameAge)
	n.addrs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	if old, err := n.lookup(ended, "name.invalid"); err != nil || fmt.Sprint(old) != "[192.0.2.1]" {
		t.Errorf("without a resolver: %v, %v; want the old answer", old, err)
	}
	var none names
	if _, err := none.lookup(ended, "name.invalid"); err == nil {
		t.Error("a name that never was resolved gave no error")
	}
}

// TestSilentAddress: an address of a name that does not answer leaves time for the next one, and comes last for a while.
func TestSilentAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("waits 2 s for an address that is silent")
	}
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	good := netip.MustParseAddrPort(o.Address())
	bad := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), good.Port())
	proxytest.FullQueue(t, bad)
	b, _ := pool(t, Options{Servers: servers(fmt.Sprintf("name.invalid:%d", good.Port())), ConnectTimeout: 3 * time.Second})
	n := &b.servers[0].names
	n.addrs, n.at = []netip.Addr{bad.Addr(), good.Addr()}, time.Now().Add(time.Hour)
	for i, most := range []time.Duration{2900 * time.Millisecond, time.Second} {
		began := time.Now()
		if _, tries, err := open(t, b); err != nil || tries != 1 {
			t.Fatalf("connect %d: %v, after %d tries", i+1, err, tries)
		}
		if took := time.Since(began); took > most {
			t.Errorf("connect %d took %v, want at most %v", i+1, took, most)
		}
	}
	n.until = time.Now()
	addrs, err := n.ordered(t.Context(), "name.invalid")
	if err != nil || addrs[0] != bad.Addr() || n.addrs[0] != bad.Addr() {
		t.Errorf("after that it is %v, %v; want the resolver's order", addrs, err)
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

// TestSilentResolver: one that does not answer takes little of the time for a connect where its last answer is at hand.
func TestSilentResolver(t *testing.T) {
	silent := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	n := names{addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, at: time.Now().Add(-2 * maxNameAge), resolver: silent}
	began := time.Now()
	addrs, err := n.lookup(t.Context(), "example.org")
	if err != nil || fmt.Sprint(addrs) != "[192.0.2.1]" {
		t.Errorf("got %v, %v; want the old answer", addrs, err)
	}
	if took := time.Since(began); took < renewal || took > 3*renewal {
		t.Errorf("it took %v, want %v", took, renewal)
	}
	began = time.Now()
	if _, err := n.lookup(t.Context(), "example.org"); err != nil || time.Since(began) > renewal/2 {
		t.Errorf("asked at once again, %v", err)
	}
}

func TestRequiredMPTCPIsTold(t *testing.T) {
	proxytest.NeedMPTCP(t)
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	list := servers(o.Address())
	list[0].MPTCP = mptcp.Require
	b, _ := pool(t, Options{Servers: list})
	_, _, err := open(t, b)
	if !NeedsMPTCP(err) || !strings.Contains(err.Error(), "MPTCP is required") || TimedOut(err) {
		t.Errorf("got %v", err)
	}
	if b.Status()[0].Resting {
		t.Error("a server that speaks TCP rests")
	}
}

// A request that met its route just before a reload still gets its server, in either protocol.
func TestOpenAfterTheEnd(t *testing.T) {
	for _, p := range []Protocol{HTTP1, HTTP2} {
		l := proxytest.Listen(t, mptcp.Off)
		var protocols http.Protocols
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(true)
		s := &http.Server{Protocols: &protocols}
		go func() { _ = s.Serve(l) }()
		b, err := New(Options{Name: "b", Servers: servers(l.Addr().String()), Protocol: p, Instruments: telemetry.NewInstruments("t")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		stop()
		b.Run(ctx)
		var a Attempt
		a.Reset(b)
		up, err := a.Open(context.Background(), &Request{Bodyless: true, Repeatable: true, Now: time.Now()})
		if err != nil {
			t.Errorf("protocol %d: %v", p, err)
		} else {
			up.Abort()
			up.Release(time.Now())
		}
		s.Close()
	}
}

func TestUpIsMeasured(t *testing.T) {
	l := proxytest.Listen(t, mptcp.Off)
	address := l.Addr().String()
	l.Close()
	b, in := pool(t, Options{Servers: servers(address)})
	up := func() float64 {
		return proxytest.Metric(t, in.Registry(), "mpgate_backend_server_up", "backend", "pool", "server", address)
	}
	if up() != 1 {
		t.Error("a server that nobody has asked is not up")
	}
	began := time.Now()
	if _, _, err := open(t, b); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if got := up(); got != 0 && time.Since(began) < rest {
		t.Error("a server that has refused is up")
	}
	if !proxytest.Within(time.Minute, func() bool { return up() == 1 }) {
		t.Error("a server is not up again after its rest")
	}
}
