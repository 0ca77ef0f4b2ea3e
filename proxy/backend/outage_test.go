package backend

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// probingEvery shortens the time to the first probe of a server in an outage.
func probingEvery(d time.Duration) func(*Backend) {
	return func(b *Backend) { b.firstProbeDelay = d }
}

// waitAvailable waits until the first server is available, or until it is not.
func waitAvailable(t *testing.T, b *Backend, want bool) {
	t.Helper()
	if !proxytest.Within(proxytest.Patience, func() bool { return (b.list()[0].available(time.Now()) == available) == want }) {
		t.Fatalf("the server is available: %v", !want)
	}
}

// A server that does not answer delays the first request and no other: a task probes it.
func TestSilentServerCostsOneRequest(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	dead := proxytest.FullQueue(t, netip.MustParseAddrPort("127.0.0.1:0"))
	const timeout = 400 * time.Millisecond
	b, in := pool(t, Options{Servers: servers(dead, o.Address()), ConnectTimeout: timeout}, probingEvery(20*time.Millisecond))
	timeouts := func() float64 {
		return proxytest.Metric(t, in.Registry(), "mpgate_backend_connects_total", "server", dead, "transport", "tcp", "result", "timeout")
	}
	if server, tries, err := open(t, b); err != nil || tries != 2 || server != o.Address() {
		t.Fatalf("the first request: %s after %d tries, %v", server, tries, err)
	}
	for timeouts() < 3 {
		began := time.Now()
		server, tries, err := open(t, b)
		if err != nil || tries != 1 || server != o.Address() {
			t.Fatalf("%s after %d tries, %v; want %s at once", server, tries, err, o.Address())
		}
		if took := time.Since(began); took >= timeout {
			t.Fatalf("a request took %v while the server was probed", took)
		}
	}
}

// A server that refused a connection gets no requests until a probe succeeds, whose connection then
// serves the first request.
func TestServerThatIsBack(t *testing.T) {
	server := proxytest.NewRefusing(t)
	other := proxytest.NewOrigin(t, mptcp.Off, silent)
	b, in := pool(t, Options{Servers: servers(server.Address, other.Address())}, probingEvery(10*time.Millisecond))
	up := func() float64 {
		return proxytest.Metric(t, in.Registry(), "mpgate_backend_server_up", "backend", "pool", "server", server.Address)
	}
	if up() != 1 {
		t.Error("a server is not up before its first request")
	}
	for range 10 {
		if server, _, err := open(t, b); err != nil || server != other.Address() {
			t.Fatalf("%q, %v; want %s", server, err, other.Address())
		}
	}
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_retries_total"); n != 1 {
		t.Errorf("%v retries, want that of the first request", n)
	}
	if up() != 0 || !b.Status()[0].Down {
		t.Error("a server that refuses is up")
	}
	proxytest.OriginOn(t, server.Listen(), proxytest.Echo)
	waitAvailable(t, b, true)
	if up() != 1 {
		t.Error("a server that is back is not up")
	}
	if !proxytest.Within(proxytest.Patience, func() bool { return b.Status()[0].Idle == 1 }) {
		t.Fatal("the connection of the probe is not idle")
	}
	s := b.list()[0]
	c := s.takeIdle(true, true)
	if c == nil {
		t.Fatal("no connection to take")
	}
	if got := exchange(t, c, "GET"); got != "GET / " {
		t.Errorf("got %q", got)
	}
}

// The same with HTTP/2: the probe's connection carries the exchanges to come.
func TestServerThatIsBackHTTP2(t *testing.T) {
	server := proxytest.NewRefusing(t)
	b, in := pool(t, Options{Servers: servers(server.Address), Protocol: HTTP2}, probingEvery(10*time.Millisecond))
	if _, _, err := open(t, b); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("got %v, want a refusal", err)
	}
	serveH2C(t, server.Listen())
	waitAvailable(t, b, true)
	h := &b.list()[0].shared
	settled := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.conns) == 1 && h.conns[0].ready
	}
	if !proxytest.Within(proxytest.Patience, settled) {
		t.Fatal("the probe's connection is not ready")
	}
	if got := ask(t, b, "GET"); got != "HTTP/2.0" {
		t.Errorf("got %q", got)
	}
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_open"); n != 1 {
		t.Errorf("%v connections, want that of the probe", n)
	}
}

// serveH2C answers with the protocol of the request.
func serveH2C(t *testing.T, l net.Listener) {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Proto))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
}

// With a PROXY header the connection of a probe is closed, because its header names no client.
func TestProbeWithProxyHeader(t *testing.T) {
	for _, p := range []Protocol{HTTP1, HTTP2} {
		server := proxytest.NewRefusing(t)
		b, in := pool(t, Options{Servers: servers(server.Address), SendProxy: 1, Protocol: p}, probingEvery(10*time.Millisecond))
		if _, _, err := open(t, b); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("got %v, want a refusal", err)
		}
		proxytest.OriginOn(t, server.Listen(), silent)
		waitAvailable(t, b, true)
		proxytest.WaitMetric(t, in.Registry(), 0, "mpgate_backend_connections_open")
		if n := b.Status()[0].Idle; n != 0 {
			t.Errorf("protocol %d: %d idle connections", p, n)
		}
	}
}

// A server counts as not reachable if its TLS handshakes fail or do not end.
func TestServerWithoutTLS(t *testing.T) {
	for name, serve := range map[string]func(*proxytest.Conn){"silent": func(c *proxytest.Conn) { _, _ = c.R.ReadString(0) }, "closes": func(*proxytest.Conn) {}} {
		o := proxytest.NewOrigin(t, mptcp.Off, serve)
		b, _ := pool(t, Options{
			Servers: servers(o.Address()), ConnectTimeout: time.Second,
			TLS: func(string) (*tls.Config, error) { return &tls.Config{InsecureSkipVerify: true}, nil },
		})
		_, _, err := open(t, b)
		var handshake *TLSError
		if !errors.As(err, &handshake) {
			t.Fatalf("%s: got %v, want a handshake that failed", name, err)
		}
		if b.list()[0].available(time.Now()) == available {
			t.Errorf("%s: the server is available", name)
		}
	}
}

// An outage ends with the connect of a request, too, and another may follow.
func TestOutageAfterOutage(t *testing.T) {
	b, _ := pool(t, Options{Servers: servers(proxytest.NewRefusing(t).Address)})
	s := b.list()[0]
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for range 3 {
		s.connectFailed(refused)
		s.connectFailed(refused)
		if s.available(time.Now()) == available {
			t.Error("a server that refuses is available")
		}
		s.connectSucceeded()
		s.connectSucceeded()
		if s.available(time.Now()) != available {
			t.Error("a server that was reached is not available")
		}
	}
	s.connectFailed(syscall.EMFILE)
	s.connectFailed(syscall.EADDRNOTAVAIL)
	if s.available(time.Now()) != available {
		t.Error("a shortage on this host counts as a failure of the server")
	}
}
