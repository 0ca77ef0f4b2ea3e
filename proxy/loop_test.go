package proxy_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/route"
)

// leads makes the backend of g's only route lead to an address.
func (g *gateway) leads(t *testing.T, o backend.Options, address string) {
	t.Helper()
	o.Name, o.Instruments = "pool", g.metrics
	o.Servers = []backend.ServerOptions{{Address: address, MPTCP: g.mode.mptcp}}
	b := runBackend(t, o)
	routes, err := proxy.NewRoutes([]proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}}})
	if err != nil {
		t.Fatal(err)
	}
	g.update(func(l *proxy.ListenerOptions) { l.Routes = routes })
}

// wantLoop asks for a path that goes round, and for how many exchanges it takes.
func wantLoop(t *testing.T, g *gateway, exchanges int) {
	t.Helper()
	c := g.client()
	defer c.Close()
	a := c.Get("/round?and=round")
	want(t, "status", a.Status, 508)
	contains(t, "the answer", a.Body, "508 Loop Detected: the request returned to this gateway\n")
	want(t, "Cache-Control", a.Header("Cache-Control"), "no-store")
	for i := range exchanges {
		l := g.log.Next()
		want(t, "status", l.Status, 508)
		want(t, "end", l.End, map[bool]string{true: "limit", false: "ok"}[i == 0])
	}
	want(t, "connections to the server", g.metric("mpgate_backend_connects_total", "result", "ok"),
		float64(exchanges-1))
	want(t, "reports of the loop", strings.Count(g.programLog.String(), "request loop"), 1)
}

// A gateway whose server is itself answers at the second round, whatever carries the request.
func TestRequestThatComesBack(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, protocol := range []backend.Protocol{backend.HTTP1, backend.HTTP2} {
			o := backend.Options{Protocol: protocol}
			options := proxy.ListenerOptions{H2C: !m.tls}
			if m.tls {
				options.TLS = h2Policy(t, m)
				o.TLS = func(string) (*tls.Config, error) {
					return &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots}, nil
				}
			}
			g := start(t, setup{mode: m, listener: options}, plain.origin(t, proxytest.Echo))
			g.leads(t, o, g.addr)
			wantLoop(t, g, 2)
			g.leads(t, o, g.addr) // after a reload too; nothing was kept
			c := g.client()
			want(t, "status", c.Get("/again").Status, 508)
			if protocol == backend.HTTP1 { // an offer to change protocols is no way around
				c = g.client()
				c.Send("GET /ws HTTP/1.1\r\n" + host + "Connection: Upgrade, CDN-Loop\r\nUpgrade: websocket\r\n" +
					"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
				want(t, "status of an upgrade", c.ReadHead().Status, 508)
			}
		}
	})
}

// Two gateways that forward to each other, and a proxy of another make between them that adds to
// the path.
func TestRequestThatComesBackOverOthers(t *testing.T) {
	t.Parallel()
	one := start(t, setup{}, plain.origin(t, proxytest.Echo))
	two := startBefore(t, setup{}, one.addr)
	one.leads(t, backend.Options{}, two.addr)
	wantLoop(t, one, 2)
	two.log.Next()

	var g *gateway
	rounds := make(chan struct{}, 100)
	between := plain.origin(t, func(c *proxytest.Conn) {
		r := c.Request()
		rounds <- struct{}{}
		nc, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		on := proxytest.NewClient(t, nc)
		on.Send(strings.Replace(r.Head, " /", " /more/", 1))
		c.Send(proxytest.Response(fmt.Sprintf("%d Whatever", on.ReadHead().Status), "", "Connection: close"))
	})
	g = start(t, setup{}, between)
	want(t, "status", g.client().Get("/round").Status, 508)
	want(t, "rounds", len(rounds), 10)
}

// What is no loop: another listener or route of the same process, a server that asks for something
// else with the fields that it got, marks of others.
func TestSecondPassIsNotALoop(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{routes: func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}},
			{Name: "inner", Match: route.Match{Listener: "inner"}, Action: &proxy.Forward{Backend: b}}}
	}}, o)
	c := g.client()
	c.Send("GET /a HTTP/1.1\r\n" + host + "CDN-Loop: other.example; v=1\r\ncdn-loop: , x\r\n\r\n")
	want(t, "status", c.Answer().Status, 200)
	r := &proxytest.Request{Head: o.Raw()[0]}
	marks := r.Header("CDN-Loop")
	contains(t, "the field", marks, "other.example; v=1, , x, ")
	for _, path := range []string{"/b", "/a?q", "/a/"} { // for another path
		c.Send("GET " + path + " HTTP/1.1\r\n" + host + "CDN-Loop: " + marks + "\r\n\r\n")
		want(t, "status of "+path, c.Answer().Status, 200)
	}
	c.Send("POST /a HTTP/1.1\r\n" + host + "CDN-Loop: " + marks + "\r\nContent-Length: 0\r\n\r\n")
	want(t, "status of another method", c.Answer().Status, 200)
	c.Send("GET /a HTTP/1.1\r\nHost: b.example\r\nCDN-Loop: " + marks + "\r\n\r\n")
	want(t, "status of another host", c.Answer().Status, 200)
	c.Send("GET /a HTTP/1.1\r\n" + host + "CDN-Loop: " + marks + "\r\n\r\n")
	want(t, "status of the same", c.Answer().Status, 508)

	other := start(t, setup{}, o) // another process
	c = other.client()
	c.Send("GET /a HTTP/1.1\r\n" + host + "CDN-Loop: " + marks + "\r\n\r\n")
	want(t, "status at another gateway", c.Answer().Status, 200)
}

// A passed-through connection that comes back is ended: at once where we have dialled it, after
// some rounds where another gateway has.
func TestPassthroughThatComesBack(t *testing.T) {
	for _, m := range modes {
		if m.tls || m.inherited {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if m.mptcp != mptcp.Off {
				proxytest.NeedMPTCP(t)
			}
			g := passed(t, m, backend.Options{}, proxy.ListenerOptions{}, plain.origin(t, proxytest.Echo))
			lead := func(g *gateway, to string) {
				b := runBackend(t, backend.Options{Name: "sealed",
					Servers: []backend.ServerOptions{{Address: to, MPTCP: m.mptcp}}})
				passthroughs, err := proxy.NewPassthroughs([]proxy.Route{{Name: "pass",
					Match: route.Match{Hosts: []string{"b.example"}}, Action: &proxy.TCP{Backend: b}}})
				if err != nil {
					t.Fatal(err)
				}
				g.update(func(l *proxy.ListenerOptions) { l.Passthrough = passthroughs })
			}
			ask := func() {
				c := proxytest.Dial(t, g.addr, m.mptcp)
				s := tls.Client(c.Conn, &tls.Config{ServerName: "b.example", RootCAs: testCert(t).roots})
				if err := s.Handshake(); err == nil {
					t.Error("the handshake succeeded")
				}
				c.Close()
			}
			lead(g, g.addr)
			ask()
			want(t, "end of the second round", g.log.Next().End, "limit")
			g.log.Next()
			want(t, "reports", strings.Count(g.programLog.String(), "connection loop"), 1)
			other := passed(t, m, backend.Options{}, proxy.ListenerOptions{}, plain.origin(t, proxytest.Echo))
			lead(g, other.addr)
			lead(other, g.addr)
			ask()
			want(t, "end of the last round", g.log.Next().End, "limit")
			for range 32 {
				g.log.Next()
				other.log.Next()
			}
			// What is not a loop is forwarded.
			g.bystander()
		})
	}
}
