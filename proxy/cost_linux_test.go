package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/route"
	"mpgate/proxy/split"
	"mpgate/proxy/template"
)

// rawOrigin answers every request, which must come in one piece and have no body, and allocates
// nothing meanwhile.
func rawOrigin(t *testing.T, mode mptcp.Mode, response string) (address string) {
	l := proxytest.Listen(t, mode)
	done := make(chan struct{})
	var conn net.Conn
	go func() {
		defer close(done)
		var err error
		if conn, err = l.Accept(); err != nil {
			return
		}
		defer conn.Close()
		in, out := make([]byte, 8<<10), []byte(response)
		for {
			n, err := conn.Read(in)
			if err != nil {
				return
			}
			if !bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
				t.Errorf("a request came in pieces: %q", in[:n])
				return
			}
			if _, err := conn.Write(out); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done }) // the gateway has closed its side
	return l.Addr().String()
}

// TestNoAllocationPerRequest counts what a request on a kept connection allocates in this whole
// process, with metrics and access log on. It runs alone.
func TestNoAllocationPerRequest(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	response := proxytest.Response("200 OK", strings.Repeat("x", 1024), "Content-Type: text/plain",
		"Date: Tue, 24 Nov 2026 00:00:00 GMT")
	request := []byte("GET /path/to/it?q=1 HTTP/1.1\r\n" + host +
		"User-Agent: test\r\nAccept: */*\r\nCookie: a=b\r\n\r\n")
	for _, m := range modes {
		if m.inherited || m.tls { // the client's crypto/tls allocates
			continue
		}
		for name, routes := range map[string]func(*backend.Backend) []proxy.Route{
			"one route": nil, "filters": filteredRoutes(t), "conditions and a split": splitRoutes(t),
		} {
			t.Run(m.name+", "+name, func(t *testing.T) {
				noAllocation(t, setup{mode: m, routes: routes}, request, response)
			})
		}
		for _, balance := range []string{"least", "latency", "first", "hash"} {
			t.Run(m.name+", "+balance, func(t *testing.T) {
				o := backend.Options{Balance: balance, Sticky: backend.StickyOptions{Cookie: "srv", Key: []byte("key")}}
				noAllocation(t, setup{mode: m, routes: keyedRoutes(t), backend: o}, request, response)
			})
		}
		t.Run(m.name+", hedge", func(t *testing.T) {
			o := backend.Options{Hedge: &backend.Hedge{Quantile: 0.95, Budget: 0.05}}
			noAllocation(t, setup{mode: m, backend: o}, request, response)
		})
	}
}

func noAllocation(t *testing.T, s setup, request []byte, response string) {
	if s.mode.mptcp != mptcp.Off {
		proxytest.NeedMPTCP(t)
	}
	s.logFile = filepath.Join(t.TempDir(), "access.log")
	g := startBefore(t, s, rawOrigin(t, s.mode.mptcp, response))
	c := g.client()
	c.Send(string(request))
	first := c.Answer()
	want(t, "status", first.Status, 200)
	answer := make([]byte, len(first.Head)+len(first.Body))
	const runs = 2000
	var failed error
	allocs := testing.AllocsPerRun(runs, func() {
		if _, err := c.Conn.Write(request); err != nil {
			failed = err
		}
		if _, err := io.ReadFull(c.Conn, answer); err != nil {
			failed = err
		}
	})
	if failed != nil || !bytes.HasSuffix(answer, []byte("xxxx")) {
		t.Fatalf("%v, %q", failed, answer)
	}
	if allocs != 0 {
		t.Errorf("%v allocations per request, want none", allocs)
	}
	g.close()
	log, err := os.ReadFile(s.logFile)
	// AllocsPerRun does one more.
	if n := bytes.Count(log, []byte{'\n'}); err != nil || n != runs+2 {
		t.Errorf("%d log lines, %v, want %d", n, err, runs+2)
	}
}

// filteredRoutes are one route for everything. Its filters are ten operations on header fields, a
// list of 1,000 networks, and a path that is rewritten.
func filteredRoutes(t *testing.T) func(*backend.Backend) []proxy.Route {
	t.Helper()
	networks := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for i := range 999 {
		networks = append(networks, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i / 256), byte(i), 0}), 25))
	}
	chain := filter.Compile(filter.NewAccess(networks, nil), rewriteTo(t, "/v1/*"),
		requestHeaders(t, "X-Forwarded-Port={port}", "Cookie=", "X-URL={scheme}://{host}{uri}", "+X-Client={client}", "Host=b.example"),
		filter.NewResponseHeaders(fieldEdits(t, "X-Frame-Options=DENY", "Server=", "X-ID={id}", "+Vary=Origin", "X-Status={status}")),
		filter.MaxForwards{})
	return func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}, Filters: chain}}
	}
}

// keyedRoutes are a route whose requests have a key.
func keyedRoutes(t *testing.T) func(*backend.Backend) []proxy.Route {
	t.Helper()
	key, err := template.Parse("{client} {cookie.a}")
	if err != nil {
		t.Fatal(err)
	}
	return func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b, Key: key}}}
	}
}

// splitRoutes are a route with conditions, which divides requests by the client, and others that
// the request has to be compared with.
func splitRoutes(t *testing.T) func(*backend.Backend) []proxy.Route {
	t.Helper()
	weights, err := split.New([]split.Choice{{Name: "a", Weight: 95}, {Name: "b", Weight: 5}})
	if err != nil {
		t.Fatal(err)
	}
	by, err := template.Parse("{client}")
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{"/*/to/*"}
	return func(b *backend.Backend) []proxy.Route {
		forward := &proxy.Forward{Backend: b}
		return []proxy.Route{
			{Name: "post", Match: route.Match{Methods: []string{"POST"}, Paths: paths}, Action: forward},
			{Name: "query", Match: route.Match{Query: map[string]string{"q": "2"}, Paths: paths}, Action: forward},
			{Name: "split", Match: route.Match{Cookie: map[string]string{"a": "b"}, Header: map[string]string{"Accept": "*", "X-Old": ""}, Paths: paths},
				Action: &proxy.Split{Choices: []proxy.Choice{{Action: forward}, {Action: forward}}, Weights: weights, By: by}},
			{Name: "rest", Match: route.Match{Paths: []string{"*.html"}}, Action: forward},
		}
	}
}

// rawClient is a connected socket that costs this process's heap nothing.
func rawClient(t *testing.T, address string) int {
	t.Helper()
	to, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte(to.IP.To4()), Port: to.Port})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// inUse is what the Go runtime holds for live objects and stacks.
func inUse() int64 {
	var s runtime.MemStats
	for range 3 { // pools empty in two steps
		runtime.GC()
	}
	runtime.ReadMemStats(&s)
	return int64(s.HeapInuse + s.StackInuse)
}

// TestIdleConnectionMemory runs alone.
func TestIdleConnectionMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	count := 2000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < 2*2000+200 {
		count = int(limit.Cur-200) / 2
	}
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{noLog: true}, o)
	request, answer := []byte("GET / HTTP/1.1\r\n"+host+"\r\n"), make([]byte, 4096)
	ask := func(fd int) {
		if _, err := unix.Write(fd, request); err != nil {
			t.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(answer[:n], []byte("GET / ")); {
			k, err := unix.Read(fd, answer[n:])
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || k == 0 {
				t.Fatal(k, err)
			}
			n += k
		}
	}
	fds := make([]int, 0, count)
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		g.waitMetric(0, "mpgate_connections_open")
	}()
	connect := func(n int) {
		for range n {
			fd := rawClient(t, g.addr)
			fds = append(fds, fd)
			ask(fd)
		}
	}
	connect(10)
	before := inUse()
	connect(count - 10)
	g.waitMetric(float64(count), "mpgate_connections_open")
	began := time.Now()
	each := (inUse() - before) / int64(count-10)
	t.Logf("an idle connection costs %d bytes (%d of them, read after %v)", each, count, time.Since(began))
	if each > 8<<10 {
		t.Errorf("an idle connection costs %d bytes, want at most 8 KiB", each)
	}
}
