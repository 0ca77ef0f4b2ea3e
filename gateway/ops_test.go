package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/config"
	"mpgate/internal/proxytest"
)

func TestMain(m *testing.M) {
	// certmagic's file locks are kept fresh by a goroutine that ends up to 5 s after the lock was
	// released.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

// patience bounds waits; only a test that fails needs it all.
const patience = 20 * time.Second

// logText gathers what a gateway logs.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a gateway of a configuration file that the test rewrites.
type rig struct {
	*Gateway
	t    testing.TB
	file string
	log  *logText
	stop context.CancelFunc
	done chan error
}

// head is the part of the configuration that all rigs share.
const head = "state_dir = \"state\"\n[log]\naccess = \"off\"\nformat = \"text\"\n[admin]\naddress = \"unix:admin.sock\"\n"

// startRig runs a gateway until the test ends. change may set more options.
func startRig(t testing.TB, toml string, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, file: filepath.Join(t.TempDir(), "mpgate.toml"), log: &logText{}, done: make(chan error, 1)}
	r.write(toml)
	load := func() (*config.Config, error) { return config.Load(r.file, config.Options{}) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	settings := new(LogSettings)
	settings.Set(&cfg.Log)
	o := Options{Version: "test", Load: load, Logger: NewLogger(settings, r.log), LogSettings: settings}
	if change != nil {
		change(&o)
	}
	if r.Gateway, err = Open(t.Context(), cfg, o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	ready := make(chan struct{})
	go func() { r.done <- r.Run(ctx, context.Background(), func() { close(ready) }) }()
	t.Cleanup(r.end)
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatalf("it does not get ready:\n%s", r.log)
	}
	return r
}

// end ends the gateway as SIGTERM does; it may be called twice.
func (r *rig) end() {
	r.stop()
	select {
	case err, ok := <-r.done:
		if ok && err != nil {
			r.t.Errorf("Run: %v", err)
		}
		if ok {
			close(r.done)
		}
	case <-time.After(patience):
		r.t.Errorf("it does not end:\n%s", r.log)
	}
}

func (r *rig) write(toml string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(toml), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// swap reloads with another file, which must do.
func (r *rig) swap(toml string) {
	r.t.Helper()
	r.write(toml)
	if err := r.Reload(r.t.Context()); err != nil {
		r.t.Fatalf("reload: %v", err)
	}
}

// logs waits until the log has what matches.
func (r *rig) logs(pattern string) {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	if !proxytest.Within(patience, func() bool { return re.MatchString(r.log.String()) }) {
		r.t.Fatalf("the log has nothing like %s:\n%s", pattern, r.log)
	}
}

func listenerTable(name, address, more string) string {
	return fmt.Sprintf("[[listener]]\nname = %q\naddress = %q\n%s\n", name, address, more)
}

func backendTable(name, address, more string) string {
	return fmt.Sprintf("[[backend]]\nname = %q\nservers = [ { address = %q } ]\n%s\n", name, strings.TrimPrefix(address, "http://"), more)
}

func routeTable(name, match, backend string) string {
	return fmt.Sprintf("[[route]]\nname = %q\nbackend = %q\nmatch = { %s }\n", name, backend, match)
}

// named is a server that answers with its name.
func named(t testing.TB, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// fetch asks once, on a connection of its own.
func fetch(t testing.TB, url string) string {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

// upgraded opens a tunnel through the gateway and says that it carries.
func upgraded(t testing.TB, address, path string) *proxytest.Client {
	t.Helper()
	c := proxytest.Dial(t, address, 0)
	c.Send("GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if a := c.ReadHead(); a.Status != 101 {
		t.Fatalf("no tunnel: %q", a.Head)
	}
	carries(t, c)
	return c
}

func carries(t testing.TB, c *proxytest.Client) {
	t.Helper()
	c.Send("ping\n")
	if line, err := c.R.ReadString('\n'); err != nil || line != "ping\n" {
		t.Fatalf("the tunnel does not carry: %q, %v", line, err)
	}
}

// echoes is a server whose tunnels say what they are told.
func echoes(t testing.TB) string {
	return proxytest.NewOrigin(t, 0, func(c *proxytest.Conn) {
		if c.Head() == "" {
			return
		}
		c.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		for {
			line, err := c.R.ReadString('\n')
			if err != nil || !c.Send(line) {
				return
			}
		}
	}).Address()
}

func TestFailedAcceptsAreMeasured(t *testing.T) {
	t.Parallel()
	r := startRig(t, head+listenerTable("web", "127.0.0.1:0", "")+app(t), nil)
	cfg := r.gen.Load().config
	r.listenerOptions(cfg, &cfg.Listeners[0]).Failed() // as package listener does
	if n := proxytest.Metric(t, r.metrics.Registry(), "mpgate_accept_errors_total"); n != 1 {
		t.Errorf("mpgate_accept_errors_total is %v, want 1", n)
	}
}
