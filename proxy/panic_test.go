package proxy_test

import (
	"crypto/tls"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/route"
)

// TestPanicEndsItsExchangeAlone has two ways to make one: a route without a backend, before the
// exchange is counted, and a caller's function that panics, after it.
func TestPanicEndsItsExchangeAlone(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		s := setup{mode: m}
		s.options.Ready = func() bool { panic("asked whether ready") }
		s.listener.HealthPath = "/health"
		s.routes = func(b *backend.Backend) []proxy.Route {
			return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}},
				{Name: "broken", Match: route.Match{Paths: []string{"/broken"}}}}
		}
		g := start(t, s, o)
		g.expectPanics = true
		other := g.client()
		other.Get("/before")
		g.log.Next()
		for i, path := range []string{"/broken", "/health", "/broken"} {
			c := g.client()
			c.Send("POST " + path + " HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello")
			a := c.AnswerTo("POST")
			want(t, "status", a.Status, 500)
			want(t, "Connection", a.Header("Connection"), "close")
			contains(t, "the body", a.Body, "500 Internal Server Error: internal error\nid: ")
			c.WantClosed()
			l := g.log.Next()
			want(t, "end", l.End, "internal")
			want(t, "logged status", l.Status, 500)
			want(t, "panics", g.metric("mpgate_panics_total"), float64(i+1))
			contains(t, "the program's log", g.programLog.String(), l.ID, "panic", "stack")
			want(t, "body of another connection's next request", other.Get("/after").Body, "GET /after ")
			g.log.Next()
		}
		g.bystander()
		g.waitMetric(0, "mpgate_http_requests_in_flight")
		g.waitMetric(3, "mpgate_exchanges_total", "end", "internal")
		g.waitMetric(3, "mpgate_connections_total", "end", "internal")
		want(t, "panics that the log tells of", strings.Count(g.programLog.String(), "panic in an exchange"), 3)
	})
}

// faulty are TLS policies of a caller that panic when told to.
type faulty struct {
	*policies
	panics func(what string) bool
}

func (f *faulty) Done(state *tls.ConnectionState, err error) (uint64, bool) {
	if state.ServerName == "b.example" {
		panic("asked for b.example")
	}
	return f.policies.Done(state, err)
}

func (f *faulty) Terms(id uint64) *proxy.Terms {
	if f.panics("terms") {
		panic("asked for terms")
	}
	return f.policies.Terms(id)
}

// TestPanicInTLSPolicies has TLS policies panic in a handshake, between the server's answer and the
// client's, and once more in the answer that tells of that.
func TestPanicInTLSPolicies(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	var calls, from, to atomic.Int64
	f := &faulty{policies: onePolicy(t), panics: func(string) bool {
		n := calls.Add(1)
		return n >= from.Load() && n <= to.Load()
	}}
	from.Store(1 << 30)
	m := mode{mptcp: plain.mptcp, tls: true}
	s := setup{mode: m}
	s.listener.TLS = f
	g := start(t, s, o)
	g.expectPanics = true
	g.bystander()
	for range 2 {
		g.log.Next()
	}

	raw := proxytest.Dial(t, g.addr, plain.mptcp)
	client := tls.Client(raw.Conn, &tls.Config{ServerName: "b.example", RootCAs: testCert(t).roots})
	_ = client.Handshake() // may be over for the client before the server has come to it
	_, _ = io.Copy(io.Discard, raw.Conn)
	g.waitMetric(1, "mpgate_panics_total")
	g.waitMetric(1, "mpgate_connections_total", "end", "internal")

	for _, again := range []int64{0, 1} {
		calls.Store(0)
		from.Store(2) // the first is the handshake's
		to.Store(2 + again)
		c := g.client()
		c.Send("GET / HTTP/1.1\r\n" + host + "\r\n")
		if again == 0 {
			want(t, "status", c.Answer().Status, 500)
			c.WantClosed()
		} else if rest, err := c.Rest(); rest != "" || err == nil {
			t.Errorf("got %q, %v; want a reset", rest, err)
		}
		l := g.log.Next()
		want(t, "end", l.End, "internal")
		want(t, "server", l.Server, o.Address())
		from.Store(1 << 30)
		g.waitMetric(0, "mpgate_backend_requests_in_flight")
		g.waitMetric(0, "mpgate_http_requests_in_flight")
	}
	g.waitMetric(4, "mpgate_panics_total")
	g.bystander()
	want(t, "connections to the server that are not idle", g.metric("mpgate_backend_connections_open")-g.metric("mpgate_backend_connections_idle"), 0)
}
