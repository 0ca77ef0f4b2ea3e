package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves until the test ends.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = s.Close(ctx) // some tests leave connections open
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, address string) *Client {
	t.Helper()
	c, err := Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "run", "admin.sock") }

func TestEndpoints(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mpgate_test", Help: "Of the test."}, func() float64 { return 7 }))
	ready := true
	o := Options{
		Address: "unix:" + socketPath(t),
		Metrics: registry,
		Status:  func() any { return Status{Version: "1.2.3", State: "ready"} },
		Ready:   func() (bool, []string) { return ready, []string{"starting", "listener web is not open"} },
		Handlers: map[string]http.Handler{"POST /api/reload": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(append([]byte("reloaded with "), body...))
		})},
	}
	unix, tcp := dial(t, start(t, o).Addr()), o
	tcp.Address = "127.0.0.1:0"
	over := map[string]*Client{"unix": unix, "tcp": dial(t, start(t, tcp).Addr())}
	for name, c := range over {
		t.Run(name, func(t *testing.T) {
			var text string
			for path, want := range map[string]string{
				"/healthz":  "ok\n",
				"/readyz":   "ready\n",
				"/metrics":  "mpgate_test 7",
				"/":         "<title>mpgate</title>",
				"/page.js":  `"use strict"`,
				"/page.css": "prefers-color-scheme",
			} {
				if err := c.Get(t.Context(), path, &text); err != nil || !strings.Contains(text, want) {
					t.Errorf("%s: got %.200q, %v; want %q", path, text, err, want)
				}
			}
			var status Status
			if err := c.Get(t.Context(), "/api/status", &status); err != nil || status.Version != "1.2.3" || status.State != "ready" {
				t.Errorf("status: got %+v, %v", status, err)
			}
			ready = false
			var answer *StatusError
			err := c.Get(t.Context(), "/readyz", nil)
			if !errors.As(err, &answer) || answer.Code != 503 || err.Error() != "not ready: starting; listener web is not open" {
				t.Errorf("readyz: got %v", err)
			}
			ready = true
			if err := c.Get(t.Context(), "/nothing", nil); !errors.As(err, &answer) || answer.Code != 404 {
				t.Errorf("an unknown path: got %v", err)
			}
		})
	}
	var text string
	if err := unix.Post(t.Context(), "/api/reload", map[string]int{"a": 1}, &text); err != nil || text != `reloaded with {"a":1}` {
		t.Errorf("POST over unix: got %q, %v", text, err)
	}
	err := over["tcp"].Post(t.Context(), "/api/reload", nil, nil)
	if err == nil || err.Error() != "read-only over host:port; use a unix socket as [admin] address" {
		t.Errorf("POST over tcp: got %v", err)
	}
}

// A server that knows nothing yet says so.
func TestEmptyOptions(t *testing.T) {
	c := dial(t, start(t, Options{Address: "127.0.0.1:0"}).Addr())
	var text string
	if err := c.Get(t.Context(), "/api/status", &text); err != nil || text != "{}\n" {
		t.Errorf("status: got %q, %v", text, err)
	}
	if err := c.Get(t.Context(), "/readyz", nil); err != nil {
		t.Error(err)
	}
	var answer *StatusError
	if err := c.Get(t.Context(), "/metrics", nil); !errors.As(err, &answer) || answer.Code != 404 {
		t.Errorf("metrics: got %v", err)
	}
}

func TestHostAndOrigin(t *testing.T) {
	s := start(t, Options{Address: "localhost:0"})
	_, port, _ := net.SplitHostPort(s.Addr())
	for _, tt := range []struct {
		host, origin string
		want         int
		body         string
	}{
		{"127.0.0.1:" + port, "", 200, ""},
		{"[::1]:" + port, "", 200, ""},
		{"192.0.2.1", "", 200, ""},
		{"localhost:" + port, "", 200, ""},
		{"LOCALHOST.", "", 200, ""},
		{"localhost:" + port, "http://localhost:" + port, 200, ""},
		{"evil.example:" + port, "", 403, `host "evil.example:` + port + `" is not allowed; use the IP address, localhost or the name in [admin] address` + "\n"},
		{"localhost.evil.example", "", 403, ""},
		{"127.0.0.1.evil.example", "", 403, ""},
		{"127.0.0.1:" + port, "http://evil.example", 403, "requests from another origin are not allowed\n"},
		{"127.0.0.1:" + port, "https://127.0.0.1:" + port, 403, ""},
		{"127.0.0.1:" + port, "null", 403, ""},
		{"127.0.0.1:1", "http://127.0.0.1:2", 403, ""},
	} {
		for _, path := range []string{"/", "/page.js", "/api/status", "/nothing", "//metrics", "/metrics/", "/api/../metrics"} {
			status, body := ask(t, s, http.MethodGet, path, tt.host, tt.origin)
			if (status == 403) != (tt.want == 403) || tt.body != "" && body != tt.body {
				t.Errorf("%s, Host %s, Origin %s: got %d %q, want %d %q", path, tt.host, tt.origin, status, body, tt.want, tt.body)
			}
		}
	}
	if !hostAllowed("gw.example:9100", configuredName("GW.example.:9100")) || hostAllowed("", "") || hostAllowed("", configuredName(":9100")) {
		t.Error("the configured name is allowed, and no name is not")
	}
}

// ask sends a request whose target is written as it is, to the server's own address.
func ask(t *testing.T, s *Server, method, path, host, origin string) (status int, body string) {
	t.Helper()
	c, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head := method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n"
	if origin != "" {
		head += "Origin: " + origin + "\r\n"
	}
	_, _ = io.WriteString(c, head+"\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// Whoever monitors the gateway reaches it by any name, and still only reads. The API and the page
// are not answered by that name.
func TestMachinesUseAnyName(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := start(t, Options{Address: "127.0.0.1:0", Metrics: registry})
	for _, host := range []string{"mpgate", "gw1.internal:9100", "MPGATE.ns.svc.cluster.local.", "10.1.2.3", "127.0.0.1:1", "[::1]:9100", ""} {
		for _, path := range []string{"/metrics", "/healthz", "/readyz", "/readyz?verbose"} {
			if status, body := ask(t, s, http.MethodGet, path, host, ""); status != 200 {
				t.Errorf("GET %s, Host %q: got %d %q, want 200", path, host, status, body)
			}
			if status, _ := ask(t, s, http.MethodPost, path, host, ""); status != 405 {
				t.Errorf("POST %s, Host %q: got %d, want 405", path, host, status)
			}
			if status, _ := ask(t, s, http.MethodGet, path, host, "http://evil.example"); status != 403 {
				t.Errorf("GET %s, Host %q from another origin: got %d, want 403", path, host, status)
			}
		}
	}
	for _, path := range []string{"/", "/page.css", "/api/status", "/api/paths"} {
		if status, _ := ask(t, s, http.MethodGet, path, "mpgate", ""); status != 403 {
			t.Errorf("GET %s by a name: got %d, want 403", path, status)
		}
	}
}

func TestHeaders(t *testing.T) {
	s := start(t, Options{Address: "127.0.0.1:0"})
	for path, kind := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css", "/healthz": "text/plain", "/api/status": "application/json"} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+path, nil)
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		h := resp.Header
		if !strings.HasPrefix(h.Get("Content-Type"), kind) || !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'") ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, h)
		}
	}
	for _, name := range []string{"page/index.html", "page/page.js", "page/page.css"} {
		text, err := pageFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, external := range []string{"https://", "@import", "url(", " style=", "innerHTML", "onclick"} {
			if strings.Contains(string(text), external) {
				t.Errorf("%s has %q", name, external)
			}
		}
	}
}

// Who sends half a head, or a huge one, does not hold a connection.
func TestSlowAndLargeHeads(t *testing.T) {
	s := start(t, Options{Address: "127.0.0.1:0", HeaderTime: 50 * time.Millisecond})
	for name, head := range map[string]string{"silence": "", "half": "GET /healthz HTTP/1.1\r\nHost: 127."} {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, head)
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: still open after 10 s", name)
		}
		conn.Close()
	}
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if !strings.Contains(line, "431") {
		t.Errorf("a huge head: got %q, %v", line, err)
	}
}

// More connections than are allowed wait, and get their turn.
func TestConnectionLimit(t *testing.T) {
	s := start(t, Options{Address: "127.0.0.1:0", Conns: 1})
	hold, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(hold, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	if _, err := bufio.NewReader(hold).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Get(ctx, "/healthz", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beyond the limit: got %v", err)
	}
	hold.Close()
	if err := c.Get(t.Context(), "/healthz", nil); err != nil {
		t.Errorf("after the other left: %v", err)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	path := socketPath(t)
	s, err := Open(t.Context(), Options{Address: "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx); err != nil {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestCloseWaitsForAnswers(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	s, err := Open(t.Context(), Options{Address: "unix:" + socketPath(t), Handlers: map[string]http.Handler{
		"POST /api/slow": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { close(began); <-finish })}})
	if err != nil {
		t.Fatal(err)
	}
	ended, answered, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { ended <- s.Serve(context.Background()) }()
	c := dial(t, s.Addr())
	go func() { answered <- c.Post(context.Background(), "/api/slow", nil, nil) }()
	<-began
	go func() { closed <- s.Close(context.Background()) }()
	if err := <-ended; err != nil { // accepting ends first
		t.Error(err)
	}
	close(finish)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestProfilesAreForTheUnixSocket(t *testing.T) {
	unix := start(t, Options{Address: "unix:" + socketPath(t)})
	tcp := start(t, Options{Address: "127.0.0.1:0"})
	for _, c := range []struct {
		path string
		s    *Server
		want int
	}{
		{"/debug/pprof/goroutine?debug=1", unix, 200},
		{"/debug/pprof/profile?seconds=1", unix, 200},
		{"/debug/pprof/goroutine?debug=1", tcp, 404},
		{"/debug/pprof/profile?seconds=1", tcp, 404},
	} {
		a := c.s.listener.Addr()
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			if a.Network() == "unix" {
				return d.DialContext(ctx, "unix", strings.TrimPrefix(c.s.Addr(), "unix:"))
			}
			return d.DialContext(ctx, "tcp", a.String())
		}}}
		host := "localhost"
		if a.Network() == "tcp" {
			host = a.String()
		}
		resp, err := client.Get("http://" + host + c.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want || err != nil || c.want == 200 && len(body) == 0 {
			t.Errorf("%s over %s: got %s with %d bytes, %v; want %d", c.path, a.Network(), resp.Status, len(body), err, c.want)
		}
	}
}
