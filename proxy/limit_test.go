package proxy_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/filter/limit"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// A body that is declared too large is refused at once, one of unknown length when it is; both get
// the answer and the server gets nothing complete.
func TestBodyLimit(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		origin := plain.origin(t, proxytest.Echo)
		g := guarded(t, origin, proxy.Route{}, limit.New(limit.Options{Body: 10}))
		chunked := []string{"X-Trailer: 1"} // makes the length unknown
		for _, tt := range []struct {
			wish
			status int
		}{
			{wish{method: "POST", body: "0123456789"}, 200},
			{wish{method: "POST", body: "0123456789x"}, 413},
			{wish{method: "POST", body: "0123456789", trailer: chunked}, 200},
			{wish{method: "POST", body: "0123456789x", trailer: chunked}, 413},
			{wish{method: "PUT", body: strings.Repeat("x", 60_000), trailer: chunked}, 413},
		} {
			r := ask(g, tt.wish)
			want(t, "status", r.status, tt.status)
			line := g.log.Next()
			if tt.status == 413 {
				contains(t, "the answer", r.body, "the request body is too large for this route")
				want(t, "end", line.End, "limited")
				want(t, "filter", line.Filter, "limit")
				want(t, "reason", line.Reason, "the request body is too large for this route")
			} else {
				want(t, "end", line.End, "ok")
			}
		}
	})
}

// A client that reads only after it has written everything gets the answer, however much that is.
func TestBodyLimitWithClientThatWritesFirst(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		const size = 8 << 20
		s := setup{mode: m}
		s.routes = func(b *backend.Backend) []proxy.Route {
			return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}, Filters: filter.Compile(limit.New(limit.Options{Body: 1 << 20}))}}
		}
		g := start(t, s, m.origin(t, proxytest.Echo))
		body := strings.Repeat("x", size)
		for _, head := range []string{
			"Content-Length: " + strconv.Itoa(size) + "\r\n\r\n" + body,
			"Transfer-Encoding: chunked\r\n\r\n" + strconv.FormatInt(size, 16) + "\r\n" + body + "\r\n0\r\n\r\n",
		} {
			c := g.client()
			c.Send("POST /x HTTP/1.1\r\n" + host + head)
			a := c.Answer()
			want(t, "status", a.Status, 413)
			contains(t, "the answer", strings.ToLower(a.Head), "connection: close\r\n")
			c.Close()
		}
	})
}

// A client that waits to be asked for its body is not asked.
func TestBodyLimitWithExpect(t *testing.T) {
	g := guarded(t, plain.origin(t, proxytest.Echo), proxy.Route{}, limit.New(limit.Options{Body: 10}))
	c := g.client()
	defer c.Close()
	c.Send("POST /x HTTP/1.1\r\n" + host + "Content-Length: 11\r\nExpect: 100-continue\r\n\r\n")
	want(t, "status", c.Answer().Status, 413)
}

// The key is the client. What an untrusted peer says of it does not count; what a trusted one says
// does.
func TestRateLimit(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		for _, trusted := range []bool{false, true} {
			l := limit.New(limit.Options{Rate: limit.Rate{Events: 1, Per: time.Hour}, Burst: 3})
			s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
			if trusted {
				s.listener.Trusted = loopback
			}
			s.routes = func(b *backend.Backend) []proxy.Route {
				return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}, Filters: filter.Compile(l)}}
			}
			g := start(t, s, plain.origin(t, proxytest.Echo))
			for i := range 6 {
				r := ask(g, wish{fields: []string{"X-Forwarded-For: 198.51.100." + strconv.Itoa(i), "X-Real-IP: 198.51.100.77", "Forwarded: for=198.51.100.78"}})
				status, left := 200, strconv.Itoa(max(0, 2-i))
				switch {
				case trusted:
					left = "2"
				case i >= 3:
					status = 429
				}
				want(t, "status", r.status, status)
				contains(t, "the head", r.head, `ratelimit-policy: "limit";q=3;w=10800`, `ratelimit: "limit";r=`+left+";t=")
				line := g.log.Next()
				if status == 429 {
					contains(t, "the head", r.head, "retry-after: 3")
					want(t, "end", line.End, "limited")
				}
			}
		}
	})
}

// Requests in progress are counted until they end, however they end.
func TestConcurrencyLimit(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		key, err := template.Parse("{header.X-User}")
		if err != nil {
			t.Fatal(err)
		}
		l := limit.New(limit.Options{PerKey: 1, Requests: 1, Key: key})
		busy, answer := make(chan struct{}), make(chan struct{})
		origin := plain.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				if r.Target == "/wait" {
					busy <- struct{}{}
					<-answer
				}
				c.Send(proxytest.Response("200 OK", "x"))
			}
		})
		g := guarded(t, origin, proxy.Route{}, l)
		user := func(name string) wish { return wish{fields: []string{"X-User: " + name}} }
		waiting := user("a")
		waiting.path = "/wait"
		first := make(chan reply)
		go func() { first <- ask(g, waiting) }()
		<-busy
		r := ask(g, user("a"))
		want(t, "status of the same key", r.status, 429)
		contains(t, "the head", r.head, "retry-after: 1\r\n")
		r = ask(g, user("b"))
		want(t, "status of another key", r.status, 503)
		contains(t, "the head", r.head, "retry-after: 1\r\n")
		want(t, "fields Retry-After", strings.Count(r.head, "retry-after"), 1)
		answer <- struct{}{}
		want(t, "status of the first", (<-first).status, 200)
		for range 3 {
			g.log.Next()
		}
		want(t, "status of the next", ask(g, user("a")).status, 200)
		g.log.Next()

		// A client that leaves.
		c := g.client()
		c.Send("GET /wait HTTP/1.1\r\n" + host + "X-User: a\r\n\r\n")
		<-busy
		c.Close()
		want(t, "end", g.log.Next().End, "client_gone")
		want(t, "status after a client has left", ask(g, user("a")).status, 200)
		answer <- struct{}{}
	})
}

// panics is a filter that panics.
type panics struct{}

func (panics) Name() string                       { return "panics" }
func (panics) FilterRequest(*filter.Request) bool { panic("a bug") }

// A panic releases what the request holds.
func TestConcurrencyLimitAfterPanic(t *testing.T) {
	l := limit.New(limit.Options{PerKey: 1, Requests: 1})
	g := guarded(t, plain.origin(t, proxytest.Echo), proxy.Route{}, l, panics{})
	g.expectPanics = true
	for range 3 {
		c := g.client()
		want(t, "status", c.Get("/").Status, 500)
		c.Close()
		g.log.Next()
	}
}

// With dry_run everything is served and noted.
func TestLimitDryRun(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		in := telemetry.NewInstruments("test")
		l := limit.New(limit.Options{Body: 3, Rate: limit.Rate{Events: 1, Per: time.Hour}, DryRun: true, Meter: in.Limits("all")})
		g := guarded(t, plain.origin(t, proxytest.Echo), proxy.Route{}, l)
		for i, which := range []string{"", "body", "rate", "body"} {
			w := wish{method: "POST"}
			if which == "body" {
				w.body = "1234"
			}
			if i == 3 {
				w.trailer = []string{"X-Sum: 1"}
			}
			r := ask(g, w)
			want(t, "status", r.status, 200)
			lacks(t, "the head", r.head, "ratelimit")
			line := g.log.Next()
			want(t, "end", line.End, "ok")
			if which != "" && i != 3 { // the last is beyond the rate first
				want(t, "dry_run", line.DryRun, which)
			}
		}
		want(t, "requests beyond the limit of the body", proxytest.Metric(t, in.Registry(), "mpgate_limit_exceeded_requests_total", "route", "all", "limit", "body", "dry_run", "true"), 2)
	})
}
