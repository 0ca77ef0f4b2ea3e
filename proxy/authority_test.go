package proxy_test

import (
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

// The default port may be written or left out: the authority of a target and Host are the same
// then, and an empty Host says nothing.
func TestAuthoritiesThatAreEqual(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		for _, e := range []struct {
			target, host string
			status       int
			sent         string // Host
		}{
			{"http://a.example:80/", "a.example", 200, "a.example:80"},
			{"http://a.example/", "A.example:80", 200, "a.example"},
			{"http://a.example:/", "a.example:80", 200, "a.example"},
			{"https://a.example/", "a.example:443", 200, "a.example"},
			{"http://a.example/", "", 200, "a.example"},
			{"http://[2001:db8::1]/", "[2001:DB8:0::1]:80", 200, "[2001:db8::1]"},
			{"http://a.example/", "a.example:443", 400, ""},
			{"https://a.example/", "a.example:80", 400, ""},
			{"http://a.example:8080/", "a.example", 400, ""},
			{"http://a.example:80/", "b.example", 400, ""},
		} {
			c := g.client()
			c.Send("GET " + e.target + " HTTP/1.1\r\nHost: " + e.host + "\r\n\r\n")
			want(t, fmt.Sprintf("status of %s beside %q", e.target, e.host), c.Answer().Status, e.status)
			if e.status == 200 {
				raw := o.Raw()
				contains(t, "what the server got", raw[len(raw)-1], "\r\nHost: "+e.sent+"\r\n")
			}
			c.Close()
		}
	})
}

// A request without Host gets the server's address for one: nginx, for instance, refuses an empty
// one.
func TestRequestsWithoutHost(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		for _, head := range []string{"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n",
			"GET /a HTTP/1.1\r\nHost:\r\n", "POST /a HTTP/1.0\r\nContent-Length: 0\r\nConnection: keep-alive\r\n"} {
			c := g.client()
			for range 2 {
				c.Send(head + "\r\n")
				want(t, "status", c.Answer().Status, 200)
				want(t, "logged host", g.log.Next().Host, "")
			}
			want(t, "status", c.Get("/b").Status, 200) // nothing of it is left
			g.log.Next()
			c.Close()
		}
		for raw := range strings.SplitSeq(o.AllRaw(), " HTTP/1.1\r\n") {
			if strings.HasPrefix(raw, "Host: ") && !strings.HasPrefix(raw, "Host: a.example\r\n") {
				contains(t, "a request", raw, "Host: "+o.Address()+"\r\n")
				lacks(t, "a request", raw, "X-Forwarded-Host")
			}
		}
	})
}

func TestRequestsWithoutHostToOthers(t *testing.T) {
	t.Parallel()
	unix := proxytest.NewUnixOrigin(t, proxytest.Echo)
	c := start(t, setup{}, unix).client()
	c.Send("GET / HTTP/1.0\r\n\r\n")
	want(t, "status", c.Answer().Status, 200)
	contains(t, "what the server got", unix.AllRaw(), "\r\nHost: localhost\r\n")

	o := plain.origin(t, proxytest.Echo)
	h2 := start(t, setup{listener: proxy.ListenerOptions{H2C: true}}, o)
	c = startBefore(t, setup{backend: backend.Options{Protocol: backend.HTTP2}}, h2.addr).client()
	c.Send("GET / HTTP/1.0\r\n\r\n")
	want(t, "status", c.Answer().Status, 200)
	want(t, "host at a server of HTTP/2", h2.log.Next().Host, h2.addr[:strings.LastIndexByte(h2.addr, ':')])

	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	six := proxytest.OriginOn(t, l, proxytest.Echo)
	c = start(t, setup{mode: mode{mptcp: mptcp.Off}}, six).client()
	c.Send("GET / HTTP/1.0\r\n\r\n")
	want(t, "status", c.Answer().Status, 200)
	contains(t, "what the server got", six.AllRaw(), "\r\nHost: "+six.Address()+"\r\n")
}

// Some servers tell /a//b from /a/b: object stores, image proxies, servers that check a signature
// over the path.
func TestDuplicateSlashes(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o, admin := m.origin(t, proxytest.Echo), m.origin(t, proxytest.Echo)
		guarded := backendWith(t, m, backend.Options{Name: "guarded"}, admin)
		options := proxy.ListenerOptions{H2C: !m.tls}
		if m.tls {
			options.TLS = h2Policy(t, m)
		}
		g := start(t, setup{mode: m, listener: options, routes: func(b *backend.Backend) []proxy.Route {
			return []proxy.Route{
				{Name: "keep", Action: &proxy.Forward{Backend: b}, KeepSlashes: true},
				{Name: "merge", Match: route.Match{Paths: []string{"/merge/*"}}, Action: &proxy.Forward{Backend: b}},
				{Name: "admin", Match: route.Match{Paths: []string{"/admin/*"}},
					Action: &proxy.Forward{Backend: guarded}},
				{Name: "inner", Match: route.Match{Paths: []string{"/admin/keep/*"}},
					Action: &proxy.Forward{Backend: guarded}, KeepSlashes: true},
			}
		}}, o)
		for _, e := range []struct{ path, route, sent string }{ // route "": 400
			{"/bucket/a//b.txt", "keep", ""},
			{"//x", "keep", ""},
			{"/i/300x200/https://img.example/c.jpg?u=http://x//y", "keep", ""},
			{"/a//", "keep", ""},
			{"/a//%7eb//./c", "keep", "/a//~b//c"},
			{"/merge//a//b", "merge", "/merge/a/b"},
			{"//merge//a", "merge", "/merge/a"},
			{"//admin", "admin", "/admin"},
			{"/admin//x", "admin", "/admin/x"},
			{"//admin//keep//x", "inner", ""},
			{"/x//..//admin", "admin", "/admin"},
			{"/x//..//y", "", ""}, // /x//y where slashes count, /y elsewhere
			{"/x/../admin", "admin", "/admin"},
			{"/x//%2e%2e/y", "", ""},
			{"//;//admin", "", ""},
			{"/a//;x/b", "keep", ""},
		} {
			c := g.client()
			c.Send("GET " + e.path + " HTTP/1.1\r\n" + host + "\r\n")
			a := c.Answer()
			c.Close()
			l := g.log.Next()
			if e.route == "" {
				want(t, "status of "+e.path, a.Status, 400)
				want(t, "end", l.End, "bad_request")
				continue
			}
			sent := e.sent
			if sent == "" {
				sent = e.path
			}
			want(t, "body for "+e.path, a.Body, "GET "+sent+" ")
			want(t, "route of "+e.path, l.Route, e.route)
			want(t, "logged path", l.Path, e.path)
		}
		lacks(t, "what the guarded server got", admin.AllRaw(), "GET //admin ", "/admin//x")
		if !m.tls {
			r := webSocketTo("")
			r.Upgrade, r.Path = nil, []byte("/h2//a//")
			s, resp := askHead(t, multiplexed(t, g.addr), r)
			defer s.Release()
			want(t, "status", resp.Status, 200)
			contains(t, "what the server got", o.AllRaw(), "GET /h2//a// HTTP/1.1\r\n")
			g.update(func(o *proxy.ListenerOptions) { o.RedirectHTTPS = true })
			c := g.client()
			c.Send("GET /a//b?c HTTP/1.1\r\n" + host + "\r\n")
			want(t, "Location", c.Answer().Header("Location"), "https://a.example/a//b?c")
		}
	})
}
