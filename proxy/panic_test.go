package proxy_test

import (
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
)

// TestPanicEndsItsExchangeAlone has two ways to make one: a route without a backend, before the exchange is counted, and a
// caller's function that panics, after it.
func TestPanicEndsItsExchangeAlone(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		s := setup{mode: m}
		s.options.Ready = func() bool { panic("asked whether ready") }
		s.listener.HealthPath = "/health"
		s.routes = func(b *backend.Backend) []proxy.Route {
			return []proxy.Route{{Name: "all", Backend: b}, {Name: "broken", Path: "/broken"}}
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
			contains(t, "the program's log", g.said.String(), l.ID, "panic", "stack")
			want(t, "body of another connection's next request", other.Get("/after").Body, "GET /after ")
			g.log.Next()
		}
		g.bystander()
		g.waitMetric(0, "mpgate_http_requests_in_flight")
		g.waitMetric(3, "mpgate_exchanges_total", "end", "internal")
		g.waitMetric(3, "mpgate_connections_total", "end", "internal")
		want(t, "panics that the log tells of", strings.Count(g.said.String(), "panic in an exchange"), 3)
	})
}
