package proxy_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/route"
)

// TestEveryEnd makes an exchange end in each way that this gateway knows without TLS, and wants one
// log line of it, and one count.
func TestEveryEnd(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for end, e := range map[string]struct {
			setup  func(*setup)
			origin func(*proxytest.Conn)
			do     func(g *gateway, c *proxytest.Client)
			status int
			check  func(t *testing.T, l proxytest.Line)
		}{
			"ok": {do: func(_ *gateway, c *proxytest.Client) { c.Get("/x?y=z") }, status: 200,
				check: func(t *testing.T, l proxytest.Line) {
					want(t, "path", l.Path, "/x?y=z")
					want(t, "host", l.Host, "a.example")
					want(t, "method", l.Method, "GET")
					want(t, "proto", l.Proto, "HTTP/1.1")
					want(t, "scheme", l.Scheme, m.scheme())
					want(t, "listener", l.Listener, "web")
					want(t, "backend", l.Backend, "pool")
					want(t, "has a backend time", l.BackendMS != nil && *l.BackendMS > 0 && *l.BackendMS <= l.Duration,
						true)
					want(t, "length of the id", len(l.ID), 32)
					if at, err := time.Parse(time.RFC3339Nano, l.Time); err != nil || time.Since(at) > time.Minute {
						t.Errorf("time is %q, %v", l.Time, err)
					}
				}},
			"client_gone": {origin: func(c *proxytest.Conn) { c.Head(); _, _ = c.R.ReadByte() },
				do: func(_ *gateway, c *proxytest.Client) {
					c.Send("GET / HTTP/1.1\r\n" + host + "\r\n")
					c.Reset()
				}},
			"client_timeout": {setup: func(s *setup) { s.options.HeaderTime = 2 * time.Second },
				do: func(_ *gateway, c *proxytest.Client) { c.Send("GET /"); c.Answer() }, status: 408},
			"bad_request": {do: func(_ *gateway, c *proxytest.Client) {
				c.Send("GET / HTTP/1.1\r\n" +
					"\r\n")
				c.Answer()
			}, status: 400},
			"limit": {do: func(_ *gateway, c *proxytest.Client) {
				c.Send("GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n")
				c.Answer()
			}, status: 431},
			"no_route": {setup: func(s *setup) {
				s.routes = func(b *backend.Backend) []proxy.Route {
					return []proxy.Route{{Name: "one", Match: route.Match{Hosts: []string{"other.example"}},
						Action: &proxy.Forward{Backend: b}}}
				}
			}, do: func(_ *gateway, c *proxytest.Client) {
				want(t, "body", strings.HasPrefix(c.Get("/").Body, "404 Not Found: nothing is served here\n"), true)
			},
				status: 404, check: func(t *testing.T, l proxytest.Line) {
					want(t, "route", l.Route, "")
					want(t, "backend", l.Backend, "")
					want(t, "server", l.Server, "")
					want(t, "tries", l.Tries, 0)
				}},
			"mptcp_required": {setup: func(s *setup) {
				o := plain.origin(t, proxytest.Echo)
				b, err := backend.New(backend.Options{Name: "strict",
					Servers: []backend.ServerOptions{{Address: o.Address(), MPTCP: mptcp.Require}}})
				if err != nil {
					t.Fatal(err)
				}
				s.routes = func(*backend.Backend) []proxy.Route {
					return []proxy.Route{{Name: "one", Action: &proxy.Forward{Backend: b}}}
				}
			}, do: func(_ *gateway, c *proxytest.Client) { c.Get("/") }, status: 502},
			"backend_connect": {setup: func(s *setup) {
				s.backend.Servers = []backend.ServerOptions{{Address: proxytest.NewRefusing(t).Address, MPTCP: m.mptcp}}
			},
				do: func(_ *gateway, c *proxytest.Client) { c.Get("/") }, status: 502},
			"backend_timeout": {setup: func(s *setup) { s.backend.ResponseTimeout = 50 * time.Millisecond },
				origin: func(c *proxytest.Conn) { c.Head(); _, _ = c.R.ReadByte() },
				do:     func(_ *gateway, c *proxytest.Client) { c.Get("/") }, status: 504},
			"backend_reset": {origin: func(c *proxytest.Conn) { c.Head() },
				do: func(_ *gateway, c *proxytest.Client) { c.Get("/") }, status: 502},
			"backend_invalid": {origin: func(c *proxytest.Conn) { c.Head(); c.Send("rubbish\r\n\r\n") },
				do: func(_ *gateway, c *proxytest.Client) { c.Get("/") }, status: 502},
			"drain": {origin: func(c *proxytest.Conn) { c.Head(); _, _ = c.R.ReadByte() },
				do: func(g *gateway, c *proxytest.Client) {
					c.Send("GET / HTTP/1.1\r\n" + host + "\r\n")
					g.waitMetric(1, "mpgate_backend_requests_in_flight")
					ctx, cancel := context.WithCancel(context.Background())
					cancel()
					g.proxy.Shutdown(ctx)
				}},
			"internal": {setup: func(s *setup) {
				s.routes = func(*backend.Backend) []proxy.Route { return []proxy.Route{{Name: "without a backend"}} }
			}, do: func(g *gateway, c *proxytest.Client) { c.Get("/"); g.expectPanics = true }, status: 500},
		} {
			t.Run(end, func(t *testing.T) {
				t.Parallel()
				if e.origin == nil {
					e.origin = proxytest.Echo
				}
				s := setup{mode: m}
				if end == "mptcp_required" {
					proxytest.NeedMPTCP(t)
				}
				if e.setup != nil {
					e.setup(&s)
				}
				var origins []*proxytest.Origin
				if s.backend.Servers == nil {
					origins = append(origins, m.origin(t, e.origin))
				}
				g := start(t, s, origins...)
				c := g.client()
				e.do(g, c)
				l := g.log.Next()
				want(t, "end", l.End, end)
				want(t, "status", l.Status, e.status)
				if e.check != nil {
					e.check(t, l)
				}
				g.waitMetric(1, "mpgate_exchanges_total", "end", end)
				g.waitMetric(1, "mpgate_exchanges_total")
				g.waitMetric(0, "mpgate_http_requests_in_flight")
				c.Close()
				if rest := g.lines(); len(rest) > 0 {
					t.Errorf("more than one line: %+v", rest)
				}
			})
		}
	})
}

func TestConnectionsAreCounted(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Get("/")
		want(t, "open", g.metric("mpgate_connections_open", "listener", "web"), 1)
		want(t, "idle connections to the server", g.metric("mpgate_backend_connections_idle", "server", o.Address()), 1)
		c.Send("GET / HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n")
		want(t, "Connection", c.Answer().Header("Connection"), "close")
		c.WantClosed()
		g.waitMetric(0, "mpgate_connections_open", "listener", "web")
		g.waitMetric(1, "mpgate_connections_total", "listener", "web", "end", "ok")
		c = g.client()
		c.Get("/")
		c.Reset()
		g.waitMetric(2, "mpgate_connections_total", "listener", "web")
		want(t, "requests", g.metric("mpgate_http_requests_total", "listener", "web", "route", "all", "method",
			"GET", "code", "200"), 3)
		want(t, "durations", g.metric("mpgate_http_request_duration_seconds", "listener", "web", "route", "all"), 3)
		want(t, "requests to the server", g.metric("mpgate_backend_requests_total", "backend", "pool", "server",
			o.Address(), "code", "200"), 3)
		want(t, "connects", g.metric("mpgate_backend_connects_total", "backend", "pool", "result", "ok"), 1)
	})
}
