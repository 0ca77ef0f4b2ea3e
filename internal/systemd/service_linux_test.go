package systemd

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

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
		if text := s.Property("mpgate.service", "StatusText"); !strings.HasPrefix(text, "serving: generation 1, sockets: 3 (MPTCP: 3), ") {
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
		bound := s.bound("http://127.0.0.1/", "https://127.0.0.1/")
		s.tunnel("127.0.0.1:80")
		before := s.Property("mpgate.service", "MainPID")
		stop := s.load("http://127.0.0.1/", "https://127.0.0.1/")
		for range 3 {
			s.Run("systemctl", "restart", "mpgate.service")
		}
		n, longest := stop()
		t.Logf("%d requests over three restarts, the longest took %v", n, longest.Round(time.Millisecond))
		if longest > bound {
			t.Errorf("a request took %v, want at most %v", longest, bound)
		}
		if s.Property("mpgate.service", "MainPID") == before {
			t.Error("it was not restarted")
		}
	})
	s.t = t
	t.Run("stops lose no POST", func(t *testing.T) { s.stopsLoseNoPOST(t) })
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
	if text := s.Property("mpgate.service", "StatusText"); !strings.Contains(text, "the last reload failed") {
		t.Errorf("its status is %q", text)
	}

	s.Write(configFile, passed+routes+"[[listener]]\nname = \"third\"\nsystemd = \"third\"\naddress = \"127.0.0.1:81\"\n", 0o644)
	out, code = s.Try("mpgate", "reload", "-c", configFile)
	if code != 78 || !strings.Contains(out, `no inherited socket is named "third"`) || !strings.Contains(out, "start the .socket unit, then run systemctl restart mpgate") {
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
	s.Write(units+"mpgate.service.d/fast.conf", "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\nRestartSec=100ms\n", 0o644)
	s.Run("systemctl", "daemon-reload")
	s.Run("systemctl", "restart", "mpgate.service")
	s.Run("mpgate", "upgrade", "-c", configFile) // the watchdog hears from the new process as well
	pid := s.Property("mpgate.service", "MainPID")
	stop := s.load("http://127.0.0.1/")
	if !s.within(6*time.Second, func() bool { return s.Property("mpgate.service", "MainPID") != pid }) {
		// Three times the watchdog's time under load, and no false alarm.
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

// upgrade: another binary takes over; systemd knows the new process, and nobody notices. One that
// cannot serve does not.
func (s *service) upgrade(t *testing.T, urls ...string) {
	s.t = t
	bound := s.bound(urls...)
	idle := s.tunnel(strings.TrimSuffix(strings.TrimPrefix(urls[0], "http://"), "/") + map[bool]string{true: ":80"}[!strings.Contains(urls[0][7:], ":")])
	stop := s.load(urls...)
	pid := s.Property("mpgate.service", "MainPID")
	s.Install(binary, "/usr/bin/mpgate", 0o755)
	out := s.Run("mpgate", "upgrade", "-c", configFile)
	if out != "upgraded: another process has taken over\n" {
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
	if code != 1 || !strings.Contains(out, "upgrade failed; the running process continues: the new process ended before it was ready") {
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
	if longest > bound {
		t.Errorf("a request took %v, want at most %v", longest, bound)
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
			Sockets []struct{ Transport, Why string }
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Listeners) != 2 {
		t.Fatalf("status: %v\n%s", err, out)
	}
	for _, l := range status.Listeners {
		for _, k := range l.Sockets {
			if k.Transport != "tcp" || k.Why != "the socket that was passed is TCP" {
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

// TestOwnSockets: the service opens its sockets by itself; systemd's store keeps them over a
// restart.
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
	bound := s.bound("http://127.0.0.1:8080/")
	s.tunnel("127.0.0.1:8080")
	stop := s.load("http://127.0.0.1:8080/")
	for range 3 {
		s.Run("systemctl", "restart", "mpgate.service")
	}
	n, longest := stop()
	t.Logf("%d requests over three restarts, the longest took %v", n, longest.Round(time.Millisecond))
	if longest > bound {
		t.Errorf("a request took %v, want at most %v", longest, bound)
	}
	s.journaled(`"msg":"listening","listener":"http","address":"127.0.0.1:8080","transport":"mptcp","from":"fdstore"`)
	t.Run("upgrade", func(t *testing.T) { s.upgrade(t, "http://127.0.0.1:8080/") })
	t.Run("reloads lose no POST", func(t *testing.T) { s.reloadsLoseNoPOST(t) })
	s.t = t

	// Another protocol: a reload swaps the socket, and the store has the new one.
	plain := strings.Replace(own, `name = "http"`, "name = \"http\"\nmptcp = \"off\"", 1) + routes
	s.Write(configFile, plain, 0o644)
	s.Run("systemctl", "reload", "mpgate.service")
	s.get(s.client(true), "http://127.0.0.1:8080/plain")
	s.logged("/plain", `"client_transport":"tcp"`)
	s.Run("systemctl", "restart", "mpgate.service")
	s.journaled(`"msg":"listening","listener":"http","address":"127.0.0.1:8080","transport":"tcp","from":"fdstore"`)
	// A restart puts a new socket in the place of a stored one that does not fit.
	s.Write(configFile, own+routes, 0o644)
	s.Run("systemctl", "restart", "mpgate.service")
	s.journaled(`"why":"it is a tcp socket, but mptcp is configured"`)
	s.get(s.client(true), "http://127.0.0.1:8080/again")
	s.logged("/again", `"client_transport":"mptcp"`)
	// So it does for one that is in the way of an address that overlaps, which a reload refuses.
	s.Write(configFile, strings.Replace(own, "127.0.0.1:8080", ":8080", 1)+routes, 0o644)
	if out, code := s.Try("systemctl", "reload", "mpgate.service"); code == 0 {
		t.Errorf("two sockets for one port: %s", out)
	}
	s.journaled(`which is used by this gateway's listener .*http.*: bind: address already in use; remedy: restart mpgate`)
	s.Run("systemctl", "restart", "mpgate.service")
	s.journaled(`"why":"it conflicts with :8080"`)
	s.get(s.client(true), "http://127.0.0.1:8080/all")

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

// TestUpgradeKeepsPaths: the endpoints of declared paths stay through an upgrade.
func TestUpgradeKeepsPaths(t *testing.T) {
	const paths = `
[mptcp]
manage = "sync"
paths = [ { address = "192.0.2.7", role = "listener" } ]
`
	s := install(t, paths+own)
	s.Run("ip", "link", "add", "wan", "type", "veth", "peer", "name", "far")
	s.Run("ip", "address", "add", "192.0.2.7/24", "dev", "wan")
	s.Run("ip", "link", "set", "far", "up")
	s.Run("ip", "link", "set", "wan", "up")
	s.Run("systemctl", "start", "mpgate.service")
	endpoints := func() string { return strings.TrimSpace(s.Run("ip", "mptcp", "endpoint", "show")) }
	if !s.within(10*time.Second, func() bool { return strings.HasPrefix(endpoints(), "192.0.2.7 ") }) {
		t.Fatalf("the endpoints are %q\n%s", endpoints(), s.journal())
	}
	before := endpoints()
	for range 2 {
		pid := s.Property("mpgate.service", "MainPID")
		s.Run("mpgate", "upgrade", "-c", configFile)
		if !s.within(10*time.Second, func() bool { _, code := s.Try("test", "-d", "/proc/"+pid); return code != 0 }) {
			t.Fatal("the old process does not end")
		}
		if now := endpoints(); now != before {
			t.Errorf("the endpoints are %q, and were %q before the upgrade", now, before)
		}
	}

	// systemd says that it may not notice the end of a process that is no child of its; it does.
	pid := s.Property("mpgate.service", "MainPID")
	s.Run("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", "mpgate.service")
	if !s.within(20*time.Second, func() bool {
		now := s.Property("mpgate.service", "MainPID")
		return now != pid && now != "0" && s.Property("mpgate.service", "ActiveState") == "active"
	}) {
		t.Fatalf("a process that took over is not replaced when it dies:\n%s", s.journal())
	}
}
