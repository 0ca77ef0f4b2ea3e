package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/internal/acmetest"
)

func TestMain(m *testing.M) {
	if os.Getenv("MPGATE_TEST_SOLVER") != "" {
		os.Exit(execHelper())
	}
	// certmagic's file locks are kept fresh by a goroutine that ends up to 5 s
	// after the lock was released.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

// patience ends a wait for something that does not come.
const patience = 30 * time.Second

// testCA signs what tests need.
type testCA struct {
	cert *x509.Certificate
	file string
	ca   *acmetest.CA
	t    testing.TB
}

func newCA(t testing.TB) *testCA {
	t.Helper()
	ca := acmetest.NewCA(t)
	return &testCA{ca.Cert, ca.File, ca, t}
}

func newKey(t testing.TB) *ecdsa.PrivateKey { return acmetest.NewKey(t) }

func certPEM(c *x509.Certificate) []byte { return acmetest.CertPEM(c) }

func keyPEM(t testing.TB, k crypto.Signer) []byte { return acmetest.KeyPEM(t, k) }

func writeFile(t testing.TB, name string, data []byte) { t.Helper(); acmetest.Replace(t, name, data) }

// pair writes a certificate for names into a directory of its own.
func (ca *testCA) pair(names ...string) Pair {
	ca.t.Helper()
	return ca.pairIn(ca.t.TempDir(), &x509.Certificate{DNSNames: names})
}

func (ca *testCA) pairIn(dir string, c *x509.Certificate) Pair {
	ca.t.Helper()
	cert, key := ca.ca.PairIn(dir, c)
	return Pair{cert, key}
}

func (ca *testCA) client(c *x509.Certificate) *tls.Certificate { return ca.ca.Client(c) }

func (ca *testCA) pool() *x509.CertPool { return ca.ca.Pool() }

// events are what hooks were called with.
type events struct {
	notAfter   chan string // names
	errors     chan error
	handshakes chan Result
	log        *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newManager returns a manager that looks and retries quickly, and runs.
func newManager(t testing.TB, change func(*ManagerOptions)) (*Manager, *events) {
	t.Helper()
	ev := &events{
		notAfter: make(chan string, 1000), errors: make(chan error, 1000),
		handshakes: make(chan Result, 1000), log: &logBuffer{},
	}
	o := ManagerOptions{
		Dir:      t.TempDir(),
		Log:      slog.New(slog.NewTextHandler(ev.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		FilePoll: 5 * time.Millisecond,
		// An hour means "when the test says so".
		TicketRotation: time.Hour,
		RenewCheck:     200 * time.Millisecond,
		RetryFirst:     50 * time.Millisecond,
		RetryMax:       500 * time.Millisecond,
		Hooks: Hooks{
			NotAfter: func(name string, at time.Time) {
				if !at.IsZero() {
					ev.notAfter <- name
				}
			},
			Error: func(_, _ string, err error) { ev.errors <- err },
			Handshake: func(_ string, r Result) {
				select {
				case ev.handshakes <- r:
				default: // few tests look
				}
			},
		},
	}
	if change != nil {
		change(&o)
	}
	m := NewManager(o)
	done := make(chan error, 1)
	go func() { done <- m.Run(t.Context()) }()
	t.Cleanup(func() {
		m.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(ev.log.String())
		}
	})
	return m, ev
}

func open(t testing.TB, m *Manager, o Options) *Set {
	t.Helper()
	if o.Listener == "" {
		o.Listener = "web"
	}
	s, err := m.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %s for %s", patience, what)
		panic("unreachable")
	}
}

// server does what the data plane will do, on a real socket.
type server struct {
	addr  string
	set   func() *Set
	conns chan served
}

// served is what the server's side made of a connection.
type served struct {
	state  tls.ConnectionState
	err    error
	policy PolicyID
	result Result
}

func serve(t testing.TB, set *Set) *server {
	return serveAny(t, func() *Set { return set })
}

func serveAny(t testing.TB, set func() *Set) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: ln.Addr().String(), set: set, conns: make(chan served, 100)}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { s.one(t, c) })
		}
	})
	t.Cleanup(func() { ln.Close(); tasks.Wait() })
	return s
}

func (s *server) one(t testing.TB, c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	set := s.set()
	tc := tls.Server(c, set.ServerConfig())
	err := tc.HandshakeContext(t.Context())
	cs := tc.ConnectionState()
	id, res := set.Done(&cs, err)
	select {
	case s.conns <- served{cs, err, id, res}:
	default:
	}
	if res == ResultOK {
		tc.Write([]byte("hello")) // carries the tickets of TLS 1.3 along
		io.Copy(io.Discard, tc)
	}
}

// dial makes one connection and reads the greeting.
func (s *server) dial(t testing.TB, cfg *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	return greet(c, cfg)
}

func greet(c net.Conn, cfg *tls.Config) (tls.ConnectionState, error) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	tc := tls.Client(c, cfg)
	if err := tc.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	// In TLS 1.3 a refused client certificate shows at the first read.
	if _, err := io.ReadFull(tc, make([]byte, 5)); err != nil {
		return tls.ConnectionState{}, err
	}
	return tc.ConnectionState(), nil
}

// must dials, and returns both sides' view.
func (s *server) must(t testing.TB, cfg *tls.Config) (tls.ConnectionState, served) {
	t.Helper()
	cs, err := s.dial(t, cfg)
	if err != nil {
		t.Fatalf("server name %q: %v", cfg.ServerName, err)
	}
	return cs, wait(t, "the server's side", s.conns)
}

// refused dials, and holds the client's error and the server's result to what
// is wanted.
func (s *server) refused(t testing.TB, cfg *tls.Config, alert string, result Result) {
	t.Helper()
	_, err := s.dial(t, cfg)
	if err == nil || err.Error() != alert {
		t.Errorf("server name %q: got error %v, want %q", cfg.ServerName, err, alert)
	}
	if got := wait(t, "the server's side", s.conns); got.result != result {
		t.Errorf("server name %q: got result %q (%v), want %q", cfg.ServerName, got.result, got.err, result)
	}
}

const unrecognized = "remote error: tls: unrecognized name"
