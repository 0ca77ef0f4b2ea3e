package listener

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/internal/need"
	"mpgate/mptcp"
)

// The test binary is also the child process of some tests: see child_test.go.
func TestMain(m *testing.M) {
	if role := os.Getenv("LISTENER_TEST_CHILD"); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

func needMPTCP(t testing.TB) {
	t.Helper()
	if s := mptcp.Host(); !s.Usable {
		need.Missing(t, "no MPTCP on this host: %s; remedy: %s", s.Why, s.Remedy)
	}
}

func openFDs(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func noFDLeak(t testing.TB) {
	t.Helper()
	warm, err := net.Listen("tcp", "127.0.0.1:0") // the poller's own
	if err != nil {
		t.Fatal(err)
	}
	warm.Close()
	before := openFDs(t)
	t.Cleanup(func() {
		if after := openFDs(t); after > before {
			t.Errorf("descriptors leaked: %d open at the start, %d at the end", before, after)
		}
	})
}

func open(t testing.TB, o Options, in *Inherited) *Listener {
	t.Helper()
	l, err := Open(context.Background(), o, in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// sendAddress answers each connection with the address of the socket it came by, and closes it.
func sendAddress(c net.Conn, s *Socket) {
	_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(c, s.Info().Address)
	c.Close()
}

// serve serves l until the test ends.
func serve(t testing.TB, l *Listener, accept func(net.Conn, *Socket)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, accept) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	network := "tcp"
	if a, ok := cutUnix(address); ok {
		network, address = "unix", a
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	d.SetMultipathTCP(true)
	c, err := d.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func cutUnix(address string) (string, bool) {
	const p = "unix:"
	if len(address) > len(p) && address[:len(p)] == p {
		return address[len(p):], true
	}
	return address, false
}

// ask dials and reads all that is said.
func ask(t testing.TB, address string) string {
	t.Helper()
	c := dial(t, address)
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// logBuffer collects log lines.
type logBuffer struct {
	mu    sync.Mutex
	lines []string
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(p))
	return len(p), nil
}

func (b *logBuffer) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.lines...)
}
