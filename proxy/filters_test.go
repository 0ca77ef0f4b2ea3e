package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/route"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// request is one that is sent in both versions of HTTP.
type request struct {
	method, target string // GET if there is no method
	fields         []string
	host           string // a.example
}

// answer is the response to it: a head with names in lower case, and a body.
type answer struct {
	status int
	head   string
	body   string
}

// bothVersions sends a request by HTTP/1.1 and by HTTP/2 to a gateway that speaks both.
func bothVersions(t *testing.T, g *gateway, r request, check func(version string, a answer)) {
	t.Helper()
	if r.method == "" {
		r.method = "GET"
	}
	if r.host == "" {
		r.host = "a.example"
	}
	check("HTTP/1.1", overHTTP1(g, r))
	check("HTTP/2", overHTTP2(t, g, r))
}

func overHTTP1(g *gateway, r request) answer {
	c := g.client()
	defer c.Close()
	lines := ""
	for _, f := range r.fields {
		lines += f + "\r\n"
	}
	c.Send(r.method + " " + r.target + " HTTP/1.1\r\nHost: " + r.host + "\r\n" + lines + "\r\n")
	a := c.AnswerTo(r.method)
	_, head, _ := strings.Cut(a.Head, "\r\n")
	var out strings.Builder
	for line := range strings.SplitSeq(strings.TrimSpace(head), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		fmt.Fprintf(&out, "%s:%s\n", strings.ToLower(name), value)
	}
	return answer{a.Status, out.String(), a.Body}
}

func overHTTP2(t *testing.T, g *gateway, r request) answer {
	t.Helper()
	path, query, hasQuery := strings.Cut(r.target, "?")
	m := &message.Request{
		Method: []byte(r.method), Scheme: "http", Host: []byte(r.host), Path: []byte(path), Query: []byte(query), HasQuery: hasQuery,
	}
	for _, f := range r.fields {
		name, value, _ := strings.Cut(f, ": ")
		m.Header.AddName([]byte(name), []byte(value))
	}
	s, resp := askHead(t, multiplexed(t, g.addr), m)
	var head strings.Builder
	for i := range resp.Header.Len() {
		if _, name, value, ok := resp.Header.At(i); ok {
			fmt.Fprintf(&head, "%s: %s\n", bytes.ToLower(name), value)
		}
	}
	if resp.ContentLength >= 0 && resp.Status != 204 {
		fmt.Fprintf(&head, "content-length: %d\n", resp.ContentLength)
	}
	var body []byte
	for !resp.NoBody {
		p, err := s.Body().Next(true)
		body = append(body, p...)
		if err == io.EOF {
			break
		}
		if err != nil && err != message.ErrSlow {
			t.Fatal(err)
		}
	}
	return answer{resp.Status, head.String(), string(body)}
}

// filtered starts a gateway for both versions with the filters on a route for /app/*, before a
// server.
func filtered(t *testing.T, serve func(*proxytest.Conn), s setup, filters ...filter.Filter) (*gateway, *proxytest.Origin) {
	t.Helper()
	o := plain.origin(t, serve)
	s.mode, s.listener.H2C = plain, true
	s.routes = func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{{
			Name: "app", Match: route.Match{Paths: []string{"/app/*"}}, Action: &proxy.Forward{Backend: b},
			Filters: filter.Compile(append(filters, filter.MaxForwards{})...),
		}}
	}
	return start(t, s, o), o
}

// tell answers with the head of the request.
func tell(c *proxytest.Conn) {
	for r := c.Request(); r != nil; r = c.Request() {
		c.Send(proxytest.Response("200 OK", r.Head))
	}
}

func fieldEdits(t *testing.T, list ...string) (out []filter.FieldEdit) {
	t.Helper()
	for _, s := range list {
		name, value, _ := strings.Cut(s, "=")
		e := filter.FieldEdit{}
		e.Name, e.Add = strings.CutPrefix(name, "+")
		v, err := template.Parse(value)
		if err != nil {
			t.Fatal(err)
		}
		e.Values = []template.Template{v}
		out = append(out, e)
	}
	return out
}

func requestHeaders(t *testing.T, list ...string) filter.Filter {
	t.Helper()
	f, err := filter.NewRequestHeaders(fieldEdits(t, list...))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func rewriteTo(t *testing.T, to string) filter.Filter {
	t.Helper()
	f, err := filter.NewRewrite(to, filter.RewriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A client that is not admitted gets 403, by its own address: X-Forwarded-For counts only from a
// trusted proxy.
func TestAccessByClient(t *testing.T) {
	allow := filter.NewAccess([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []netip.Prefix{netip.MustParsePrefix("192.0.2.66/32")})
	for _, trusted := range []bool{true, false} {
		s := setup{}
		if trusted {
			s.listener.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		g, o := filtered(t, tell, s, allow)
		sent := 0
		for forwarded, want := range map[string]bool{
			"192.0.2.1": trusted, "192.0.2.66": false, "198.51.100.1": false, "": false,
			"192.0.2.1, 198.51.100.1": false, "198.51.100.1, 192.0.2.1": trusted,
		} {
			r := request{target: "/app/x"}
			if forwarded != "" {
				r.fields = []string{"X-Forwarded-For: " + forwarded}
			}
			bothVersions(t, g, r, func(version string, a answer) {
				sent++
				if (a.status == 200) != want || a.status != 200 && (a.status != 403 || !strings.Contains(a.body, "this client is not admitted")) {
					t.Errorf("%s, trusted %v, for %q: %d %s", version, trusted, forwarded, a.status, a.body)
				}
			})
		}
		if !trusted && o.AllRaw() != "" {
			t.Errorf("the server was asked: %s", o.AllRaw())
		}
		ended := map[bool]int{true: 8, false: 12}[trusted]
		g.waitMetric(float64(ended), "mpgate_filter_ended_requests_total", "filter", "allow", "code", "403")
		refused := 0
		for _, l := range g.lines() {
			if l.Status == 403 {
				refused++
				if l.End != "denied" || l.Reason != "this client is not admitted" {
					t.Errorf("the log says %+v", l)
				}
			}
		}
		if refused != ended || sent != 12 {
			t.Errorf("%d of %d requests were refused, want %d", refused, sent, ended)
		}
	}
}

// What filters say about the header of a request is what the server gets, and what a client sends
// of that is gone.
func TestRequestHeadersOfServers(t *testing.T) {
	g, _ := filtered(t, tell, setup{},
		requestHeaders(t, "X-Forwarded-Host=fixed.example", "X-Forwarded-Port={port}", "Cookie=", "X-User={query.user}", "+X-More=mine", "Host=B.example:81"))
	bothVersions(t, g, request{target: "/app/x?user=a%0d%0aX-Admin:%201", host: "a.example:8080", fields: []string{
		"X-Forwarded-Host: evil", "Cookie: a=b", "x-user: admin", "X-More: theirs"}}, func(version string, a answer) {
		want(t, version+": status", a.status, 200)
		contains(t, version, a.body, "Host: b.example:81\r\n", "X-Forwarded-Host: fixed.example\r\n", "X-Forwarded-Port: 8080\r\n",
			"X-User: aX-Admin: 1\r\n", "X-More: mine\r\n", "theirs\r\n", "X-Forwarded-For: 127.0.0.1\r\n")
		lacks(t, version, a.body, "evil", "cookie", "admin\r\n", "\r\nx-admin")
	})
}

// What is known about the client's connection is known before the exchange ends.
func TestVariablesOfTheConnection(t *testing.T) {
	s := setup{options: proxy.Options{PathAt: func(local netip.Addr) string { return "path at " + local.String() }}}
	g, _ := filtered(t, tell, s, requestHeaders(t, "X-Transport={client_transport}", "X-Path={client_path}"))
	bothVersions(t, g, request{target: "/app/x"}, func(version string, a answer) {
		contains(t, version, a.body, "X-Transport: tcp\r\n", "X-Path: path at 127.0.0.1\r\n")
	})
}

// Host is that of the server that is selected, also when another one is tried after it.
func TestServerHost(t *testing.T) {
	for _, version := range []bool{false, true} {
		o := plain.origin(t, tell)
		dead := proxytest.NewRefusing(t)
		s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
		s.routes = func(b *backend.Backend) []proxy.Route {
			return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}, Filters: filter.Compile(requestHeaders(t, "Host={server_host}"))}}
		}
		g := startBefore(t, s, dead.Address, o.Address())
		var a answer
		for range 2 {
			if version {
				a = overHTTP2(t, g, request{method: "GET", target: "/x", host: "a.example:80"})
			} else {
				a = overHTTP1(g, request{method: "GET", target: "/x", host: "a.example:80"})
			}
			want(t, "status", a.status, 200)
			contains(t, "the head", a.body, "Host: "+o.Address()+"\r\n", "X-Forwarded-Host: a.example:80\r\n")
		}
	}
}

// A path that is rewritten is canonical, the query stays, and what the server says of paths
// follows back.
func TestRewriteAndBack(t *testing.T) {
	g, _ := filtered(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			c.Send(proxytest.Response("302 Found", r.Target, "Location: http://a.example/login?next="+r.Target, "Content-Location: /here",
				"Set-Cookie: a=b; Path=/; HttpOnly", "Set-Cookie: c=d"))
		}
	}, setup{}, rewriteTo(t, "/*"))
	for _, tt := range []struct {
		target, want string // "" is refused
	}{
		{"/app/x?q=1", "/x?q=1"},
		{"/app", "/"},
		{"/app/", "/"},
		{"/app/%61dmin", "/admin"},
		{"/app/./x//y/../z", "/x/z"},
		{"/x/../app/y", "/y"},
		{"//app//x", "/x"},
		{"/app/..;/x", ""},
		{"/app/%2e%2e/other", "404"},
		{"/app/..%2fother", ""},
		{"/app/x%2fy", ""},
		{"/app/%5c..%5cx", ""},
		{"/app/../../x", ""},
		{"/APP/x", "404"},
	} {
		bothVersions(t, g, request{target: tt.target}, func(version string, a answer) {
			what := version + " " + tt.target
			switch tt.want {
			case "":
				want(t, what, a.status, 400)
			case "404":
				want(t, what, a.status, 404)
			default:
				want(t, what+": status", a.status, 302)
				want(t, what, a.body, tt.want)
				contains(t, what, a.head, "location: http://a.example/app/login?next="+tt.want+"\n", "content-location: /app/here\n",
					"set-cookie: a=b; Path=/app; HttpOnly\n", "set-cookie: c=d\n")
			}
		})
	}
}

// A capture of path_regex that would be a dot segment where it is put is refused.
func TestRewriteOfCaptures(t *testing.T) {
	o := plain.origin(t, tell)
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{{
			Name: "dl", Match: route.Match{PathRegex: "^/dl(.*)$"}, Action: &proxy.Forward{Backend: b}, Filters: filter.Compile(rewriteTo(t, "/files/{1}")),
		}}
	}
	g := start(t, s, o)
	for target, status := range map[string]int{"/dl/a": 200, "/dla": 200, "/dl../secret": 400, "/dl..": 400, "/dl..;/x": 400, "/dl%2e%2e/secret": 400} {
		bothVersions(t, g, request{target: target}, func(version string, a answer) { want(t, version+" "+target, a.status, status) })
	}
	lacks(t, "the server", o.AllRaw(), "secret", "..")
	contains(t, "the server", o.AllRaw(), "GET /files/a HTTP/1.1\r\n")
}

// Response headers are set on the responses of servers and on the gateway's own.
func TestResponseHeadersEverywhere(t *testing.T) {
	g, _ := filtered(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			if r.Target == "/app/broken" {
				c.Send("nonsense\r\n\r\n")
				return
			}
			c.Send(proxytest.Response("200 OK", "x", "Server: secret", "X-Powered-By: secret"))
		}
	}, setup{}, filter.NewResponseHeaders(fieldEdits(t, "X-Frame-Options=DENY", "Server=", "X-Powered-By=", "X-Status={status}", "+X-Route={route}")))
	for target, status := range map[string]int{"/app/x": 200, "/app/broken": 502, "/app/a%2fb": 400} {
		bothVersions(t, g, request{target: target}, func(version string, a answer) {
			want(t, version+" "+target, a.status, status)
			contains(t, version+" "+target, a.head, "x-frame-options: DENY\n", "x-status: "+strconv.Itoa(status)+"\n", "x-route: app\n")
			lacks(t, version+" "+target, a.head, "secret")
		})
	}
}

func location(t *testing.T, to string) filter.Location {
	t.Helper()
	l, err := filter.NewLocation(to)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A redirect stays on the host of its route, whatever the client asks for.
func TestRedirect(t *testing.T) {
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = func(*backend.Backend) []proxy.Route {
		return []proxy.Route{
			{Name: "same", Match: route.Match{Paths: []string{"/same/*"}}, KeepSlashes: true, Action: &proxy.Redirect{To: location(t, "{uri}"), Status: 301}},
			{Name: "regex", Match: route.Match{PathRegex: "^/go(.*)$"}, KeepSlashes: true, Action: &proxy.Redirect{To: location(t, "/{1}"), Status: 302}},
			{Name: "next", Match: route.Match{Paths: []string{"/next"}}, Action: &proxy.Redirect{To: location(t, "/{query.to}"), Status: 303}},
			{Name: "www", Action: &proxy.Redirect{To: location(t, "https://www.{host}{uri}"), Status: 308}},
		}
	}
	g := startBefore(t, s, "127.0.0.1:1")
	for _, tt := range []struct {
		method, target, want string
		status               int
	}{
		{"GET", "/x?a=b", "https://www.a.example/x?a=b", 308},
		{"POST", "/x", "https://www.a.example/x", 308},
		{"HEAD", "/x", "https://www.a.example/x", 308},
		{"GET", "//evil.example/x", "https://www.a.example/evil.example/x", 308},
		{"GET", "//same//evil.example", "/same//evil.example", 301},
		{"GET", "/go/evil.example", "/evil.example", 302},
		{"GET", "//go//evil.example", "/evil.example", 302},
		{"GET", `/next?to=/evil.example`, "/%2Fevil.example", 303},
		{"GET", "/next?to=%5cevil.example", "/%5Cevil.example", 303},
		{"GET", "/next?to=a%0d%0aSet-Cookie:%20b", "/a%0D%0ASet-Cookie%3A%20b", 303},
		{"OPTIONS", "*", "https://www.a.example/", 308},
	} {
		bothVersions(t, g, request{method: tt.method, target: tt.target}, func(version string, a answer) {
			what := version + " " + tt.method + " " + tt.target
			want(t, what+": status", a.status, tt.status)
			contains(t, what, a.head, "location: "+tt.want+"\n")
			lacks(t, what, a.head, "no-store", "set-cookie:")
			if (a.body == "") != (tt.method == "HEAD") {
				t.Errorf("%s has the body %q", what, a.body)
			}
		})
	}
}

// A request of HTTP/1.0 without Host gets no Location that has something else where a host belongs.
func TestRedirectWithoutHost(t *testing.T) {
	s := setup{mode: plain}
	s.routes = func(*backend.Backend) []proxy.Route {
		return []proxy.Route{
			{Name: "same", Match: route.Match{Paths: []string{"/same/*"}}, Action: &proxy.Redirect{To: location(t, "/new{uri}"), Status: 301}},
			{Name: "https", Action: &proxy.Redirect{To: location(t, "https://{host}{uri}"), Status: 308}},
		}
	}
	g := startBefore(t, s, "127.0.0.1:1")
	for target, want := range map[string]string{"/evil.example/x": "", "/same/x": "/new/same/x"} {
		c := g.client()
		c.Send("GET " + target + " HTTP/1.0\r\n\r\n")
		a := c.Answer()
		if a.Header("Location") != want || (a.Status == 400) != (want == "") {
			t.Errorf("%s: %q", target, a.Head)
		}
		c.Close()
	}
}

// Fixed answers have the methods, lengths and bodies that their status allows.
func TestFixedAnswers(t *testing.T) {
	text := func(status int, body string) *proxy.Fixed {
		return &proxy.Fixed{Status: status, Body: []byte(body), Type: "text/plain"}
	}
	hook := text(200, "hook")
	hook.AnyMethod = true
	late := text(503, "later")
	late.RetryAfter = 90*time.Second + 1
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = func(*backend.Backend) (list []proxy.Route) {
		for path, f := range map[string]*proxy.Fixed{
			"/text": text(200, "hello"), "/hook": hook, "/late": late, "/gone": {Status: 410}, "/none": {Status: 204}, "/empty": {Status: 200},
		} {
			list = append(list, proxy.Route{Name: path[1:], Match: route.Match{Paths: []string{path}}, Action: f})
		}
		return list
	}
	g := startBefore(t, s, "127.0.0.1:1")
	for _, tt := range []struct {
		method, target string
		status         int
		body           string
		head           string
	}{
		{"GET", "/text", 200, "hello", "content-length: 5\n"},
		{"HEAD", "/text", 200, "", "content-length: 5\n"},
		{"OPTIONS", "/text", 204, "", "allow: GET, HEAD, OPTIONS\n"},
		{"POST", "/text", 405, "only GET, HEAD, OPTIONS are supported here", "allow: GET, HEAD, OPTIONS\n"},
		{"POST", "/hook", 200, "hook", "content-type: text/plain\n"},
		{"DELETE", "/late", 503, "later", "retry-after: 91\n"},
		{"GET", "/gone", 410, "410 Gone: configured for this route", "cache-control: no-store\n"},
		{"PUT", "/none", 204, "", "date: "},
		{"GET", "/empty", 200, "", "content-length: 0\n"},
	} {
		bothVersions(t, g, request{method: tt.method, target: tt.target}, func(version string, a answer) {
			what := version + " " + tt.method + " " + tt.target
			want(t, what+": status", a.status, tt.status)
			contains(t, what, a.head, tt.head)
			if tt.body == "" && a.body != "" || !strings.Contains(a.body, tt.body) {
				t.Errorf("%s has the body %q, want %q", what, a.body, tt.body)
			}
			if strings.Count(a.head, "retry-after") > 1 || tt.status == 204 && strings.Contains(a.head, "content-length") {
				t.Errorf("%s: %s", what, a.head)
			}
		})
	}
	for _, l := range g.lines() {
		if l.End != "ok" || l.Backend != "" {
			t.Errorf("%+v", l)
		}
	}
}

// An error page replaces what the gateway, or a server, says of an error, and nothing else of the
// response.
func TestErrorPagesOfBoth(t *testing.T) {
	pages, err := filter.NewErrorPages([]filter.ErrorPage{
		{First: 502, Last: 504, Body: []byte("<p>down"), Type: "text/html"},
		{First: 401, Last: 404, Body: []byte("<p>no"), Type: "text/html", Servers: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	g, o := filtered(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			switch status := strings.TrimPrefix(r.Target, "/app/"); status {
			case "broken":
				c.Send("nonsense\r\n\r\n")
				return
			case "401":
				c.Send(proxytest.Response("401 Unauthorized", "secret", "WWW-Authenticate: Basic", "Set-Cookie: a=b", "ETag: x", "Content-Language: de"))
			default:
				body := "from the server"
				if r.Method == "HEAD" {
					body = ""
				}
				c.Send(proxytest.Response(status+" X", body))
			}
		}
	}, setup{}, pages)
	html, json := "Accept: text/html, */*;q=0.1", "Accept: application/json"
	for _, tt := range []struct {
		method, path, accept string
		status               int
		body                 string
		head                 []string
	}{
		{"GET", "broken", html, 502, "<p>down", []string{"content-type: text/html\n", "content-length: 7\n"}},
		{"GET", "broken", json, 502, `"error":"the server's answer is not valid"`, []string{"content-type: application/json\n"}},
		{"HEAD", "broken", html, 502, "", []string{"content-length: 7\n"}},
		{"GET", "404", html, 404, "<p>no", []string{"content-type: text/html\n"}},
		{"GET", "404", json, 404, `"error":"not found"`, []string{"content-type: application/json\n"}},
		{"HEAD", "404", html, 404, "", []string{"content-length: 5\n"}},
		{"GET", "401", html, 401, "<p>no", []string{"www-authenticate: Basic\n", "set-cookie: a=b\n"}},
		{"GET", "503", html, 503, "from the server", nil},
		{"GET", "200", html, 200, "from the server", nil},
	} {
		bothVersions(t, g, request{method: tt.method, target: "/app/" + tt.path, fields: []string{tt.accept}}, func(version string, a answer) {
			what := version + " " + tt.method + " " + tt.path + " " + tt.accept
			want(t, what+": status", a.status, tt.status)
			contains(t, what, a.head, tt.head...)
			lacks(t, what, a.head+a.body, "secret", "etag", "content-language")
			if tt.body == "" && a.body != "" || !strings.Contains(a.body, tt.body) {
				t.Errorf("%s has the body %q, want %q", what, a.body, tt.body)
			}
		})
	}
	if n := o.Connections(); n > 10 {
		t.Errorf("the server got %d connections: one for each response that was replaced", n)
	}
}

// Preflights are answered, and the fields of servers are replaced.
func TestCORSOfServers(t *testing.T) {
	f, err := filter.NewCORS(filter.CORSOptions{Origins: []string{"https://a.example"}, Credentials: true})
	if err != nil {
		t.Fatal(err)
	}
	g, o := filtered(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			c.Send(proxytest.Response("200 OK", "x", "Access-Control-Allow-Origin: *", "Vary: Accept"))
		}
	}, setup{}, f)
	preflight := []string{"Origin: https://a.example", "Access-Control-Request-Method: POST"}
	bothVersions(t, g, request{method: "OPTIONS", target: "/app/x", fields: preflight}, func(version string, a answer) {
		want(t, version+": preflight", a.status, 204)
		contains(t, version, a.head, "access-control-allow-origin: https://a.example\n", "access-control-allow-credentials: true\n",
			"access-control-allow-methods: GET, HEAD, POST\n", "vary: Origin\n")
	})
	want(t, "what the server got", o.AllRaw(), "")
	bothVersions(t, g, request{target: "/app/x", fields: preflight[:1]}, func(version string, a answer) {
		want(t, version+": status", a.status, 200)
		contains(t, version, a.head, "access-control-allow-origin: https://a.example\n", "vary: Accept\n", "vary: Origin\n")
	})
	bothVersions(t, g, request{target: "/app/a%2fb", fields: []string{"Origin: https://evil.example"}}, func(version string, a answer) {
		want(t, version+": status", a.status, 400)
		lacks(t, version, a.head, "access-control")
		contains(t, version, a.head, "vary: Origin\n")
	})
	for _, l := range g.lines() {
		if l.Method == "OPTIONS" && l.End != telemetry.EndOK.String() {
			t.Errorf("%+v", l)
		}
	}
}
