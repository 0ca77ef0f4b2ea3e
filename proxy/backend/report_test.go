package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/proxytest"
)

// reports has what a backend reports of its servers.
type reports struct {
	down chan error
	up   chan string
}

func reporting(o *Options) *reports {
	r := &reports{make(chan error, 100), make(chan string, 100)}
	o.Down = func(_ string, why error) { r.down <- why }
	o.Up = func(server string, _ time.Duration) { r.up <- server }
	return r
}

func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(proxytest.Patience):
		t.Fatal("nothing is reported")
	}
	return v
}

// An outage is reported once, with its cause, which is also in the status. Its end is reported,
// too.
func TestOutageIsReported(t *testing.T) {
	server := proxytest.NewRefusing(t)
	o := Options{Servers: servers(server.Address)}
	r := reporting(&o)
	b, _ := pool(t, o, probingEvery(10*time.Millisecond))
	for range 3 {
		if _, _, err := open(t, b); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("got %v, want a refusal", err)
		}
	}
	if err := await(t, r.down); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("reported %v, want a refusal", err)
	}
	if s := b.Status()[0]; !s.Down || !strings.Contains(s.Why, "refused") {
		t.Errorf("status %+v, want the refusal", s)
	}
	proxytest.OriginOn(t, server.Listen(), silent)
	if s := await(t, r.up); s != server.Address {
		t.Errorf("%s is back, want %s", s, server.Address)
	}
	if s := b.Status()[0]; s.Down || s.Why != "" {
		t.Errorf("status %+v, want a server that is up", s)
	}
	if n := len(r.down); n != 0 {
		t.Errorf("reported %d times more", n)
	}
}

// The cause of a failed handshake is reported, not only that there was one.
func TestUntrustedServerIsReported(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	o := Options{Servers: servers(server.Listener.Addr().String()), TLS: func(host string) (*tls.Config, error) {
		return &tls.Config{ServerName: host, RootCAs: x509.NewCertPool()}, nil
	}}
	r := reporting(&o)
	b, _ := pool(t, o)
	if _, _, err := open(t, b); err == nil {
		t.Fatal("a server with an unknown certificate authority was used")
	}
	var unknown x509.UnknownAuthorityError
	if err := await(t, r.down); !errors.As(err, &unknown) {
		t.Errorf("reported %v, want an unknown authority", err)
	}
	if s := b.Status()[0]; !strings.Contains(s.Why, "unknown authority") {
		t.Errorf("status %+v, want the unknown authority", s)
	}
}

// Of a server that fails now and then not every outage is reported, but one that lasts is.
func TestFlappingServerIsReportedOnce(t *testing.T) {
	o := Options{Servers: servers(proxytest.NewRefusing(t).Address)}
	r := reporting(&o)
	b, _ := pool(t, o, probingEvery(10*time.Millisecond))
	s := b.list()[0]
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for range 20 {
		s.connectFailed(refused)
		s.connectSucceeded()
	}
	await(t, r.down)
	await(t, r.up)
	s.connectFailed(refused)
	if n := len(r.down); n != 0 {
		t.Errorf("reported %d times more within moments", n)
	}
	s.mu.Lock()
	s.reported = s.reported.Add(-reportEvery)
	s.mu.Unlock()
	await(t, r.down)
}

// It is reported once that a name no longer resolves while its last addresses stay in use, and once
// that it resolves again.
func TestStaleNameIsReported(t *testing.T) {
	broken := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, syscall.ECONNREFUSED
	}}
	works := resolverOf(t, func() []netip.Addr { return addrs("192.0.2.7") })
	n := stale("moved.example.", broken)
	var said []string
	tell := func(err error) {
		if err == nil {
			said = append(said, "again")
			return
		}
		said = append(said, "stale")
	}
	failures := 0
	for _, c := range []struct {
		resolver *net.Resolver
		want     string
	}{{broken, ""}, {broken, "stale"}, {broken, "stale"}, {works, "stale again"}, {works, "stale again"}, {broken, "stale again"}, {works, "stale again"}} {
		n.resolver = c.resolver
		n.refresh(t.Context())
		failures = n.noteRefresh(failures, tell)
		if got := strings.Join(said, " "); got != c.want {
			t.Fatalf("reported %q, want %q", got, c.want)
		}
	}
	never := newNames("never.example.")
	never.resolver = broken
	said = nil
	for range 3 {
		never.refresh(t.Context())
		failures = never.noteRefresh(failures, tell)
	}
	if len(said) != 0 {
		t.Errorf("reported %q of a name that never resolved", said)
	}
}
