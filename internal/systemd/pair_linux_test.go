package systemd

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestPair: of two units for each address, one MPTCP and one TCP, the kill switch and a reload move
// new connections to the TCP one, and back, and no request is lost.
func TestPair(t *testing.T) {
	s := install(t, passed)
	s.Run("mpgate", "units", "--pair", "-c", configFile, "--dir", strings.TrimSuffix(units, "/"))
	sockets := []string{"mpgate-http.socket", "mpgate-http-tcp.socket", "mpgate-https.socket", "mpgate-https-tcp.socket"}
	verify := []string{"--man=no", units + "mpgate.service"}
	for _, u := range sockets {
		verify = append(verify, units+u)
	}
	if out, code := s.Try("systemd-analyze", append([]string{"verify"}, verify...)...); out != "" || code != 0 {
		t.Errorf("systemd-analyze verify says\n%s", out)
	}
	s.Run("systemctl", "daemon-reload")
	s.Run("systemctl", append([]string{"start"}, sockets...)...)
	urls := []string{"http://127.0.0.1/", "http://127.0.0.1:8080/", "https://127.0.0.1/"}

	// speak asks on new connections, which want MPTCP, and holds the log to what they got.
	speak := func(path, want string) {
		t.Helper()
		for _, url := range urls {
			for range 10 {
				c := s.client(true)
				s.get(c, url+path)
				c.CloseIdleConnections()
			}
		}
		n := 0
		s.within(10*time.Second, func() bool {
			n = strings.Count(s.access(), `"path":"/`+path+`"`)
			return n == 10*len(urls)
		})
		lines := strings.Split(s.access(), "\n")
		for _, line := range lines {
			if strings.Contains(line, `"path":"/`+path+`"`) && !strings.Contains(line, `"client_transport":"`+want+`"`) {
				t.Errorf("want %s: %s", want, line)
			}
		}
		if n != 10*len(urls) {
			t.Errorf("%d lines of %d requests\n%s", n, 10*len(urls), s.journal())
		}
	}
	reserve := func(want string) {
		t.Helper()
		var status struct {
			Listeners []struct {
				Sockets []struct {
					Transport, Why string
					Reserve        bool
				}
			}
		}
		if err := json.Unmarshal([]byte(s.Run("mpgate", "status", "--json", "-c", configFile)), &status); err != nil || len(status.Listeners) != 2 {
			t.Fatalf("status: %v, %+v", err, status)
		}
		for _, l := range status.Listeners {
			for _, k := range l.Sockets {
				if k.Why != "" || k.Reserve != (k.Transport == want) {
					t.Errorf("in reserve should be what speaks %s: %+v", want, l.Sockets)
				}
			}
		}
	}
	s.get(s.client(false), urls[0]) // starts the service, by whichever socket
	s.Await("mpgate.service", "ActiveState", "active")
	speak("first", "mptcp")
	reserve("tcp")

	bound := s.bound(urls...)
	stop := s.load(urls...)
	const off = "[mptcp]\nenabled = false\n"
	s.Write(configFile, off+passed+routes, 0o644)
	if out := s.Run("mpgate", "reload", "-c", configFile); out != "reloaded\n" {
		t.Errorf("reload says %q", out)
	}
	speak("off", "tcp")
	reserve("mptcp")
	s.Run("systemctl", "restart", "mpgate.service") // it finds out again which is which
	speak("restarted", "tcp")
	s.Write(configFile, passed+routes, 0o644)
	s.Run("systemctl", "reload", "mpgate.service")
	speak("on", "mptcp")
	s.Write(configFile, off+passed+routes, 0o644)
	s.Run("mpgate", "upgrade", "-c", configFile)
	speak("upgraded", "tcp")
	n, longest := stop()
	t.Logf("%d requests over two reloads, a restart and an upgrade, the longest took %v", n, longest.Round(time.Millisecond))
	if longest > bound {
		t.Errorf("a request took %v, want at most %v", longest, bound)
	}

	// In the other order, too: what was first in the group of one port is last then.
	s.Run("systemctl", "stop", "mpgate.service")
	s.Run("systemctl", append([]string{"stop"}, sockets...)...)
	for _, u := range []string{"mpgate-http-tcp.socket", "mpgate-http.socket", "mpgate-https-tcp.socket", "mpgate-https.socket"} {
		s.Run("systemctl", "start", u)
	}
	s.Run("systemctl", "start", "mpgate.service")
	speak("other-order", "tcp")
}

// TestSwitchedOffWithoutPair: what systemd holds stays MPTCP, and the reload says so with what
// fixes it.
func TestSwitchedOffWithoutPair(t *testing.T) {
	s := install(t, passed)
	s.Run("systemctl", "start", "mpgate-http.socket", "mpgate-https.socket", "mpgate.service")
	s.Write(configFile, "[mptcp]\nenabled = false\n"+passed+routes, 0o644)
	out := s.Run("mpgate", "reload", "-c", configFile)
	for _, want := range []string{"reloaded\n", "listener http: 0.0.0.0:80 uses mptcp: the socket that was passed is MPTCP and mpgate cannot change that; " +
		"remedy: remove SocketProtocol=mptcp from the .socket unit and restart the socket; with the units of mpgate units --pair no restart is needed\n", "listener https: 0.0.0.0:443 uses mptcp: "} {
		if !strings.Contains(out, want) {
			t.Errorf("reload says %q, and not %q", out, want)
		}
	}
	s.journaled(`"listening, but not as preferred","listener":"http".*"why":"the socket that was passed is MPTCP and mpgate cannot change that"`)
	// The remedy.
	s.units()
	s.Run("systemctl", "stop", "mpgate.service", "mpgate-http.socket", "mpgate-https.socket")
	s.Run("systemctl", "start", "mpgate-http.socket", "mpgate-https.socket", "mpgate.service")
	s.get(s.client(true), "http://127.0.0.1/mended")
	s.logged("/mended", `"client_transport":"tcp"`)
}
