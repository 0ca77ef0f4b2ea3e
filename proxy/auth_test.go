package proxy_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/filter/auth"
	"mpgate/proxy/message"
)

// wish is a request in either version of HTTP.
type wish struct {
	method, path string   // GET and / by default
	fields       []string // "Name: value"
	body         string
	trailer      []string
}

// reply is the answer to a wish, with the names of its fields in lower case.
type reply struct {
	status     int
	head, body string
}

// eachVersion runs f with a way to ask in HTTP/1.1 and one in HTTP/2.
func eachVersion(t *testing.T, f func(t *testing.T, ask func(*gateway, wish) reply)) {
	t.Parallel()
	for name, ask := range map[string]func(testing.TB, *gateway, wish) reply{"h1": askHTTP1, "h2": askHTTP2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, func(g *gateway, w wish) reply {
				t.Helper()
				if w.method == "" {
					w.method = "GET"
				}
				if w.path == "" {
					w.path = "/"
				}
				return ask(t, g, w)
			})
		})
	}
}

func askHTTP1(_ testing.TB, g *gateway, w wish) reply {
	c := g.client()
	defer c.Close()
	head := w.method + " " + w.path + " HTTP/1.1\r\n" + host
	for _, f := range w.fields {
		head += f + "\r\n"
	}
	switch {
	case w.trailer != nil:
		head += "Transfer-Encoding: chunked\r\n\r\n"
		if w.body != "" {
			head += strconv.FormatInt(int64(len(w.body)), 16) + "\r\n" + w.body + "\r\n"
		}
		head += "0\r\n" + strings.Join(w.trailer, "\r\n") + "\r\n\r\n"
	default:
		head += "Content-Length: " + strconv.Itoa(len(w.body)) + "\r\n\r\n" + w.body
	}
	c.Send(head)
	a := c.AnswerTo(w.method)
	return reply{a.Status, strings.ToLower(a.Head), a.Body}
}

func askHTTP2(t testing.TB, g *gateway, w wish) reply {
	t.Helper()
	r := &message.Request{Method: []byte(w.method), Scheme: "http", Host: []byte("a.example"), ContentLength: int64(len(w.body))}
	path, query, has := strings.Cut(w.path, "?")
	r.Path, r.Query, r.HasQuery = []byte(path), []byte(query), has
	add := func(h *message.Header, fields []string) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			h.AddName([]byte(strings.ToLower(name)), []byte(value))
		}
	}
	add(&r.Header, w.fields)
	if w.trailer != nil {
		r.ContentLength = message.Unknown
	}
	s, err := multiplexed(t, g.addr).Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var trailer message.Header
	add(&trailer, w.trailer)
	err = s.WriteHead(r)
	if w.body != "" {
		err = errors.Join(err, s.WriteBody([]byte(w.body)))
	}
	if err = errors.Join(err, s.End(&trailer), s.Flush()); err != nil {
		t.Fatal(err)
	}
	var resp message.Response
	if err := s.ReadHead(&resp, time.Now().Add(proxytest.Patience)); err != nil {
		t.Fatal(err)
	}
	head := ""
	for i := range resp.Header.Len() {
		if _, name, value, ok := resp.Header.At(i); ok {
			head += string(name) + ": " + string(value) + "\r\n"
		}
	}
	body := ""
	if !resp.NoBody {
		if body, err = readRest(s); err != nil {
			t.Fatal(err)
		}
	}
	return reply{resp.Status, strings.ToLower(head), body}
}

// echoHeads answers with the head and the body of each request, and its trailer.
func echoHeads(c *proxytest.Conn) {
	for r := c.Request(); r != nil; r = c.Request() {
		if !c.Send(proxytest.Response("200 OK", r.Head+r.Body+r.Chunks)) {
			return
		}
	}
}

// guarded is a gateway whose only route has the filters.
func guarded(t testing.TB, origin *proxytest.Origin, route proxy.Route, filters ...filter.Filter) *gateway {
	t.Helper()
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = func(b *backend.Backend) []proxy.Route {
		route.Name, route.Action, route.Filters = "all", &proxy.Forward{Backend: b}, filter.Compile(filters...)
		return []proxy.Route{route}
	}
	return start(t, s, origin)
}

func basicFilter(t testing.TB) filter.Filter {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, append([]byte("alice:"), hash...), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := auth.NewUsers(auth.UsersOptions{Path: path, Queue: auth.NewQueue(0), Memory: auth.NewMemory()})
	if err != nil {
		t.Fatal(err)
	}
	return auth.NewBasic(auth.BasicOptions{Users: users, Realm: "test"})
}

func credentialsOf(s string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(s))
}

// No method, path or spelling leads past a filter, and nothing of a request that is refused reaches
// the server.
func TestAuthenticationCannotBeAvoided(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		origin := plain.origin(t, echoHeads)
		g := guarded(t, origin, proxy.Route{KeepEncodedSlash: true, KeepSlashes: true, KeepUnsafeNames: true}, basicFilter(t))
		for _, w := range []wish{
			{}, {method: "HEAD"}, {method: "OPTIONS"}, {method: "POST", body: "x"}, {method: "get"}, {method: "PROPFIND"}, {method: "TRACE"},
			{path: "/admin%2F"}, {path: "//admin"}, {path: "/%61dmin"}, {path: "/a/../admin"}, {path: "/admin;x=1"}, {path: "/a?user=alice:secret"},
			{fields: []string{credentialsOf("alice:wrong")}}, {fields: []string{credentialsOf("nobody:secret")}},
			{fields: []string{credentialsOf("alice:wrong"), credentialsOf("alice:secret")}},
			{fields: []string{"X-Authorization: " + strings.TrimPrefix(credentialsOf("alice:secret"), "Authorization: ")}},
			{fields: []string{"X-HTTP-Method-Override: OPTIONS"}, method: "POST"},
			{fields: []string{"X-Original-Url: /public"}}, {fields: []string{"X-Forwarded-For: 127.0.0.1"}},
			{trailer: []string{credentialsOf("alice:secret")}, method: "POST", body: "x"},
		} {
			r := ask(g, w)
			want(t, w.method+" "+w.path+" "+strings.Join(w.fields, ","), r.status, 401)
			contains(t, "the answer", r.head, `www-authenticate: basic realm="test", charset="utf-8"`)
		}
		r := ask(g, wish{fields: []string{credentialsOf("alice:secret")}, path: "/ok", body: "hello", method: "PUT"})
		want(t, "status with the password", r.status, 200)
		contains(t, "the server gets", strings.ToLower(r.body), "put /ok ", "\r\nauthorization: basic ", "hello")
		for _, raw := range origin.Raw() {
			want(t, "requests at the server", strings.Count(raw, "HTTP/1.1"), 1)
		}
	})
}

func TestAuthenticationIsLogged(t *testing.T) {
	g := guarded(t, plain.origin(t, proxytest.Echo), proxy.Route{}, basicFilter(t))
	c := g.client()
	a := c.Get("/x")
	want(t, "status", a.Status, 401)
	contains(t, "the body", a.Body, "401 Unauthorized: credentials are required")
	l := g.log.Next()
	want(t, "end", l.End, "unauthorized")
	want(t, "reason", l.Reason, "credentials are required")
	want(t, "route", l.Route, "all")
	// The connection goes on.
	c.Send("GET /y HTTP/1.1\r\n" + host + credentialsOf("alice:secret") + "\r\n\r\n")
	want(t, "status with the password", c.Answer().Status, 200)
	lacks(t, "the log", g.log.Next().Path, "secret")
}

// A WebSocket needs credentials too.
func TestAuthenticationOfUpgrades(t *testing.T) {
	g := guarded(t, plain.origin(t, webSocketEcho(func(key string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + acceptFor(key) + "\r\n\r\n"
	})), proxy.Route{}, basicFilter(t))
	s, resp := askHead(t, multiplexed(t, g.addr), webSocketTo("/ws"))
	s.Release()
	want(t, "status of HTTP/2", resp.Status, 401)
	c := g.client()
	const upgrade = "GET /ws HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	c.Send(upgrade + "\r\n")
	want(t, "status of HTTP/1", c.Answer().Status, 401)
	c = g.client()
	c.Send(upgrade + credentialsOf("alice:secret") + "\r\n\r\n")
	want(t, "status with the password", c.ReadHead().Status, 101)
}
