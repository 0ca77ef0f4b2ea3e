package proxy_test

import (
	"context"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter/mirror"
	"mpgate/telemetry"
)

// mirrorTo is a filter that copies all requests to an origin, while the test runs.
func mirrorTo(t testing.TB, in *telemetry.Instruments, shadow *proxytest.Origin) *mirror.Mirror {
	t.Helper()
	m := mirror.New(mirror.Options{Backend: backendWith(t, plain, backend.Options{Name: "other"}, shadow), Name: "shadow", Ratio: 1, Meter: in.Mirror("all", "shadow")})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m
}

// The other backend gets what the server gets, and its answers go nowhere.
func TestMirror(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		copies := make(chan string, 10)
		shadow := plain.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				copies <- r.Head + r.Body
				c.Send(proxytest.Response("500 Internal Server Error", "shadow", "Set-Cookie: shadow=1"))
			}
		})
		in := telemetry.NewInstruments("test")
		g := guarded(t, plain.origin(t, echoHeads), proxy.Route{}, mirrorTo(t, in, shadow))
		large := strings.Repeat("x", 64<<10)
		for _, w := range []wish{
			{path: "/a/../b?x=1", fields: []string{"X-Own: 1"}},
			{method: "POST", body: "a body"},
			{method: "PUT", path: "/c", body: "in pieces", trailer: []string{"X-Sum: 1"}},
			{method: "POST", path: "/large", body: large},
		} {
			r := ask(g, w)
			want(t, "status", r.status, 200)
			lacks(t, "the answer", r.head+r.body, "shadow")
			got := <-copies
			_, body, _ := strings.Cut(got, "\r\n\r\n")
			want(t, "the body of the copy", body, w.body)
			path, _, _ := strings.Cut(strings.TrimPrefix(w.path, "/a/.."), "?")
			contains(t, "the copy", got, " "+path, "Host: a.example\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "X-Request-ID: ", "CDN-Loop: mirror-")
			contains(t, "the copy", strings.ToLower(got), strings.ToLower(strings.Join(w.fields, "")))
		}
		proxytest.WaitMetric(t, in.Registry(), 4, "mpgate_mirror_requests_total", "route", "all", "backend", "shadow", "result", "sent")

		want(t, "status", ask(g, wish{method: "POST", body: large + "x"}).status, 200)
		want(t, "status", ask(g, wish{method: "POST", body: large + "x", trailer: []string{"X-Sum: 1"}}).status, 200)
		proxytest.WaitMetric(t, in.Registry(), 2, "mpgate_mirror_requests_total", "route", "all", "backend", "shadow", "result", "too_large")
	})
}

// A backend that does not answer costs the client nothing; what it cannot take is dropped.
func TestMirrorToSilence(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		release := make(chan struct{})
		shadow := plain.origin(t, func(c *proxytest.Conn) { <-release })
		in := telemetry.NewInstruments("test")
		m := mirrorTo(t, in, shadow)
		defer close(release)
		g := guarded(t, plain.origin(t, proxytest.Echo), proxy.Route{}, m)
		for range 200 { // more than are sent and wait
			want(t, "status", ask(g, wish{}).status, 200)
		}
		if n := proxytest.Metric(t, in.Registry(), "mpgate_mirror_requests_total", "route", "all", "backend", "shadow", "result", "dropped"); n < 20 {
			t.Errorf("%v copies were dropped", n)
		}
	})
}

// A copy that comes back is not copied again.
func TestMirrorToItself(t *testing.T) {
	in := telemetry.NewInstruments("test")
	got := make(chan string, 100)
	origin := plain.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			got <- r.Head
			c.Send(proxytest.Response("200 OK", ""))
		}
	})
	m := mirrorTo(t, in, origin)
	g := guarded(t, origin, proxy.Route{}, m)
	c := g.client()
	defer c.Close()
	want(t, "status", c.Get("/first").Status, 200)
	first, second := <-got, <-got
	mark := second
	if strings.Contains(first, "mirror-") {
		mark = first
	}
	_, mark, _ = strings.Cut(mark, "CDN-Loop: ")
	mark, _, _ = strings.Cut(mark, "\r\n")
	c.Send("GET /second HTTP/1.1\r\n" + host + "CDN-Loop: other, " + mark + "\r\n\r\n")
	want(t, "status", c.Answer().Status, 200)
	contains(t, "the request", <-got, "/second")
	want(t, "status", c.Get("/third").Status, 200)
	contains(t, "the request", <-got, "/third")
	contains(t, "the copy", <-got, "/third")
}

// An upgrade is not copied, in either version, and neither is what the client sends in the tunnel.
func TestMirrorUpgrade(t *testing.T) {
	in := telemetry.NewInstruments("test")
	shadow := plain.origin(t, proxytest.Echo)
	echo := webSocketEcho(func(key string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Accept: " + acceptFor(key) + "\r\n\r\n"
	})
	g := guarded(t, plain.origin(t, echo), proxy.Route{}, mirrorTo(t, in, shadow))
	c := g.client()
	c.Send("GET /ws HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	want(t, "status in HTTP/1", c.ReadHead().Status, 101)
	c.Send("a frame")
	c.Close()
	want(t, "the first field in HTTP/2", upgradeFrames(t, g.addr)[0], ":status: 200")
	g.log.Next()
	g.log.Next()
	want(t, "results", proxytest.Metric(t, in.Registry(), "mpgate_mirror_requests_total"), 0)
	want(t, "what the other backend got", shadow.AllRaw(), "")
}

// A request whose body ends early is not copied.
func TestMirrorIncomplete(t *testing.T) {
	in := telemetry.NewInstruments("test")
	shadow := plain.origin(t, proxytest.Echo)
	g := guarded(t, plain.origin(t, proxytest.Echo), proxy.Route{}, mirrorTo(t, in, shadow))
	c := g.client()
	c.Send("POST /cut HTTP/1.1\r\n" + host + "Content-Length: 10\r\n\r\n12345")
	c.Close()
	g.log.Next()
	proxytest.WaitMetric(t, in.Registry(), 1, "mpgate_mirror_requests_total", "route", "all", "backend", "shadow", "result", "incomplete")
	want(t, "what the other backend got", shadow.AllRaw(), "")
}
