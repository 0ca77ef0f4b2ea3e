package proxy_test

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/filter/auth"
	"mpgate/proxy/target"
)

// forwardAuth is a filter that asks a server.
func forwardAuth(t testing.TB, b *backend.Backend, o auth.ForwardOptions) filter.Filter {
	t.Helper()
	var err error
	if o.URL, err = target.ParseURL("http://auth.example:9091/verify?from=gate"); err != nil {
		t.Fatal(err)
	}
	o.Backend = b
	f, err := auth.NewForward(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The authentication server is told of the request, and nothing else; what it says about the user
// reaches the server, and what a client says of that never does.
func TestForwardAuthAdmits(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		asked := make(chan string, 10)
		authServer := plain.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				asked <- r.Head + r.Body
				c.Send(proxytest.Response("204 No Content", "", "Remote-User: alice", "Remote-Groups: a", "Remote-Groups: b", "X-Other: 1", "Set-Cookie: no=1"))
			}
		})
		f := forwardAuth(t, backendWith(t, plain, backend.Options{Name: "auth"}, authServer), auth.ForwardOptions{Copy: []string{"Remote-User", "Remote-Groups", "Remote-Email"}})
		g := guarded(t, plain.origin(t, echoHeads), proxy.Route{KeepUnsafeNames: true}, f)
		r := ask(g, wish{
			method: "POST", path: "/a/../admin?x=%0d1", body: "a body",
			fields: []string{
				"remote-user: root", "Remote_User: root", "REMOTE.USER: root", "Remote-Email: root@example.org", "Cookie: session=1",
				"X-Forwarded-Uri: /public", "X-Forwarded-Method: OPTIONS", "X-Forwarded-For: 127.0.0.1", "X-Secret: 1", "User-Agent: test", "Range: bytes=0-1",
			},
			trailer: []string{"Remote-User: root", "Remote_Email: root", "X-Sum: 1"},
		})
		want(t, "status", r.status, 200)
		sent := strings.ToLower(r.body)
		contains(t, "the server gets", sent, "post /admin?x=%0d1 http/1.1\r\n", "\r\nremote-user: alice\r\n", "\r\nremote-groups: a\r\n", "\r\nremote-groups: b\r\n", "a body", "x-secret: 1", "x-sum: 1")
		lacks(t, "the server gets", sent, "root", "x-other", "set-cookie", "remote_user", "remote.user", "remote-email", "remote_email")
		lacks(t, "the client gets", r.head, "set-cookie", "remote-user")
		question := <-asked
		contains(t, "the question", question, "GET /verify?from=gate HTTP/1.1\r\n", "Host: auth.example:9091\r\n")
		contains(t, "the question", strings.ToLower(question), "x-forwarded-method: post\r\n", "x-forwarded-uri: /admin?x=%0d1\r\n",
			"x-forwarded-host: a.example\r\n", "x-forwarded-proto: http\r\n", "x-forwarded-for: 127.0.0.1\r\n", "cookie: session=1\r\n", "user-agent: test\r\n", "x-request-id: ")
		lacks(t, "the question", question, "root", "x-secret", "a body", "content-length", "transfer-encoding", "range:", "/public", "x-forwarded-method: options")
		want(t, "X-Forwarded-For in the question", strings.Count(strings.ToLower(question), "x-forwarded-for"), 1)
		// The connection to it is used again, also for other clients.
		want(t, "status of another", ask(g, wish{path: "/2"}).status, 200)
		want(t, "connections to the authentication server", authServer.Connections(), 1)
	})
}

// Two fields could be two users: one for each server.
func TestForwardAuthOfTwoUsers(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		authServer, origin := plain.origin(t, proxytest.Echo), plain.origin(t, proxytest.Echo)
		f := forwardAuth(t, backendWith(t, plain, backend.Options{Name: "auth"}, authServer), auth.ForwardOptions{})
		g := guarded(t, origin, proxy.Route{}, f)
		r := ask(g, wish{path: "/", fields: []string{"Authorization: Basic YTph", "authorization: Basic YjpY"}})
		want(t, "status", r.status, 400)
		contains(t, "the answer", r.body, "more than one Authorization field")
		want(t, "what the servers got", authServer.AllRaw()+origin.AllRaw(), "")
		want(t, "status with one", ask(g, wish{path: "/", fields: []string{"Authorization: Basic YTph"}}).status, 200)
	})
}

func TestForwardAuthRefuses(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		var answer atomic.Value
		authServer := plain.origin(t, func(c *proxytest.Conn) {
			for c.Request() != nil && c.Send(answer.Load().(string)) {
			}
		})
		origin := plain.origin(t, proxytest.Echo)
		f := forwardAuth(t, backendWith(t, plain, backend.Options{Name: "auth"}, authServer), auth.ForwardOptions{Copy: []string{"Remote-User"}})
		g := guarded(t, origin, proxy.Route{}, f)
		unsafe := []string{"Server: secret", "X-Internal: secret", "Cache-Control: public", "Connection: X-Internal"}
		with := func(fields ...string) []string { return append(fields, unsafe...) }
		large := strings.Repeat("x", 64<<10)
		for name, tt := range map[string]struct {
			answer   string
			status   int
			end      string
			contains []string
		}{
			"401": {proxytest.Response("401 Unauthorized", "please log in", with(`WWW-Authenticate: Bearer realm="a"`, "Content-Type: text/html")...), 401, "unauthorized",
				[]string{`www-authenticate: bearer realm="a"`, "please log in", "content-type: text/html"}},
			"403":             {proxytest.Response("403 Forbidden", "", with()...), 403, "denied", []string{"403 Forbidden: refused by the authentication server"}},
			"302":             {proxytest.Response("302 Found", "", with("Location: https://login.example/?rd=1", "Set-Cookie: a=1", "Set-Cookie: b=2")...), 302, "unauthorized", []string{"location: https://login.example/?rd=1", "set-cookie: a=1\r\n", "set-cookie: b=2\r\n"}},
			"303":             {proxytest.Response("303 See Other", "moved", with("Location: /login")...), 303, "unauthorized", []string{"location: /login", "moved"}},
			"a large body":    {proxytest.Response("401 Unauthorized", large, with("Content-Type: text/html")...), 401, "unauthorized", []string{large}},
			"too large":       {proxytest.Response("401 Unauthorized", large+"x", with()...), 502, "backend_invalid", []string{"the answer of the authentication server is too large"}},
			"404":             {proxytest.Response("404 Not Found", "secret", with()...), 502, "backend_invalid", []string{"the authentication server failed"}},
			"500":             {proxytest.Response("500 Internal Server Error", "secret", with()...), 502, "backend_invalid", []string{"the authentication server failed"}},
			"304":             {"HTTP/1.1 304 Not Modified\r\n\r\n", 502, "backend_invalid", []string{"the authentication server failed"}},
			"no HTTP":         {"hello\r\n\r\n", 502, "backend_invalid", []string{"not valid"}},
			"two lengths":     {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 502, "backend_invalid", []string{"not valid"}},
			"a 101":           {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 502, "backend_invalid", []string{"not valid"}},
			"a 401 to HEAD":   {proxytest.Response("401 Unauthorized", "please log in"), 401, "unauthorized", nil},
			"interim answers": {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + proxytest.Response("403 Forbidden", "no"), 403, "denied", []string{"no"}},
		} {
			answer.Store(tt.answer)
			w := wish{path: "/" + strings.ReplaceAll(name, " ", "-")}
			if strings.HasSuffix(name, "HEAD") {
				w.method = "HEAD"
			}
			r := ask(g, w)
			want(t, name+": status", r.status, tt.status)
			contains(t, name, r.head+r.body, tt.contains...)
			lacks(t, name, r.head+r.body, "secret", "x-internal", "link:", "public")
			contains(t, name, r.head, "cache-control: no-store")
			want(t, name+": end", g.log.Next().End, tt.end)
		}
		want(t, "what the server got", origin.AllRaw(), "")
	})
}

// A server that cannot decide, or not in time, admits nobody.
func TestForwardAuthFails(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		closed := plain.origin(t, proxytest.Echo)
		closed.Close() // its port is kept
		for name, tt := range map[string]struct {
			server *proxytest.Origin
			status int
			end    string
		}{
			"refuses":     {closed, 502, "backend_connect"},
			"closes":      {plain.origin(t, func(c *proxytest.Conn) { c.Request() }), 502, "backend_reset"},
			"resets":      {plain.origin(t, func(c *proxytest.Conn) { c.Request(); c.Reset() }), 502, "backend_reset"},
			"silent":      {plain.origin(t, func(c *proxytest.Conn) { _, _ = io.Copy(io.Discard, c.R) }), 504, "backend_timeout"},
			"half a head": {plain.origin(t, func(c *proxytest.Conn) { c.Request(); c.Send("HTTP/1.1 200 OK\r\n"); _, _ = io.Copy(io.Discard, c.R) }), 504, "backend_timeout"},
			"half a body": {plain.origin(t, func(c *proxytest.Conn) {
				c.Request()
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
				_, _ = io.Copy(io.Discard, c.R)
			}), 504, "backend_timeout"},
			"a truncated 200": {plain.origin(t, func(c *proxytest.Conn) { c.Request(); c.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx") }), 502, "backend_reset"},
			"endless interim": {plain.origin(t, func(c *proxytest.Conn) {
				for c.Request(); c.Send("HTTP/1.1 103 Early Hints\r\n\r\n"); {
				}
			}), 502, "backend_invalid"},
		} {
			origin := plain.origin(t, proxytest.Echo)
			o := auth.ForwardOptions{Timeout: proxytest.Patience}
			if tt.status == 504 {
				o.Timeout = 300 * time.Millisecond
			}
			f := forwardAuth(t, backendWith(t, plain, backend.Options{Name: "auth"}, tt.server), o)
			g := guarded(t, origin, proxy.Route{}, f)
			r := ask(g, wish{})
			want(t, name+": status", r.status, tt.status)
			contains(t, name, r.body, "authentication server")
			l := g.log.Next()
			want(t, name+": end", l.End, tt.end)
			want(t, name+": what the server got", origin.AllRaw(), "")
		}
	})
}

// A connection that the authentication server has closed while it was idle is no failure.
func TestForwardAuthOnDeadConnection(t *testing.T) {
	authServer := plain.origin(t, func(c *proxytest.Conn) {
		if c.Request() != nil {
			c.Send(proxytest.Response("200 OK", ""))
		}
		if c.Request() != nil { // the second request meets a reset
			c.Reset()
		}
	})
	g := guarded(t, plain.origin(t, proxytest.Echo), proxy.Route{}, forwardAuth(t, backendWith(t, plain, backend.Options{Name: "auth"}, authServer), auth.ForwardOptions{}))
	c := g.client()
	for i := range 3 {
		want(t, "status", c.Get(fmt.Sprint("/", i)).Status, 200)
	}
}

// The end of the client ends the question.
func TestClientLeavesDuringForwardAuth(t *testing.T) {
	asked, left := make(chan struct{}, 1), make(chan struct{}, 1)
	authServer := plain.origin(t, func(c *proxytest.Conn) {
		c.Request()
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, c.R)
		left <- struct{}{}
	})
	origin := plain.origin(t, proxytest.Echo)
	g := guarded(t, origin, proxy.Route{}, forwardAuth(t, backendWith(t, plain, backend.Options{Name: "auth"}, authServer), auth.ForwardOptions{Timeout: time.Hour}))
	for version, leave := range map[string]func(){
		"h1": func() {
			c := g.client()
			c.Send("GET / HTTP/1.1\r\n" + host + "\r\n")
			<-asked
			c.Close()
		},
		"h2": func() {
			c := multiplexed(t, g.addr)
			s, err := c.Open()
			if err != nil {
				t.Fatal(err)
			}
			r := webSocketTo("/")
			r.Upgrade = nil
			if err := s.WriteHead(r); err != nil {
				t.Fatal(err)
			}
			if err := s.End(nil); err != nil {
				t.Fatal(err)
			}
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			<-asked
			s.Abort()
		},
	} {
		leave()
		wantSoon(t, version+": the question ends", left)
		l := g.log.Next()
		want(t, version+": end", l.End, "client_gone")
		want(t, version+": status", l.Status, 0)
	}
	want(t, "what the server got", origin.AllRaw(), "")
	want(t, "log lines", len(g.lines()), 0)
}

// The authentication server may speak HTTP/2: one connection carries the questions of all clients.
func TestForwardAuthOverHTTP2(t *testing.T) {
	behind := plain.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			status := "200 OK"
			if r.Header("X-Forwarded-Uri") == "/no" {
				status = "403 Forbidden"
			}
			c.Send(proxytest.Response(status, r.Header("X-Forwarded-Uri"), "Remote-User: alice"))
		}
	})
	server := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}, behind)
	b := runBackend(t, backend.Options{Name: "h2", Protocol: backend.HTTP2, Servers: []backend.ServerOptions{{Address: server.addr}}})
	g := guarded(t, plain.origin(t, echoHeads), proxy.Route{}, forwardAuth(t, b, auth.ForwardOptions{Copy: []string{"Remote-User"}}))
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			c := g.client()
			defer c.Close()
			a := c.Get("/yes")
			want(t, "status", a.Status, 200)
			contains(t, "the server gets", strings.ToLower(a.Body), "remote-user: alice\r\n")
			a = c.Get("/no")
			want(t, "status", a.Status, 403)
			want(t, "body", a.Body, "/no")
		})
	}
	clients.Wait()
	for range 40 {
		want(t, "version of the questions", server.log.Next().Proto, "HTTP/2.0")
	}
}

// A pipelined request is served after one whose question took long.
func TestForwardAuthWithPipelining(t *testing.T) {
	authServer := plain.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			if r.Header("X-Forwarded-Uri") == "/slow" {
				// The gateway looks after the client meanwhile.
				<-time.After(3 * backend.ClientCheckDelay)
			}
			c.Send(proxytest.Response("200 OK", ""))
		}
	})
	g := guarded(t, plain.origin(t, proxytest.Echo), proxy.Route{}, forwardAuth(t, backendWith(t, plain, backend.Options{Name: "auth"}, authServer), auth.ForwardOptions{}))
	c := g.client()
	c.Send("GET /slow HTTP/1.1\r\n" + host + "\r\nGET /next HTTP/1.1\r\n" + host + "\r\n")
	want(t, "first", c.Answer().Body, "GET /slow ")
	want(t, "second", c.Answer().Body, "GET /next ")
}

// An authentication server that is the gateway itself, behind the same filter, is a loop.
func TestForwardAuthLoop(t *testing.T) {
	looped := newLoop(t)
	a := looped.client().Get("/")
	want(t, "status", a.Status, 502) // of the question that came back: 508
	ends := map[string]int{}
	for _, l := range looped.lines() {
		ends[fmt.Sprint(l.Status, l.End)]++
	}
	want(t, "loops", ends["508limit"], 1)
	want(t, "exchanges", ends["502backend_invalid"], 1)
}

// newLoop is a gateway whose authentication server is itself.
func newLoop(t testing.TB) *gateway {
	t.Helper()
	l := proxytest.Listen(t, plain.mptcp)
	address := l.Addr().String()
	l.Close()
	b := runBackend(t, backend.Options{Name: "self", Servers: []backend.ServerOptions{{Address: address}}})
	f := forwardAuth(t, b, auth.ForwardOptions{})
	s := setup{mode: plain, address: address}
	s.routes = func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}, Filters: filter.Compile(f)}}
	}
	return start(t, s, plain.origin(t, proxytest.Echo))
}
