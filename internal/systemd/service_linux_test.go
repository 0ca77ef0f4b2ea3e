package systemd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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
type service struct{ *Machine }

// install boots a machine with mpgate, its units and a server behind it.
func install(t *testing.T, config string) *service {
	m := Boot(t)
	s := &service{m}
	s.Install(binary, "/usr/bin/mpgate", 0o755)
	s.Write(configFile, config+routes, 0o644)
	s.Run("useradd", "--system", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "mpgate")
	s.backend()
	s.units()
	return s
}

// units writes the units anew.
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

// load asks without pause, on new connections and on kept ones, until stop is called, which says what was measured.
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

// TestPassedSockets: the service with sockets of .socket units, as `mpgate units` writes them.
func TestPassedSockets(t *testing.T) {
	s := install(t, passed)
	t.Run("the units are in order", func(t *testing.T) {
		s.t = t
		out, code := s.Try("systemd-analyze", "verify", "--man=no", units+"mpgate.service", units+"mpgate-http.socket", units+"mpgate-https.socket")
		if out != "" || code != 0 {
			t.Errorf("systemd-analyze verify says\n%s", out)
		}
		out = s.Run("systemd-analyze", "security", "--no-pager", "mpgate.service")
		m := regexp.MustCompile(`Overall exposure level for mpgate.service: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("systemd-analyze security says\n%s", out)
		}
		if v, err := strconv.ParseFloat(m[1], 64); err != nil || v > 2.0 {
			t.Errorf("the exposure level is %s, want at most 2.0:\n%s", m[1], out)
		}
		t.Logf("exposure level %s", m[1])
	})
	s.Run("systemctl", "start", "mpgate-http.socket", "mpgate-https.socket")
	t.Run("the first connection starts it", func(t *testing.T) {
		s.t = t
		if state := s.Property("mpgate.service", "ActiveState"); state != "inactive" {
			t.Fatalf("before, it is %s", state)
		}
		began := time.Now()
		s.get(s.client(true), "http://127.0.0.1/")
		t.Logf("the first answer took %v, start included", time.Since(began).Round(time.Millisecond))
		s.Await("mpgate.service", "ActiveState", "active")
		if text := s.Property("mpgate.service", "StatusText"); !strings.HasPrefix(text, "serving: generation 1, 3 sockets (3 mptcp), ") {
			t.Errorf("its status is %q", text)
		}
	})
	t.Run("it says what each connection speaks", func(t *testing.T) {
		s.t = t
		for _, url := range []string{"http://127.0.0.1/", "http://127.0.0.1:8080/", "https://127.0.0.1/"} {
			for _, mptcp := range []bool{true, false} {
				name := fmt.Sprintf("tcp-%d", strings.Count(url, ":"))
				want := `"client_transport":"tcp"`
				if mptcp {
					name, want = "m"+name, `"client_transport":"mptcp"`
				}
				path := strings.ReplaceAll(strings.TrimPrefix(url, "http"), "/", "_") + name
				s.get(s.client(mptcp), url+path)
				s.logged(path, want)
			}
		}
	})
	t.Run("reload", func(t *testing.T) { s.reload(t) })
	t.Run("restart under load", func(t *testing.T) {
		s.t = t
		s.tunnel("127.0.0.1:80")
		before := s.Property("mpgate.service", "MainPID")
		stop := s.load("http://127.0.0.1/", "https://127.0.0.1/")
		for range 3 {
			s.Run("systemctl", "restart", "mpgate.service")
		}
		n, longest := stop()
		t.Logf("%d requests over three restarts, the longest took %v", n, longest.Round(time.Millisecond))
		if longest > time.Second {
			t.Errorf("a request took %v, want at most 1s", longest)
		}
		if s.Property("mpgate.service", "MainPID") == before {
			t.Error("it was not restarted")
		}
	})
	s.t = t
	t.Run("watchdog", func(t *testing.T) { s.watchdog(t) })
	t.Run("upgrade", func(t *testing.T) { s.upgrade(t, "http://127.0.0.1/", "https://127.0.0.1/") })
	t.Run("a unit without SocketProtocol", func(t *testing.T) { s.withoutProtocol(t) })
}

// reload: systemctl reload tells the truth.
func (s *service) reload(t *testing.T) {
	s.t = t
	idle := s.tunnel("127.0.0.1:80")
	s.Write(configFile, passed+routes+"\n[[route]]\nname = \"more\"\nmatch = { path = \"/more\" }\nbackend = \"app\"\n", 0o644)
	s.Run("systemctl", "reload", "mpgate.service")
	s.get(s.client(false), "http://127.0.0.1/more")
	s.logged(`"route":"more"`)

	s.Write(configFile, passed+routes+"colour = \"blue\"\n", 0o644)
	if out, code := s.Try("systemctl", "reload", "mpgate.service"); code == 0 {
		t.Errorf("systemctl reload of a faulty file exits 0: %s", out)
	}
	out, code := s.Try("mpgate", "reload", "-c", configFile)
	if code != 78 || !regexp.MustCompile(`^/etc/mpgate/mpgate.toml:\d+: backend.app.colour: is not a known key`).MatchString(out) {
		t.Errorf("mpgate reload of a faulty file exits %d and prints %q", code, out)
	}
	s.Await("mpgate.service", "ActiveState", "active")
	s.get(s.client(false), "http://127.0.0.1/more")
	if text := s.Property("mpgate.service", "StatusText"); !strings.Contains(text, "the last reload was refused") {
		t.Errorf("its status is %q", text)
	}

	s.Write(configFile, passed+routes+"[[listener]]\nname = \"third\"\nsystemd = \"third\"\naddress = \"127.0.0.1:81\"\n", 0o644)
	out, code = s.Try("mpgate", "reload", "-c", configFile)
	if code != 78 || !strings.Contains(out, `no inherited socket is named "third"`) || !strings.Contains(out, "start the .socket unit, then systemctl restart mpgate") {
		t.Errorf("a reload that needs a new socket exits %d and prints %q", code, out)
	}
	s.Write(configFile, passed+routes, 0o644)
	s.Run("systemctl", "reload", "mpgate.service")
	if _, err := io.WriteString(idle, "ping"); err != nil {
		t.Error(err)
	}
	if b := make([]byte, 512); true {
		if n, err := idle.Read(b); err != nil || !strings.HasSuffix(string(b[:n]), "ping") {
			t.Errorf("the tunnel says %q, %v after reloads that did not concern it", b[:n], err)
		}
	}
	idle.Close()
}

// watchdog: a process that hangs is killed, and another serves.
func (s *service) watchdog(t *testing.T) {
	s.t = t
	s.Write(units+"mpgate.service.d/fast.conf", "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\nRestartSec=100ms\n", 0o644)
	s.Run("systemctl", "daemon-reload")
	s.Run("systemctl", "restart", "mpgate.service")
	s.Run("mpgate", "upgrade", "-c", configFile) // the watchdog hears from the new process as well
	pid := s.Property("mpgate.service", "MainPID")
	stop := s.load("http://127.0.0.1/")
	if !s.within(4*time.Second, func() bool { return s.Property("mpgate.service", "MainPID") != pid }) {
		// Four times the watchdog's time under load, and no false alarm.
	} else {
		t.Errorf("the watchdog killed a process that was well:\n%s", s.journal())
	}
	stop()
	pid = s.Property("mpgate.service", "MainPID")
	s.Run("systemctl", "kill", "--kill-whom=main", "--signal=SIGSTOP", "mpgate.service")
	if !s.within(30*time.Second, func() bool {
		now := s.Property("mpgate.service", "MainPID")
		return now != pid && now != "0" && s.Property("mpgate.service", "ActiveState") == "active"
	}) {
		t.Fatalf("it is not replaced:\n%s", s.Log())
	}
	s.get(s.client(false), "http://127.0.0.1/")
	if n := s.Property("mpgate.service", "NRestarts"); n == "0" {
		t.Error("systemd counts no restart")
	}
	if err := os.Remove(s.Path(units + "mpgate.service.d/fast.conf")); err != nil {
		t.Fatal(err)
	}
	s.Run("systemctl", "daemon-reload")
	s.Run("systemctl", "restart", "mpgate.service")
}

// upgrade: another binary takes over; systemd knows the new process, and nobody notices. One that cannot serve does not.
func (s *service) upgrade(t *testing.T, urls ...string) {
	s.t = t
	idle := s.tunnel(strings.TrimSuffix(strings.TrimPrefix(urls[0], "http://"), "/") + map[bool]string{true: ":80"}[!strings.Contains(urls[0][7:], ":")])
	stop := s.load(urls...)
	pid := s.Property("mpgate.service", "MainPID")
	s.Install(binary, "/usr/bin/mpgate", 0o755)
	out := s.Run("mpgate", "upgrade", "-c", configFile)
	if out != "another process has taken over\n" {
		t.Errorf("mpgate upgrade says %q", out)
	}
	if now := s.Property("mpgate.service", "MainPID"); now == pid || now == "0" {
		t.Errorf("systemd holds %s for the main process, which was %s", now, pid)
	}
	pid = s.Property("mpgate.service", "MainPID")
	s.Await("mpgate.service", "ActiveState", "active")

	// One that ends at once.
	s.Write("/usr/bin/mpgate.new", "#!/bin/sh\nexit 3\n", 0o755)
	if err := os.Rename(s.Path("/usr/bin/mpgate"), s.Path("/usr/bin/mpgate.good")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.Path("/usr/bin/mpgate.new"), s.Path("/usr/bin/mpgate")); err != nil {
		t.Fatal(err)
	}
	out, code := s.Try("/usr/bin/mpgate.good", "upgrade", "-c", configFile)
	if code != 1 || !strings.Contains(out, "upgrade failed; the running process serves on: the new process ended before it was ready") {
		t.Errorf("an upgrade to a bad binary exits %d and prints %q", code, out)
	}
	if err := os.Rename(s.Path("/usr/bin/mpgate.good"), s.Path("/usr/bin/mpgate")); err != nil {
		t.Fatal(err)
	}
	// The configuration is faulty.
	good, err := os.ReadFile(s.Path(configFile))
	if err != nil {
		t.Fatal(err)
	}
	s.Write(configFile, string(good)+"colour = 1\n", 0o644)
	out, code = s.Try("mpgate", "upgrade", "-c", configFile)
	if code != 1 || !strings.Contains(out, "backend.app.colour: is not a known key") {
		t.Errorf("an upgrade with a faulty file exits %d and prints %q", code, out)
	}
	s.Write(configFile, string(good), 0o644)
	if now := s.Property("mpgate.service", "MainPID"); now != pid {
		t.Errorf("after a failed upgrade the main process is %s, which was %s", now, pid)
	}
	s.Run("systemctl", "reload", "mpgate.service")
	n, longest := stop()
	t.Logf("%d requests over an upgrade, the longest took %v", n, longest.Round(time.Millisecond))
	if longest > time.Second {
		t.Errorf("a request took %v, want at most 1s", longest)
	}
	idle.Close()
	s.Run("systemctl", "restart", "mpgate.service")
	s.get(s.client(false), urls[0])
}

// withoutProtocol: systemd passes a TCP socket, as an old one does, and mpgate says so.
func (s *service) withoutProtocol(t *testing.T) {
	s.t = t
	for _, unit := range []string{"mpgate-http.socket", "mpgate-https.socket"} {
		b, err := os.ReadFile(s.Path(units + unit))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "SocketProtocol=mptcp\n", "")
		s.Write(units+unit, text, 0o644)
	}
	s.Run("systemctl", "daemon-reload")
	s.Run("systemctl", "stop", "mpgate.service", "mpgate-http.socket", "mpgate-https.socket")
	s.Run("systemctl", "start", "mpgate-http.socket", "mpgate-https.socket", "mpgate.service")
	s.get(s.client(true), "http://127.0.0.1/")
	s.journaled(`"listening, but not as preferred","listener":"http".*"why":"the socket that was passed is TCP","remedy":"SocketProtocol=mptcp in the .socket unit \(systemd 257`)
	out := s.Run("mpgate", "status", "--json", "-c", configFile)
	var status struct {
		Listeners []struct {
			Sockets []struct{ Speaks, Why string }
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Listeners) != 2 {
		t.Fatalf("status: %v\n%s", err, out)
	}
	for _, l := range status.Listeners {
		for _, k := range l.Sockets {
			if k.Speaks != "tcp" || k.Why != "the socket that was passed is TCP" {
				t.Errorf("status says %+v", k)
			}
		}
	}
	// Required, it is a start-up error; systemd does not try for ever.
	s.Write(configFile, strings.Replace(passed, `systemd = "http"`, "systemd = \"http\"\nmptcp = \"require\"", 1)+routes, 0o644)
	if out, code := s.Try("systemctl", "restart", "mpgate.service"); code == 0 {
		t.Errorf("it starts though MPTCP is required: %s", out)
	}
	s.journaled(`listener.http: .*is TCP, and mptcp = "require"; remedy: SocketProtocol=mptcp in the .socket unit`)
}

// TestOwnSockets: the service opens its sockets by itself; systemd's store keeps them over a restart.
func TestOwnSockets(t *testing.T) {
	s := install(t, own)
	if out, code := s.Try("systemctl", "start", "mpgate.service"); code != 0 {
		t.Fatalf("it does not start: %s\n%s", out, s.journal())
	}
	s.get(s.client(true), "http://127.0.0.1:8080/mine")
	s.logged("/mine", `"client_transport":"mptcp"`)
	if n := s.Property("mpgate.service", "NFileDescriptorStore"); n != "1" {
		t.Errorf("the store has %s descriptors, want 1\n%s", n, s.journal())
	}
	s.tunnel("127.0.0.1:8080")
	stop := s.load("http://127.0.0.1:8080/")
	for range 3 {
		s.Run("systemctl", "restart", "mpgate.service")
	}
	n, longest := stop()
	t.Logf("%d requests over three restarts, the longest took %v", n, longest.Round(time.Millisecond))
	if longest > time.Second {
		t.Errorf("a request took %v, want at most 1s", longest)
	}
	s.journaled(`"msg":"listening","listener":"http","address":"127.0.0.1:8080","speaks":"mptcp","from":"fdstore"`)
	t.Run("upgrade", func(t *testing.T) { s.upgrade(t, "http://127.0.0.1:8080/") })
	s.t = t

	// Another protocol: a reload swaps the socket, and the store has the new one.
	plain := strings.Replace(own, `name = "http"`, "name = \"http\"\nmptcp = \"off\"", 1) + routes
	s.Write(configFile, plain, 0o644)
	s.Run("systemctl", "reload", "mpgate.service")
	s.get(s.client(true), "http://127.0.0.1:8080/plain")
	s.logged("/plain", `"client_transport":"tcp"`)
	s.Run("systemctl", "restart", "mpgate.service")
	s.journaled(`"msg":"listening","listener":"http","address":"127.0.0.1:8080","speaks":"tcp","from":"fdstore"`)
	// A restart puts a new socket in the place of a stored one that does not fit.
	s.Write(configFile, own+routes, 0o644)
	s.Run("systemctl", "restart", "mpgate.service")
	s.journaled(`"why":"it is a tcp socket, and mptcp is wanted"`)
	s.get(s.client(true), "http://127.0.0.1:8080/again")
	s.logged("/again", `"client_transport":"mptcp"`)

	// A wrong configuration is not tried again and again.
	s.Write(configFile, own, 0o644)
	s.Write(configFile, own+"nonsense\n", 0o644)
	if out, code := s.Try("systemctl", "restart", "mpgate.service"); code == 0 {
		t.Errorf("it starts with nonsense: %s", out)
	}
	if r, st := s.Property("mpgate.service", "NRestarts"), s.Property("mpgate.service", "ExecMainStatus"); r != "0" || st != "78" {
		t.Errorf("systemd restarted it %s times; its exit code is %s, want 78", r, st)
	}
}
