package proxy_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/listener"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/telemetry"
)

// mode is one of the ways to carry the same traffic.
type mode struct {
	name      string
	mptcp     mptcp.Mode // of clients, listener, gateway's dials and origins
	inherited bool       // the listening socket was passed, as systemd does
	tls       bool       // clients use TLS
}

var modes = []mode{
	{"tcp", mptcp.Off, false, false},
	{"tcp inherited", mptcp.Off, true, false},
	{"mptcp", mptcp.Prefer, false, false},
	{"mptcp inherited", mptcp.Prefer, true, false},
	{"tcp tls", mptcp.Off, false, true},
	{"tcp tls inherited", mptcp.Off, true, true},
	{"mptcp tls", mptcp.Prefer, false, true},
	{"mptcp tls inherited", mptcp.Prefer, true, true},
}

var plain = modes[0]

// scheme is that of the mode's requests.
func (m mode) scheme() string {
	if m.tls {
		return "https"
	}
	return "http"
}

// eachMode runs a test in all modes, side by side with other tests.
func eachMode(t *testing.T, f func(t *testing.T, m mode)) {
	t.Parallel()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if m.mptcp != mptcp.Off {
				proxytest.NeedMPTCP(t)
			}
			f(t, m)
		})
	}
}

// eachPlainMode is eachMode without TLS: for what its handshakes would only make slower.
func eachPlainMode(t *testing.T, f func(t *testing.T, m mode)) {
	t.Parallel()
	for _, m := range modes {
		if m.tls {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if m.mptcp != mptcp.Off {
				proxytest.NeedMPTCP(t)
			}
			f(t, m)
		})
	}
}

// origin starts an origin that speaks what the mode says.
func (m mode) origin(t testing.TB, serve func(*proxytest.Conn)) *proxytest.Origin {
	t.Helper()
	return proxytest.NewOrigin(t, m.mptcp, serve)
}

// setup configures a gateway; the zero value has one route for all requests.
type setup struct {
	mode     mode
	options  proxy.Options
	listener proxy.ListenerOptions
	backend  backend.Options
	routes   func(b *backend.Backend) []proxy.Route
	gate     *listener.Gate
	address  string // to listen on; "" is 127.0.0.1 and any port, "unix" a unix socket
	noLog    bool   // no access log
	logFile  string // the access log goes there, not to gateway.log
	// Of accepted connections of an inherited socket, in bytes; 0 is what the kernel chooses.
	sendBuf int
}

// gateway consists of the real components, without a configuration file.
type gateway struct {
	t          testing.TB
	mode       mode
	addr       string
	proxy      *proxy.Proxy
	front      *proxy.Listener
	options    proxy.ListenerOptions // those of front
	sockets    *listener.Listener
	failed     atomic.Int64 // accepts
	backend    *backend.Backend
	metrics    *telemetry.Instruments
	log        *proxytest.Log
	programLog *record // the program's own log

	access *telemetry.AccessLog
	stop   context.CancelFunc
	wait   sync.WaitGroup
	once   sync.Once

	expectPanics bool
	rest         []proxytest.Line
}

// start runs a gateway before the origins.
func start(t testing.TB, s setup, origins ...*proxytest.Origin) *gateway {
	t.Helper()
	var addresses []string
	for _, o := range origins {
		addresses = append(addresses, o.Address())
	}
	return startBefore(t, s, addresses...)
}

// startBefore is start with the addresses of the servers.
func startBefore(t testing.TB, s setup, servers ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, mode: s.mode, metrics: telemetry.NewInstruments("test"), programLog: &record{}}
	switch {
	case s.logFile != "":
		g.openLogFile(s.logFile)
	case !s.noLog:
		g.openLog()
	}
	o := s.options
	o.Instruments, o.AccessLog = g.metrics, g.access
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(g.programLog, nil))
	}
	if s.gate != nil {
		o.Closed = s.gate.Leave
	}
	g.proxy = proxy.New(o)
	if s.gate != nil {
		s.gate.Full = g.proxy.Shed
	}
	g.openBackend(s, servers)
	g.openListener(s)
	t.Cleanup(g.close)
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	g.wait.Go(func() { _ = g.backend.Run(ctx) })
	g.wait.Go(func() {
		_ = g.sockets.Serve(ctx, func(c net.Conn, k *listener.Socket) {
			g.proxy.Accept(c, g.front, k.Info().Transport == mptcp.MPTCP)
		})
	})
	if g.access != nil {
		g.wait.Go(func() { _ = g.access.Run(context.Background()) })
	}
	return g
}

func (g *gateway) openLog() {
	g.t.Helper()
	g.log = proxytest.NewLog(g.t)
	var err error
	g.access, err = telemetry.OpenAccessLog(telemetry.AccessLogOptions{SpoolOptions: telemetry.SpoolOptions{
		Output: g.log.Output(), FlushEvery: time.Millisecond, Wait: proxytest.Patience,
		Dropped: &g.metrics.LogDropped, Errors: &g.metrics.LogErrors,
	}})
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) openLogFile(path string) {
	g.t.Helper()
	var err error
	if g.access, err = telemetry.OpenAccessLog(telemetry.AccessLogOptions{SpoolOptions: telemetry.SpoolOptions{Destination: path}}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) openBackend(s setup, servers []string) {
	g.t.Helper()
	b := s.backend
	if b.Name == "" {
		b.Name = "pool"
	}
	b.Instruments = g.metrics
	for _, address := range servers {
		b.Servers = append(b.Servers, backend.ServerOptions{Address: address, MPTCP: s.mode.mptcp})
	}
	var err error
	if g.backend, err = backend.New(b); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) openListener(s setup) {
	g.t.Helper()
	routes := []proxy.Route{{
		Name: "all", Action: &proxy.Forward{Backend: g.backend}, Filters: filter.Compile(filter.MaxForwards{}),
	}}
	if s.routes != nil {
		routes = s.routes(g.backend)
	}
	var err error
	if s.listener.Routes, err = proxy.NewRoutes(routes); err != nil {
		g.t.Fatal(err)
	}
	o := listener.Options{Name: "web", MPTCP: s.mode.mptcp, Gate: s.gate, Failed: func() { g.failed.Add(1) },
		Log: slog.New(slog.NewTextHandler(g.programLog, nil)), Addresses: []string{"127.0.0.1:0"}}
	var inherited *listener.Inherited
	switch {
	case s.address == "unix":
		o.Addresses = []string{"unix:" + filepath.Join(g.t.TempDir(), "s")}
	case s.address != "":
		o.Addresses = []string{s.address}
	case s.mode.inherited:
		l := proxytest.Listen(g.t, s.mode.mptcp)
		if s.sendBuf > 0 {
			setSendBuffer(g.t, l, s.sendBuf)
		}
		f, err := l.File()
		if err != nil {
			g.t.Fatal(err)
		}
		_ = l.Close()
		o.Systemd, o.Addresses = "web", nil
		inherited = listener.NewInherited(map[string][]*os.File{"web": {f}})
	}
	if g.sockets, err = listener.Open(context.Background(), o, inherited); err != nil {
		g.t.Fatal(err)
	}
	g.addr = g.sockets.Sockets()[0].Address
	if s.mode.tls && s.listener.TLS == nil {
		s.listener.TLS = onePolicy(g.t)
	}
	g.options = s.listener
	g.front = g.proxy.NewListener("web", s.listener)
}

// close ends the gateway at once.
func (g *gateway) close() {
	g.once.Do(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		_ = g.sockets.Close()
		g.proxy.Shutdown(now)
		g.front.Close()
		g.stop()
		if g.access != nil {
			ctx, cancel := context.WithTimeout(context.Background(), proxytest.Patience)
			defer cancel()
			if err := g.access.Close(ctx); err != nil {
				g.t.Error(err)
			}
		}
		g.wait.Wait()
		if g.log != nil {
			g.rest = g.log.End()
		}
		if n := g.metrics.Panics.Value(); n > 0 && !g.expectPanics {
			g.t.Errorf("%d exchanges panicked: %s", n, g.programLog.String())
		}
	})
}

// lines ends the gateway and returns the log lines that were not read.
func (g *gateway) lines() []proxytest.Line {
	g.close()
	return g.rest
}

// client connects as the mode says.
func (g *gateway) client() *proxytest.Client {
	g.t.Helper()
	c := proxytest.Dial(g.t, g.addr, g.mode.mptcp)
	if g.mode.tls {
		g.speakTLS(c)
	}
	return c
}

// metric is the value of a metric now.
func (g *gateway) metric(name string, labels ...string) float64 {
	g.t.Helper()
	return proxytest.Metric(g.t, g.metrics.Registry(), name, labels...)
}

// waitMetric waits until it is want.
func (g *gateway) waitMetric(want float64, name string, labels ...string) {
	g.t.Helper()
	proxytest.WaitMetric(g.t, g.metrics.Registry(), want, name, labels...)
}

// bystander is another client: it must get its own answer, whatever the test did before.
func (g *gateway) bystander() {
	g.t.Helper()
	for _, path := range []string{"/innocent/1", "/innocent/2"} {
		c := g.client() // each its own: limits may be short here
		defer c.Close()
		if a := c.Get(path); a.Status != 200 || a.Body != "GET "+path+" " {
			g.t.Fatalf("a bystander got %d %q for %s", a.Status, a.Body, path)
		}
	}
}

// record is what a logger wrote.
type record struct {
	mu sync.Mutex
	b  strings.Builder
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// want compares, and continues.
func want[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// contains fails unless s holds each part.
func contains(t testing.TB, what, s string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(s, p) {
			t.Errorf("%s lacks %q: %.400q", what, p, s)
		}
	}
}

// lacks fails if s holds one of the parts, in any case.
func lacks(t testing.TB, what, s string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if strings.Contains(strings.ToLower(s), strings.ToLower(p)) {
			t.Errorf("%s holds %q: %.400q", what, p, s)
		}
	}
}

// setSendBuffer bounds what the kernel takes from the connections that l accepts.
func setSendBuffer(t testing.TB, l *net.TCPListener, n int) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, n)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}
