package proxy_test

import (
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/route"
)

const host = "Host: a.example\r\n"

// refused sends raw and wants one answer with that status, the end of the connection, and a server
// that has seen nothing.
func refused(t *testing.T, m mode, raw string, status int, end string) {
	t.Helper()
	o := m.origin(t, proxytest.Echo)
	g := start(t, setup{mode: m}, o)
	c := g.client()
	c.Send(raw)
	c.CloseWrite()
	a := c.Answer()
	want(t, "status", a.Status, status)
	want(t, "Connection", a.Header("Connection"), "close")
	c.WantClosed()
	want(t, "connections to the server", o.Connections(), 0)
	l := g.log.Next()
	want(t, "end", l.End, end)
	want(t, "logged status", l.Status, status)
	want(t, "bytes in", l.BytesIn, 0)
	g.bystander()
}

func TestCase1ConnectWithBodyReachesNoServer(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		hidden := "GET /hidden HTTP/1.1\r\n" + host + "\r\n"
		refused(t, m, "CONNECT x:80 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"30\r\n"+hidden+strings.Repeat("x", 0x30-len(hidden))+"\r\n0\r\n\r\n", 405, "bad_request")
	})
}

func TestConnectIsRefused(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		refused(t, m, "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", 405, "bad_request")
	})
}

const upgrade = "GET /chat HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

func TestCase2RequestBehindARefusedUpgrade(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Send(upgrade + "GET /second HTTP/1.1\r\n" + host + "\r\n")
		if a := c.Answer(); a.Status != 200 || a.Body != "GET /chat " {
			t.Errorf("the upgrade got %d %q", a.Status, a.Body)
		}
		if a := c.Answer(); a.Status != 200 || a.Body != "GET /second " {
			t.Errorf("the second request got %d %q", a.Status, a.Body)
		}
		g.bystander()
		raw := o.Raw()
		contains(t, "the first connection", raw[0], "GET /chat ")
		if strings.Contains(raw[0], "/second") || strings.Contains(raw[0], "/innocent") {
			t.Errorf("a connection on which an upgrade was offered was used again: %q", raw[0])
		}
		want(t, "log line's path", g.log.Next().Path, "/chat")
		want(t, "log line's path", g.log.Next().Path, "/second")
	})
}

func TestCase3UnaskedUpgradeIsAnOrdinaryAnswer(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				if strings.HasPrefix(r.Target, "/innocent") {
					c.Send(proxytest.EchoOf(r))
					continue
				}
				c.Send(proxytest.Response("200 OK", "plain", "Connection: upgrade", "Upgrade: websocket"))
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		a := c.Get("/")
		want(t, "body", a.Body, "plain")
		lacks(t, "the response", a.Head, "connection:", "upgrade")
		want(t, "body", c.Get("/").Body, "plain") // no tunnel: the next request is read as one
		g.bystander()
	})
}

func TestCase4UpgradeToHTTP2IsDropped(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, fields := range []string{
			"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
			"Connection: upgrade\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
			"Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n",
			"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
			"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
			"Connection: HTTP2-Settings\r\nUpgrade: h2c\r\n",
		} {
			o := m.origin(t, proxytest.Echo)
			g := start(t, setup{mode: m}, o)
			c := g.client()
			c.Send("GET / HTTP/1.1\r\n" + host + fields + "\r\n")
			want(t, "status", c.Answer().Status, 200)
			lacks(t, "the server's request", o.AllRaw(), "connection:", "upgrade", "http2-settings")
			g.bystander()
		}
	})
}

// malformed are requests of the cases 6, 7 and 8 and the rules 7, 8 and 9. The server must see
// nothing of them.
var malformed = []struct {
	name, raw string
	status    int
}{
	{"case 6: empty name", "GET / HTTP/1.1\r\n" + host + ": x\r\n\r\n", 400},
	{"case 6: empty length beside another", "POST / HTTP/1.1\r\n" + host +
		"Content-Length: 5\r\nContent-Length:\r\n\r\nhello", 400},
	{"case 6: empty length", "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\nhello", 400},
	{"case 8: space before the colon", "POST / HTTP/1.1\r\n" + host +
		"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
	{"case 8: xchunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400},
	{"case 8: twice in one", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		400},
	{"case 8: twice", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" +
		"\r\n0\r\n\r\n", 400},
	{"case 8: identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n\r\n", 400},
	{"case 8: gzip", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
	{"case 8: vertical tab", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:\vchunked\r\n\r\n0\r\n\r\n", 400},
	{"rule 9: both", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" +
		"\r\n", 400},
	{"rule 9: both, other order", "POST / HTTP/1.1\r\n" + host +
		"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
	{"rule 9: two equal lengths", "POST / HTTP/1.1\r\n" + host +
		"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
	{"rule 9: a list of lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5, 5\r\n\r\nhello", 400},
	{"length with a sign", "POST / HTTP/1.1\r\n" + host + "Content-Length: +5\r\n\r\nhello", 400},
	{"length in hexadecimal", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0x5\r\n\r\nhello", 400},
	{"length beyond 63 bits", "POST / HTTP/1.1\r\n" + host + "Content-Length: 18446744073709551621\r\n\r\nhello", 413},
	{"rule 7: coding in HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"rule 8: no Host", "GET / HTTP/1.1\r\n\r\n", 400},
	{"rule 8: two Hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
	{"rule 8: a list", "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n", 400},
	{"rule 8: a path in it", "GET / HTTP/1.1\r\nHost: a.example/admin\r\n\r\n", 400},
	{"rule 8: user and host", "GET / HTTP/1.1\r\nHost: a.example@b.example\r\n\r\n", 400},
	{"rule 8: another than the target's", "GET http://b.example/ HTTP/1.1\r\n" + host + "\r\n", 400},
	{"bare LF behind the request line", "GET / HTTP/1.1\n" + host + "\r\n", 400},
	{"bare LF behind a field", "GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n", 400},
	{"bare CR in a value", "GET / HTTP/1.1\r\n" + host + "X: a\rTransfer-Encoding: chunked\r\n\r\n", 400},
	{"NUL in a value", "GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", 400},
	{"folding", "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", 400},
	{"a field before the first", "GET / HTTP/1.1\r\n Transfer-Encoding: chunked\r\n" + host + "\r\n", 400},
	{"no colon", "GET / HTTP/1.1\r\n" + host + "GET /x HTTP/1.1\r\n\r\n", 400},
	{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
	{"no version", "GET /\r\n\r\n", 400},
	{"HTTP/2.0", "GET / HTTP/2.0\r\n" + host + "\r\n", 505},
	{"HTTP/1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", 505},
	{"lower-case version", "GET / http/1.1\r\n" + host + "\r\n", 400},
	{"a fragment", "GET /a#b HTTP/1.1\r\n" + host + "\r\n", 400},
	{"a control character in the target", "GET /a\x01 HTTP/1.1\r\n" + host + "\r\n", 400},
	{"another expectation", "POST / HTTP/1.1\r\n" + host + "Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx", 417},
}

func TestCases678MalformedRequestsAreRefused(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{}, o)
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) {
			// What is hidden behind the fault must not be taken for a request.
			for _, behind := range []string{"", "GET /hidden HTTP/1.1\r\n" + host + "\r\n"} {
				client := proxytest.Dial(t, g.addr, plain.mptcp)
				client.Send(c.raw + behind)
				a := client.Answer()
				want(t, "status", a.Status, c.status)
				want(t, "Connection", a.Header("Connection"), "close")
				client.CloseWrite()
				client.WantClosed()
				l := g.log.Next()
				want(t, "logged status", l.Status, c.status)
				want(t, "bytes in", l.BytesIn, 0)
				end := "bad_request"
				if c.status == 413 {
					end = "limit"
				}
				want(t, "end", l.End, end)
			}
		})
	}
	want(t, "connections to the server", o.Connections(), 0)
	g.bystander()
	want(t, "bad connections", g.metric("mpgate_connections_total", "listener", "web", "end", "bad_request"),
		float64(2*len(malformed)-2))
}

// malformedBodies are broken once a good head has begun the exchange.
var malformedBodies = []struct {
	name, body string
	status     int
}{
	{"case 7: bare LF behind a chunk size", "5\nhello\r\n0\r\n\r\n", 400},
	{"case 7: bare LF behind an extension", "5;x\nhello\r\n0\r\n\r\n", 400},
	{"bare CR in an extension", "5;x\ry\r\nhello\r\n0\r\n\r\n", 400},
	{"bare LF behind a chunk", "5\r\nhello\n0\r\n\r\n", 400},
	{"a longer chunk than its size", "5\r\nhelloworld\r\n0\r\n\r\n", 400},
	{"no size", "\r\nhello\r\n0\r\n\r\n", 400},
	{"a sign", "+5\r\nhello\r\n0\r\n\r\n", 400},
	{"0x", "0x5\r\nhello\r\n0\r\n\r\n", 400},
	{"an underscore", "1_0\r\nhello\r\n0\r\n\r\n", 400},
	{"too many digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", 400},
	{"a size beyond 63 bits", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", 413},
	{"a long extension", "5;" + strings.Repeat("x", 300) + "\r\nhello\r\n0\r\n\r\n", 400},
	{"bare LF in the trailers", "0\r\nX: y\n\r\n", 400},
	{"folding in the trailers", "0\r\nX: y\r\n z\r\n\r\n", 400},
	{"space before the colon in the trailers", "0\r\nX : y\r\n\r\n", 400},
}

func TestCase7MalformedChunksReachNoServer(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{}, o)
	const head = "POST /evil HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n"
	for _, c := range malformedBodies {
		t.Run(c.name, func(t *testing.T) {
			client := proxytest.Dial(t, g.addr, plain.mptcp)
			client.Send(head + c.body + "GET /hidden HTTP/1.1\r\n" + host + "\r\n")
			a := client.Answer()
			want(t, "status", a.Status, c.status)
			want(t, "Connection", a.Header("Connection"), "close")
			client.CloseWrite()
			client.WantClosed()
			want(t, "logged status", g.log.Next().Status, c.status)
			g.bystander()
			g.log.Next()
			g.log.Next()
		})
	}
	for _, raw := range o.Raw() {
		if strings.Contains(raw, "/hidden") || strings.Contains(raw, "\r\n0\r\n\r\n") {
			t.Errorf("a body that broke off looks complete to the server, or more came: %q", raw)
		}
	}
}

func TestCase14HostsOfOneRoute(t *testing.T) {
	t.Parallel()
	admin := plain.origin(t, proxytest.Always(proxytest.Response("200 OK", "admin")))
	o := plain.origin(t, proxytest.Echo)
	other := backendWith(t, plain, backend.Options{Name: "other"}, admin)
	g := start(t, setup{routes: func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}},
			{Name: "admin", Match: route.Match{Hosts: []string{"admin.example.com"}},
				Action: &proxy.Forward{Backend: other}}}
	}}, o)
	c := g.client()
	for _, h := range []string{"admin.example.com", "ADMIN.example.com", "Admin.Example.Com:8080",
		"admin.example.com.", "ADMIN.example.com.:80", "\tadmin.example.com"} {
		c.Send("GET / HTTP/1.1\r\nHost:" + h + "\r\n\r\n")
		if a := c.Answer(); a.Body != "admin" {
			t.Errorf("Host %q led to %q", h, a.Body)
		}
		c.Send("GET http://" + strings.TrimSpace(h) + "/x HTTP/1.1\r\nHost:" + h + "\r\n\r\n")
		if a := c.Answer(); a.Body != "admin" {
			t.Errorf("Host %q in absolute form led to %q", h, a.Body)
		}
	}
	for _, raw := range admin.Raw() {
		lacks(t, "what the server got", strings.ReplaceAll(raw, "Host: admin.example.com", ""), "host: ",
			"example.com.")
	}
	g.bystander()
}

func TestCase13PathsFallUnderThePolicyOfWhatIsServed(t *testing.T) {
	t.Parallel()
	admin := plain.origin(t, proxytest.Echo)
	o := plain.origin(t, proxytest.Echo)
	guarded := backendWith(t, plain, backend.Options{Name: "other"}, admin)
	g := start(t, setup{routes: func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{
			{Name: "all", Action: &proxy.Forward{Backend: b}},
			{Name: "admin", Match: route.Match{Paths: []string{"/admin/*"}}, Action: &proxy.Forward{Backend: guarded}},
			{Name: "registry", Match: route.Match{Hosts: []string{"npm.example"}, Paths: []string{"/pkg/*"}},
				Action: &proxy.Forward{Backend: b}, KeepEncodedSlash: true},
		}
	}}, o)
	for _, c := range []struct{ path, route string }{ // route "": 400
		{"/admin%2F", ""}, {"/admin%2fx", ""}, {"/public/..%2fadmin", ""}, {"/public/..%5cadmin", ""}, {"/a%5Cb", ""},
		{"/api/./../admin", "admin"}, {"//admin", "admin"}, {"/%61dmin", "admin"}, {"/%61%64%6d%69%6e/x", "admin"},
		{"/admin/%2e%2e/x", "all"}, {"/x/%2E%2e/admin", "admin"}, {"/x//../admin", "admin"}, {"/admin", "admin"},
		{"/admin/", "admin"},
		{"/administrator", "all"}, {"/Admin", "all"}, {"/../admin", ""}, {"/%2e%2e/admin", ""},
		{"/x/..;/admin", ""}, {"/admin%00", ""},
		{"/a\\b", ""}, {"/admin?x=/y", "admin"}, {"/x?/admin", "all"}, {"/%zz", ""}, {"/admin;x/y", ""},
		{"/admi%6e;x", ""},
		// Servers that take path parameters off would serve /admin.
		{"/;/admin/y", ""}, {"/;x/admin/y", ""}, {"/%3b/admin/y", ""}, {"/%3B/admin", ""}, {"/x/..;/admin", ""},
		{"//;//admin", ""},
		{"/;a=b;c/%61dmin", ""}, {"/admin%3bx", ""}, {"/admin;", ""}, {"/;%3b/;/admin;/", ""},
		{"/admin;/..", "all"}, {"/x;y/../admin", "admin"},
		// Those that lead nowhere else pass as they are.
		{"/a;v=1/b", "all"}, {"/;/a", "all"}, {"/shop;jsessionid=1F", "all"}, {"/a%3bb", "all"},
		{"/admin/;x", "admin"}, {"/admin/x;y/z;", "admin"},
		{"/administrator;x", "all"}, {"/;x", "all"}, {"/a;/admin", "all"}, {"/x?;/admin", "all"},
	} {
		client := proxytest.Dial(t, g.addr, plain.mptcp)
		client.Send("GET " + c.path + " HTTP/1.1\r\n" + host + "\r\n")
		a := client.Answer()
		client.Close()
		l := g.log.Next()
		switch {
		case c.route == "":
			if a.Status != 400 || l.End != "bad_request" {
				t.Errorf("%s: got %d %q, end %q; want 400", c.path, a.Status, a.Body, l.End)
			}
			if l.Reason == "" || !strings.Contains(a.Body, l.Reason) {
				t.Errorf("%s: logged reason %q, answered %q", c.path, l.Reason, a.Body)
			}
		case a.Status != 200 || l.Route != c.route:
			t.Errorf("%s: got %d by route %q, want %q", c.path, a.Status, l.Route, c.route)
		case strings.HasPrefix(strings.TrimPrefix(a.Body, "GET "), "/admin") != (c.route == "admin") &&
			!strings.Contains(c.path, "ministrator"):
			t.Errorf("%s: route %q, but the server was asked %q", c.path, l.Route, a.Body)
		}
		want(t, "logged path", l.Path, c.path)
	}
	client := g.client()
	client.Send("GET /pkg/@scope%2fname HTTP/1.1\r\nHost: npm.example\r\n\r\n")
	if a := client.Answer(); a.Status != 200 || a.Body != "GET /pkg/@scope%2Fname " {
		t.Errorf("a route that keeps encoded slashes got %d %q", a.Status, a.Body)
	}
	client.Send("GET /pkg/..%2fadmin HTTP/1.1\r\nHost: npm.example\r\n\r\n")
	want(t, "status of dots behind an encoded slash", client.Answer().Status, 400)
	lacks(t, "what the guarded server got", admin.AllRaw(), "..", "%2e")
	g.bystander()
}
