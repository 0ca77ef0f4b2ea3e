package systemd

import (
	"crypto/tls"
	"flag"
	"testing"
	"time"
)

var (
	stops     = flag.Int("stops", 1, "upgrades and restarts of TestStopsLoseNoPOST, of each so many")
	stopPosts = flag.Int64("stops.posts", 500, "POSTs before each stop")
	stopPause = flag.Duration("stops.pause", 0, "the longest pause of a client between two POSTs")
	stopKind  = flag.String("stops.clients", "mixed", "mixed, tcp, mptcp, tls or h2")
)

// postKinds returns 16 clients.
func (s *service) postKinds(which string) []postKind {
	secure := &tls.Config{InsecureSkipVerify: true, ServerName: "machine"}
	two := &tls.Config{InsecureSkipVerify: true, ServerName: "machine", NextProtos: []string{"h2"}}
	k := func(n int, mptcp bool, address string, t *tls.Config) postKind {
		return postKind{clients: n, address: address, mptcp: mptcp, tls: t, pause: *stopPause, two: t == two}
	}
	switch which {
	case "tcp":
		return []postKind{k(16, false, "127.0.0.1:80", nil)}
	case "mptcp":
		return []postKind{k(16, true, "127.0.0.1:80", nil)}
	case "tls":
		return []postKind{k(16, false, "127.0.0.1:443", secure)}
	case "h2":
		return []postKind{k(8, false, "127.0.0.1:443", two), k(8, true, "127.0.0.1:443", two)}
	}
	return []postKind{
		k(4, false, "127.0.0.1:80", nil), k(4, true, "127.0.0.1:80", nil),
		k(4, true, "127.0.0.1:443", secure), k(2, false, "127.0.0.1:443", two), k(2, true, "127.0.0.1:443", two),
	}
}

// stopsLoseNoPOST: clients post on kept connections through upgrades and restarts.
func (s *service) stopsLoseNoPOST(t *testing.T) {
	s.t = t
	l := &postLedger{served: map[string]int{}}
	s.posts.Store(l)
	p := &posters{s: s, ledger: l}
	p.start(s.postKinds(*stopKind)...)
	for range *stops {
		p.more(*stopPosts)
		began := time.Now()
		s.Run("mpgate", "upgrade", "-c", configFile)
		upgraded := time.Since(began)
		p.more(*stopPosts)
		began = time.Now()
		s.Run("systemctl", "restart", "mpgate.service")
		t.Logf("an upgrade took %v, a restart %v, until %s", upgraded.Round(time.Millisecond),
			time.Since(began).Round(time.Millisecond), time.Now().Format(time.StampMicro))
	}
	p.more(*stopPosts)
	p.end()
	if l.judge(t); t.Failed() {
		t.Log(s.journal())
	}
}

// TestStopsLoseNoPOST is for measurements: -stops 10 -stops.posts 4000.
func TestStopsLoseNoPOST(t *testing.T) {
	s := install(t, passed)
	s.Run("systemctl", "start", "mpgate-http.socket", "mpgate-https.socket")
	s.get(s.client(false), "http://127.0.0.1/")
	s.stopsLoseNoPOST(t)
}
