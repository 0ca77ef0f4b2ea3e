package systemd

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// binary is the program as it is shipped, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mpgate-systemd-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "mpgate")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "mpgate/cmd/mpgate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

const (
	configFile = "/etc/mpgate/mpgate.toml"
	units      = "/etc/systemd/system/"
	// passed is a configuration whose sockets systemd opens: two of one name, and one with TLS.
	passed = `
[shutdown]
drain = "3s"
[log]
access = "/var/log/mpgate/access.log"
[[listener]]
name = "http"
systemd = "http"
address = ["0.0.0.0:80", "127.0.0.1:8080"]
[[listener]]
name = "https"
systemd = "https"
address = "0.0.0.0:443"
[listener.tls]
local = true
local_names = ["machine"]
`
	// own is one that opens its sockets by itself.
	own = `
[shutdown]
drain = "3s"
[log]
access = "/var/log/mpgate/access.log"
[[listener]]
name = "http"
address = "127.0.0.1:8080"
`
	routes = `
[[route]]
name = "all"
backend = "app"
[[backend]]
name = "app"
idle_timeout = "120s"
servers = [ { address = "127.0.0.1:9000" } ]
`
)

// service is a machine on which mpgate is installed as its units say.
type service struct {
	*Machine
	posts atomic.Pointer[postLedger] // which the server fills
}

// install boots a machine with mpgate, its units and a server behind it.
func install(t *testing.T, config string) *service {
	m := Boot(t)
	s := &service{Machine: m}
	s.Install(binary, "/usr/bin/mpgate", 0o755)
	s.Write(configFile, config+routes, 0o644)
	s.Run("useradd", "--system", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "mpgate")
	s.backend()
	s.units()
	return s
}

// units writes the units again.
func (s *service) units() {
	s.t.Helper()
	s.Run("mpgate", "units", "-c", configFile, "--dir", strings.TrimSuffix(units, "/"))
	s.Run("systemctl", "daemon-reload")
}

// backend is a server inside, that answers "ok", and opens tunnels.
func (s *service) backend() {
	var l net.Listener
	err := s.InNet(func() (err error) {
		lc := net.ListenConfig{}
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), "tcp", "127.0.0.1:9000")
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l := s.posts.Load(); l != nil && r.Method == "POST" {
			l.serve(w, r)
			return
		}
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, "ok")
			return
		}
		c, b, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, b)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	s.t.Cleanup(func() {
		server.Close()
		<-done
	})
}

// client makes requests from inside.
func (s *service) client(mptcp bool) *http.Client {
	tr := &http.Transport{
		DialContext:     func(ctx context.Context, _, address string) (net.Conn, error) { return s.Dial(ctx, address, mptcp) },
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "machine"},
	}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func (s *service) get(c *http.Client, url string) {
	s.t.Helper()
	if err := fetch(c, url); err != nil {
		s.t.Fatalf("%v\n%s", err, s.journal())
	}
}

func fetch(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(b) != "ok") {
		err = fmt.Errorf("%s says %d %q", url, resp.StatusCode, b)
	}
	return err
}

func (s *service) journal() string {
	out, _ := s.Try("journalctl", "--no-pager", "-o", "cat", "-n", "60", "-u", "mpgate.service")
	return out
}

// access is the access log so far.
func (s *service) access() string {
	b, _ := os.ReadFile(s.Path("/var/log/mpgate/access.log"))
	return string(b)
}

// logged waits until a line of the access log has all of these parts.
func (s *service) logged(parts ...string) {
	s.t.Helper()
	if !s.within(10*time.Second, func() bool {
		b, _ := os.ReadFile(s.Path("/var/log/mpgate/access.log"))
		for _, line := range strings.Split(string(b), "\n") {
			all := true
			for _, p := range parts {
				all = all && strings.Contains(line, p)
			}
			if all {
				return true
			}
		}
		return false
	}) {
		b, _ := os.ReadFile(s.Path("/var/log/mpgate/access.log"))
		s.t.Errorf("no line of the access log has %q:\n%s\n%s", parts, b, s.journal())
	}
}

// journaled waits until the journal has what matches.
func (s *service) journaled(pattern string) {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	if !s.within(10*time.Second, func() bool { return re.MatchString(s.journal()) }) {
		s.t.Errorf("the journal has nothing like %s:\n%s", pattern, s.journal())
	}
}

// tunnel opens one that stays idle.
func (s *service) tunnel(address string) net.Conn {
	s.t.Helper()
	c, err := s.Dial(context.Background(), address, false)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "101") {
		s.t.Fatalf("no tunnel: %q, %v", line, err)
	}
	return c
}

// load asks without pause, on new connections and on kept ones, until stop is called, which says
// what was measured.
func (s *service) load(urls ...string) (stop func() (requests int64, longest time.Duration)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	var requests, longest, failed atomic.Int64
	for i, url := range urls {
		for j := range 4 {
			c := s.client(i%2 == 1)
			wait.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					if err := fetch(c, url); err != nil {
						if failed.Add(1) < 5 {
							s.t.Errorf("request %d failed after %v: %v", requests.Load(), time.Since(began), err)
						}
					}
					took := int64(time.Since(began))
					for old := longest.Load(); took > old && !longest.CompareAndSwap(old, took); old = longest.Load() {
					}
					requests.Add(1)
					if j%2 == 0 {
						c.CloseIdleConnections() // so that the next is a new connection
					}
				}
			})
		}
	}
	return func() (int64, time.Duration) {
		cancel()
		wait.Wait()
		if n := failed.Load(); n > 0 {
			s.t.Errorf("%d requests failed", n)
		}
		return requests.Load(), time.Duration(longest.Load())
	}
}

// bound is the longest that a request may take: less than the time for the drain (3 s), and beyond
// that what this machine makes requests wait when nothing happens, for it may have much else to do.
func (s *service) bound(urls ...string) time.Duration {
	s.t.Helper()
	stop := s.load(urls...)
	s.within(2*time.Second, func() bool { return false })
	_, longest := stop()
	return 2*time.Second + 2*longest
}
