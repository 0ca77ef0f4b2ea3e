package backend

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/dnstest"
	"mpgate/internal/need"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// nginx starts nginx with the content of a server block, on a unix socket, and returns its address
// and its directory.
func nginx(t *testing.T, server string) (address, dir string) {
	t.Helper()
	bin := need.Program(t, "nginx", "nginx")
	dir = t.TempDir()
	socket := filepath.Join(dir, "s")
	conf := fmt.Sprintf(`user root; daemon off; pid %[1]s/pid; error_log %[1]s/error.log; worker_processes 1;
events { worker_connections 64; }
http { access_log %[1]s/access.log; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
server { listen unix:%[1]s/s; %[2]s } }
`, dir, server)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-e", filepath.Join(dir, "error.log"), "-p", dir, "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	if !proxytest.Within(proxytest.Patience, func() bool { _, err := os.Stat(socket); return err == nil }) {
		text, _ := os.ReadFile(filepath.Join(dir, "error.log"))
		t.Fatalf("nginx does not start: %s", text)
	}
	return "unix:" + socket, dir
}

// waitWhy waits until the first server is down for a reason, or up if that is "".
func waitWhy(t *testing.T, b *Backend, why string) {
	t.Helper()
	var s ServerStatus
	if !proxytest.Within(proxytest.Patience, func() bool {
		s = b.Status()[0]
		return s.Down == (why != "") && strings.Contains(s.Why, why)
	}) {
		t.Fatalf("status %+v; want it down because of %q", s, why)
	}
}

// nginx says by the status of a path whether it wants requests, and is taken at its word.
func TestHTTPCheckOfNginx(t *testing.T) {
	address, dir := nginx(t, `
		location = /healthz { if (-f $document_root/off) { return 503; } return 200 "all is well\n"; }
		root html; keepalive_timeout 30s;`)
	if err := os.Mkdir(filepath.Join(dir, "html"), 0o755); err != nil {
		t.Fatal(err)
	}
	off := filepath.Join(dir, "html", "off")
	other := proxytest.NewOrigin(t, mptcp.Off, silent)
	o := Options{
		Servers: []ServerOptions{{Address: address}, {Address: other.Address(), MPTCP: mptcp.Off}},
		Check:   &CheckOptions{Path: "/healthz?full", Interval: 10 * time.Millisecond, Timeout: proxytest.Patience, Body: "well"},
	}
	b, in := pool(t, o, func(b *Backend) { b.list()[1].setAdminState(AdminDown) })
	checked := func(result string, more float64) {
		t.Helper()
		had := proxytest.Metric(t, in.Registry(), "mpgate_backend_server_checks_total", "server", address, "result", result)
		if !proxytest.Within(proxytest.Patience, func() bool {
			return proxytest.Metric(t, in.Registry(), "mpgate_backend_server_checks_total", "server", address, "result", result) >= had+more
		}) {
			t.Fatalf("no more checks are %s", result)
		}
	}
	checked("ok", 5)
	waitWhy(t, b, "")
	if err := os.WriteFile(off, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	waitWhy(t, b, "GET /healthz?full: status 503; want 200-399")
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_server_up", "server", address); n != 0 {
		t.Error("the server is up in the metrics")
	}
	checked("failed", 3)
	if err := os.Remove(off); err != nil {
		t.Fatal(err)
	}
	waitWhy(t, b, "")
	log, err := os.ReadFile(filepath.Join(dir, "access.log"))
	if err != nil || !strings.Contains(string(log), `"GET /healthz?full HTTP/1.1" 503`) || !strings.Contains(string(log), "mpgate-check") {
		t.Errorf("nginx logged %q, %v", log, err)
	}
}

// countConns counts the connections of a server.
func countConns(s *httptest.Server) *atomic.Int64 {
	n := new(atomic.Int64)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			n.Add(1)
		}
	}
	return n
}

// What a check asks and expects, in each protocol. The connection is kept from check to check.
func TestHTTPCheckProtocols(t *testing.T) {
	for _, c := range []struct {
		name     string
		protocol Protocol
		tls      bool
		proto    string
	}{{"h1", HTTP1, false, "HTTP/1.1"}, {"h1 over TLS", HTTP1, true, "HTTP/1.1"}, {"h2c", HTTP2, false, "HTTP/2.0"}, {"h2", HTTP2, true, "HTTP/2.0"}, {"auto", Auto, true, "HTTP/2.0"}} {
		t.Run(c.name, func(t *testing.T) {
			var asked, status atomic.Value
			var n atomic.Int64
			status.Store(204)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Store(fmt.Sprintf("%s %s %s %s %s", r.Method, r.Host, r.URL, r.Proto, r.UserAgent()))
				w.WriteHeader(status.Load().(int))
				n.Add(1)
			}))
			conns := countConns(server)
			o := Options{
				Protocol: c.protocol,
				Check: &CheckOptions{Path: "/up", Method: "HEAD", Host: "app.example", Interval: 5 * time.Millisecond, Timeout: proxytest.Patience,
					Statuses: []StatusRange{{204, 204}}},
			}
			if c.tls {
				server.EnableHTTP2 = true
				server.StartTLS()
				roots := x509.NewCertPool()
				roots.AddCert(server.Certificate())
				o.TLS = func(string) (*tls.Config, error) { return &tls.Config{RootCAs: roots, ServerName: "example.com"}, nil }
			} else {
				server.Config.Protocols = new(http.Protocols)
				server.Config.Protocols.SetHTTP1(true)
				server.Config.Protocols.SetUnencryptedHTTP2(true)
				server.Start()
			}
			t.Cleanup(server.Close)
			o.Servers = servers(server.Listener.Addr().String())
			b, in := pool(t, o)
			if !proxytest.Within(proxytest.Patience, func() bool { return n.Load() >= 20 }) {
				t.Fatal("no checks")
			}
			if want := "HEAD app.example /up " + c.proto + " mpgate-check"; asked.Load() != want {
				t.Errorf("got %q, want %q", asked.Load(), want)
			}
			waitWhy(t, b, "")
			if conns.Load() != 1 {
				t.Errorf("%d connections for the checks, want 1", conns.Load())
			}
			if n := b.Status()[0].InProgress; n != 0 {
				t.Errorf("%d requests in progress, want that checks do not count", n)
			}
			status.Store(200)
			waitWhy(t, b, "HEAD /up: status 200; want 204")
			if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_server_changes_total", "state", "down", "reason", "check"); n != 1 {
				t.Errorf("%v changes are counted, want 1", n)
			}
		})
	}
}

// waits reads until the client leaves.
func waits(c *proxytest.Conn) { _, _ = io.Copy(io.Discard, c.R) }

// What a server can do wrong in a check.
func TestFailedHTTPChecks(t *testing.T) {
	write := func(s string) func(*proxytest.Conn) {
		return func(c *proxytest.Conn) {
			for {
				if c.Request() == nil {
					return
				}
				c.Send(s)
			}
		}
	}
	for name, c := range map[string]struct {
		serve   func(*proxytest.Conn)
		timeout time.Duration
		want    string
	}{
		"closes":  {func(c *proxytest.Conn) { c.Request() }, 0, "GET /: the server closed the connection without a complete response"},
		"silent":  {waits, 50 * time.Millisecond, "GET /: no answer within 50ms"},
		"garbage": {write("hello\r\n\r\n"), 0, "GET /: "},
		"body":    {write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"), 0, `GET /: the response does not contain "good"`},
		"half":    {func(c *proxytest.Conn) { c.Request(); c.Send("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\ngood") }, 0, "GET /: the server closed the connection without a complete response"},
		"slow body": {func(c *proxytest.Conn) {
			c.Request()
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\ngood")
			waits(c)
		}, 50 * time.Millisecond, "GET /: no answer within 50ms"},
		"switching":  {write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), 0, "GET /: "},
		"large body": {write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 99995) + "good\n"), 0, `GET /: the response does not contain "good"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := proxytest.NewOrigin(t, mptcp.Off, c.serve)
			timeout := c.timeout
			if timeout == 0 {
				timeout = proxytest.Patience
			}
			b, _ := pool(t, Options{Servers: servers(origin.Address()), Check: &CheckOptions{Path: "/", Body: "good", Interval: 5 * time.Millisecond, Timeout: timeout}})
			waitWhy(t, b, c.want)
		})
	}
}

// A server that closes its idle connections passes its checks.
func TestCheckOnClosedConnections(t *testing.T) {
	var conns atomic.Int64
	origin := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		conns.Add(1)
		if c.Request() != nil {
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	var downs atomic.Int64
	b, _ := pool(t, Options{
		Servers: servers(origin.Address()), Check: &CheckOptions{Path: "/", Interval: 5 * time.Millisecond, Timeout: proxytest.Patience, Fall: 1},
		Down: func(string, error) { downs.Add(1) },
	})
	if !proxytest.Within(proxytest.Patience, func() bool { return conns.Load() >= 20 }) {
		t.Fatal("no checks")
	}
	if waitWhy(t, b, ""); downs.Load() != 0 {
		t.Error("a server that closes idle connections is down")
	}
}

// Checks use MPTCP as requests do.
func TestChecksUseMPTCP(t *testing.T) {
	proxytest.NeedMPTCP(t)
	for name, check := range map[string]CheckOptions{"http": {Path: "/"}, "connect": {}} {
		origin := proxytest.NewOrigin(t, mptcp.Require, func(c *proxytest.Conn) {
			for c.Request() != nil {
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
		check.Interval, check.Timeout = 10*time.Millisecond, proxytest.Patience
		b, in := pool(t, Options{Servers: []ServerOptions{{Address: origin.Address(), MPTCP: mptcp.Require}}, Check: &check})
		if !proxytest.Within(proxytest.Patience, func() bool {
			return proxytest.Metric(t, in.Registry(), "mpgate_backend_server_checks_total", "result", "ok") >= 3
		}) {
			t.Errorf("%s: no successful checks: %+v", name, b.Status())
		}
		if got := b.Status()[0].Transport; got != "mptcp" {
			t.Errorf("%s: the checks use %q, want mptcp", name, got)
		}
	}
}

// Checks have connections beside those of MaxConnections: they keep no request out, and a server
// that is busy is checked.
func TestChecksBesideMaxConnections(t *testing.T) {
	for name, protocol := range map[string]Protocol{"h1": HTTP1, "h2c": HTTP2} {
		t.Run(name, func(t *testing.T) {
			var checks atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/up" {
					checks.Add(1)
					w.Header().Set("Connection", "close") // a connection for each check
				}
			}))
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetHTTP1(protocol == HTTP1)
			server.Config.Protocols.SetUnencryptedHTTP2(protocol == HTTP2)
			server.Start()
			t.Cleanup(server.Close)
			b, in := pool(t, Options{
				Servers: servers(server.Listener.Addr().String()), Protocol: protocol, MaxConnections: 1,
				Check: &CheckOptions{Path: "/up", Interval: 5 * time.Millisecond, Timeout: proxytest.Patience},
			})
			checked := func() {
				t.Helper()
				n := checks.Load()
				if !proxytest.Within(proxytest.Patience, func() bool { return checks.Load() >= n+5 }) {
					t.Fatalf("no checks: %+v", b.Status())
				}
			}
			checked()
			var a Attempt
			a.Reset(b)
			up, err := a.Open(t.Context(), &Request{Now: time.Now(), Bodyless: true})
			if err != nil {
				t.Fatal(err)
			}
			busy := sync.OnceFunc(func() { exchange(t, up, "GET"); a.End() })
			defer busy()
			checked()
			busy()
			if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_server_checks_total", "result", "failed"); n != 0 {
				t.Errorf("%v checks failed", n)
			}
		})
	}
}

// A server that is one of the addresses of a name is asked by that name, as requests do.
func TestCheckAsksByName(t *testing.T) {
	var asked atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked.Store(r.Host) }))
	t.Cleanup(server.Close)
	s := dnstest.New(t)
	s.Set("api.example. 300 IN A 127.0.0.1")
	address := fmt.Sprintf("api.example:%d", server.Listener.Addr().(*net.TCPAddr).Port)
	pool(t, Options{
		Resolve: asks(s), Servers: []ServerOptions{{Address: address, All: true, MPTCP: mptcp.Off}},
		Check: &CheckOptions{Path: "/up", Interval: 10 * time.Millisecond, Timeout: proxytest.Patience},
	})
	if !proxytest.Within(proxytest.Patience, func() bool { return asked.Load() != nil }) {
		t.Fatal("no checks")
	}
	if asked.Load() != address {
		t.Errorf("a check asks %q, want %q", asked.Load(), address)
	}
}
