package proxy_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
)

// logText is what was logged.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// heldConnections is an origin that answers once it may.
func heldConnections(free <-chan struct{}) func(*proxytest.Conn) {
	return func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			<-free
			if !c.Send(proxytest.EchoOf(r)) {
				return
			}
		}
	}
}

// A request for which there is no connection to a server waits for one for as long as a connect may
// take; then it is told to come again, and the server is not to blame.
func TestNoPlaceForAConnection(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		free := make(chan struct{})
		release := sync.OnceFunc(func() { close(free) })
		defer release()
		limit := new(backend.ConnLimit)
		limit.SetLimit(1)
		var log logText
		s := setup{mode: m, backend: backend.Options{ConnLimit: limit, ConnectTimeout: time.Second}}
		s.options.Logger = slog.New(slog.NewTextHandler(&log, nil))
		g := start(t, s, m.origin(t, heldConnections(free)))
		first, second := g.client(), g.client()
		first.Send("GET /first HTTP/1.1\r\n" + host + "\r\n")
		if !proxytest.Within(proxytest.Patience, func() bool { return limit.Used() == 1 }) {
			t.Fatal("no connection to the server")
		}
		for i, request := range []string{
			"GET /second HTTP/1.1\r\n" + host + "\r\n",
			"POST /second HTTP/1.1\r\n" + host + "Content-Length: 4\r\n\r\nbody",
		} {
			second.Send(request)
			a := second.Answer()
			if a.Status != 503 || a.Header("Retry-After") == "" || a.Has("Connection") {
				t.Errorf("request %d: got %q", i, a.Head)
			}
			if l := g.log.Next(); l.End != "limit" || l.Status != 503 || l.Tries != 0 {
				t.Errorf("logged %+v", l)
			}
		}
		if n := g.metric("mpgate_shed_total", "reason", "connections"); n != 2 {
			t.Errorf("%v counted, want 2", n)
		}
		if text := log.String(); strings.Count(text, "reason=connections") != 1 || !strings.Contains(text, "remedy=") {
			t.Errorf("logged %q, want one line", text)
		}
		release()
		want(t, "body", first.Answer().Body, "GET /first ")
		want(t, "body", second.Get("/third").Body, "GET /third ")
	})
}

// A waiting request gets the connection that another releases, without a further dial.
func TestWaitForAConnection(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		free := make(chan struct{})
		release := sync.OnceFunc(func() { close(free) })
		defer release()
		limit := new(backend.ConnLimit)
		limit.SetLimit(1)
		o := m.origin(t, heldConnections(free))
		g := start(t, setup{mode: m, backend: backend.Options{ConnLimit: limit, ConnectTimeout: proxytest.Patience}}, o)
		clients := make([]*proxytest.Client, 3)
		for i := range clients {
			clients[i] = g.client()
			clients[i].Send("POST /x HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\n" + string(rune('a'+i)))
		}
		if !proxytest.Within(proxytest.Patience, func() bool { return limit.Used() == 1 }) {
			t.Fatal("no connection to the server")
		}
		release()
		for i, c := range clients {
			if a := c.AnswerTo("POST"); a.Body != "POST /x "+string(rune('a'+i)) {
				t.Errorf("client %d: got %d %q", i, a.Status, a.Body)
			}
		}
		if n := o.Connections(); n != 1 {
			t.Errorf("%d connections to the server, want 1", n)
		}
	})
}

// Without memory for a request it is refused, whatever it is; those under way continue.
func TestNoMemoryForARequest(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		free := make(chan struct{})
		release := sync.OnceFunc(func() { close(free) })
		defer release()
		var mu sync.Mutex
		left := int64(1 << 30)
		s := setup{mode: m}
		s.options.Room = &proxy.Room{Free: func() int64 {
			mu.Lock()
			defer mu.Unlock()
			return left
		}}
		g := start(t, s, m.origin(t, heldConnections(free)))
		first, second := g.client(), g.client()
		first.Send("GET /first HTTP/1.1\r\n" + host + "\r\n")
		second.Send("GET /nothing HTTP/1.1\r\n" + host + "\r\n")
		g.waitMetric(2, "mpgate_backend_requests_in_flight")
		mu.Lock()
		left = -1
		mu.Unlock()
		s.options.Room.Renew(time.Now().Add(time.Hour))
		third := g.client()
		third.Send("GET /third HTTP/1.1\r\n" + host + "\r\n")
		if a := third.Answer(); a.Status != 503 || a.Header("Retry-After") != "1" ||
			a.Header("Content-Length") != "0" || a.Has("Content-Type") {
			t.Errorf("got %q", a.Head)
		}
		third.Send("POST /third HTTP/1.1\r\n" + host + "Content-Length: 4\r\n\r\nbody")
		if a := third.AnswerTo("POST"); a.Status != 503 || a.Body != "" {
			t.Errorf("got %q", a.Head)
		}
		if n := g.metric("mpgate_shed_total", "reason", "memory"); n != 2 {
			t.Errorf("%v counted", n)
		}
		release()
		want(t, "body", first.Answer().Body, "GET /first ")
		want(t, "body", second.Answer().Body, "GET /nothing ")
		mu.Lock()
		left = 1 << 30
		mu.Unlock()
		s.options.Room.Renew(time.Now().Add(2 * time.Hour))
		want(t, "body", third.Get("/third").Body, "GET /third ")
	})
}

// A connection that is passed through is closed.
func TestNoPlaceForAPassedConnection(t *testing.T) {
	limit := new(backend.ConnLimit)
	limit.SetLimit(1)
	origin := plain.origin(t, tlsClient(t))
	g := passed(t, plain, backend.Options{ConnLimit: limit, ConnectTimeout: time.Second},
		proxy.ListenerOptions{TLS: onePolicy(t)}, origin)
	dial := func() (*tls.Conn, error) {
		c := tls.Client(proxytest.Dial(t, g.addr, plain.mptcp).Conn,
			&tls.Config{ServerName: "b.example", RootCAs: testCert(t).roots})
		return c, c.Handshake()
	}
	first, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(); err == nil {
		t.Error("a second one was passed on")
	}
	if l := g.log.Next(); l.End != "limit" {
		t.Errorf("logged %+v", l)
	}
	_ = first.CloseWrite()
	_, _ = io.Copy(io.Discard, first)
	first.Close()
	if !proxytest.Within(proxytest.Patience, func() bool { _, err := dial(); return err == nil }) {
		t.Error("none is passed on any more")
	}
}
