package systemd

import (
	"crypto/tls"
	"flag"
	"strings"
	"testing"
	"time"
)

// A measurement of 80,000 POSTs is
//
//	go test ./internal/systemd -run 'TestPassedSockets/stops' -v -stops 10 -stops.posts 4000
var (
	stops       = flag.Int("stops", 1, "how many upgrades and restarts lose no POST")
	stopPosts   = flag.Int64("stops.posts", 300, "POSTs before each of them")
	stopPause   = flag.Duration("stops.pause", 0, "the longest pause of a client between two POSTs")
	stopClients = flag.String("stops.clients", "", "tcp, mptcp, tls or h2: all clients are of this kind")
)

// postKinds returns 16 clients.
func postKinds() []postKind {
	secure := &tls.Config{InsecureSkipVerify: true, ServerName: "machine"}
	two := &tls.Config{InsecureSkipVerify: true, ServerName: "machine", NextProtos: []string{"h2"}}
	of := func(n int, mptcp bool, t *tls.Config) postKind {
		k := postKind{clients: n, address: "127.0.0.1:80", mptcp: mptcp, tls: t, pause: *stopPause, two: t == two}
		if t != nil {
			k.address = "127.0.0.1:443"
		}
		return k
	}
	switch *stopClients {
	case "tcp":
		return []postKind{of(16, false, nil)}
	case "mptcp":
		return []postKind{of(16, true, nil)}
	case "tls":
		return []postKind{of(16, false, secure)}
	case "h2":
		return []postKind{of(8, false, two), of(8, true, two)}
	}
	return []postKind{of(4, false, nil), of(4, true, nil), of(4, true, secure), of(2, false, two), of(2, true, two)}
}

// stopsLoseNoPOST: clients post on kept connections through upgrades and restarts.
func (s *service) stopsLoseNoPOST(t *testing.T) {
	s.t = t
	p := s.startPosters(postKinds()...)
	for range *stops {
		p.more(*stopPosts)
		pid := s.Property("mpgate.service", "MainPID")
		began := time.Now()
		s.Run("mpgate", "upgrade", "-c", configFile)
		upgraded := time.Since(began)
		p.more(*stopPosts)
		// systemd kills a main process that is not its child if it is alone in the unit.
		if !s.within(10*time.Second, func() bool { _, code := s.Try("test", "-d", "/proc/"+pid); return code != 0 }) {
			t.Error("the old process does not end")
		}
		began = time.Now()
		s.Run("systemctl", "restart", "mpgate.service")
		t.Logf("an upgrade took %v, a restart %v", upgraded.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
	p.more(*stopPosts)
	p.end()
	if strings.Contains(s.journal(), "not our child") {
		t.Error("after an upgrade, the main process is not a child of systemd")
	}
	if t.Failed() {
		t.Log(s.journal())
	}
}

// reloadsLoseNoPOST: clients post on kept connections while reloads replace the listening socket.
func (s *service) reloadsLoseNoPOST(t *testing.T) {
	s.t = t
	p := s.startPosters(
		postKind{clients: 8, address: "127.0.0.1:8080", pause: *stopPause},
		postKind{clients: 8, address: "127.0.0.1:8080", pause: *stopPause, mptcp: true},
	)
	plain := strings.Replace(own, `name = "http"`, "name = \"http\"\nmptcp = \"off\"", 1)
	for range *stops {
		for _, config := range []string{plain, own} {
			p.more(*stopPosts)
			s.Write(configFile, config+routes, 0o644)
			s.Run("systemctl", "reload", "mpgate.service")
		}
	}
	p.more(*stopPosts)
	p.end()
}
