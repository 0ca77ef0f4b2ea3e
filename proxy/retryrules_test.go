package proxy_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy/backend"
)

// rules are DefaultRetry with changes.
func rules(change func(*backend.Retry)) *backend.Retry {
	r := backend.DefaultRetry
	change(&r)
	return &r
}

// failing is an origin that treats each request as how says.
func failing(t *testing.T, m mode, how string) (*proxytest.Origin, *counter) {
	seen := &counter{seen: map[string]int{}}
	return m.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			seen.add(r.Method)
			switch how {
			case "closes":
				return
			case "resets":
				c.Reset()
				return
			case "stalls":
				_, _ = c.R.ReadByte() // until the gateway gives up
				return
			default:
				c.Send(proxytest.Response(how, "failed"))
			}
		}
	}), seen
}

func TestRetryRules(t *testing.T) {
	const get, put, post = "GET", "PUT", "POST"
	small, large := "hi", strings.Repeat("x", 65537)
	all := func(r *backend.Retry) { r.AnyMethod = true }
	for name, tt := range map[string]struct {
		how    string // the first server
		change func(*backend.Retry)
		method string
		body   string
		status int // 200: of the second server
		end    string
	}{
		"close":                    {how: "closes", method: get, status: 200},
		"reset":                    {how: "resets", method: get, status: 200},
		"reset, body":              {how: "resets", method: put, body: small, status: 200},
		"reset, long body":         {how: "closes", method: put, body: large, status: 502, end: "backend_reset"},
		"reset, body is not kept":  {how: "closes", method: put, body: small, change: func(r *backend.Retry) { r.Body = 1 }, status: 502, end: "backend_reset"},
		"reset, POST":              {how: "closes", method: post, body: small, status: 502, end: "backend_reset"},
		"reset, all methods":       {how: "closes", method: post, body: small, change: all, status: 200},
		"one try":                  {how: "closes", method: get, change: func(r *backend.Retry) { r.Tries = 1 }, status: 502, end: "backend_reset"},
		"not after resets":         {how: "closes", method: get, change: func(r *backend.Retry) { r.On = backend.OnConnect }, status: 502, end: "backend_reset"},
		"status":                   {how: "503 Service Unavailable", method: get, status: 503, end: "ok"},
		"retried status":           {how: "503 Service Unavailable", method: get, change: func(r *backend.Retry) { r.On |= backend.On503 }, status: 200},
		"another status":           {how: "500 Internal Server Error", method: get, change: func(r *backend.Retry) { r.On |= backend.On503 }, status: 500, end: "ok"},
		"retried status, body":     {how: "429 Too Many Requests", method: put, body: small, change: func(r *backend.Retry) { r.On |= backend.On429 }, status: 200},
		"status, POST":             {how: "502 Bad Gateway", method: post, body: small, change: func(r *backend.Retry) { r.On |= backend.On502 }, status: 502, end: "ok"},
		"status, all methods":      {how: "504 Gateway Timeout", method: post, body: small, change: func(r *backend.Retry) { r.AnyMethod, r.On = true, r.On|backend.On504 }, status: 200},
		"timeout":                  {how: "stalls", method: get, change: func(r *backend.Retry) { r.On, r.Tries, r.TryTimeout = r.On|backend.OnTimeout, 2, 50*time.Millisecond }, status: 200},
		"timeout, part of the own": {how: "stalls", method: put, body: small, change: func(r *backend.Retry) { r.On, r.Tries = r.On|backend.OnTimeout, 2 }, status: 200},
		"timeout, POST":            {how: "stalls", method: post, body: small, change: func(r *backend.Retry) { r.On, r.Tries, r.TryTimeout = r.On|backend.OnTimeout, 2, 50*time.Millisecond }, status: 504, end: "backend_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, seen := failing(t, plain, tt.how)
			good := plain.origin(t, proxytest.Echo)
			o := backend.Options{ResponseTimeout: proxytest.Patience}
			if strings.HasPrefix(name, "timeout, ") {
				o.ResponseTimeout = 4 * time.Second // the last try may take all of it
			}
			if tt.change != nil {
				o.Retry = rules(tt.change)
			}
			g := start(t, setup{backend: o}, bad, good)
			c := g.client()
			c.Send(tt.method + " /x HTTP/1.1\r\n" + host + "Content-Length: " + strconv.Itoa(len(tt.body)) + "\r\n\r\n" + tt.body)
			a := c.AnswerTo(tt.method)
			l := g.log.Next()
			want(t, "status", a.Status, tt.status)
			want(t, "times that the first server got it", seen.of(tt.method), 1)
			if tt.status == 200 {
				want(t, "body", a.Body, tt.method+" /x "+tt.body)
				want(t, "tries", l.Tries, 2)
				want(t, "server", l.Server, good.Address())
				want(t, "end", l.End, "ok")
				want(t, "retries", g.metric("mpgate_backend_retries_total", "server", good.Address()), 1)
			} else {
				want(t, "tries", l.Tries, 1)
				want(t, "end", l.End, tt.end)
				want(t, "connections to the second server", good.Connections(), 0)
			}
		})
	}
}

// A body that has not arrived completely is sent again from its beginning, and a retried status may
// come before its end.
func TestRetryWithinAnUpload(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		for _, early := range []string{"", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"} {
			began := make(chan struct{}, 10)
			bad := m.origin(t, func(c *proxytest.Conn) {
				c.Head()
				c.Send(early)
				began <- struct{}{}
				if early == "" {
					return
				}
				_, _ = c.R.WriteTo(discard{})
			})
			good := m.origin(t, proxytest.Echo)
			g := start(t, setup{mode: m, backend: backend.Options{Retry: rules(func(r *backend.Retry) { r.On |= backend.On503 })}}, bad, good)
			c := g.client()
			body := strings.Repeat("0123456789abcdef", 40_000/16)
			c.Send("PUT /x HTTP/1.1\r\n" + host + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body[:30_000])
			<-began
			c.Send(body[30_000:])
			a := c.AnswerTo("PUT")
			want(t, "status", a.Status, 200)
			want(t, "body", a.Body, "PUT /x "+body)
			want(t, "tries", g.log.Next().Tries, 2)
			want(t, "the next answer", c.Get("/next").Status, 200)
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// With one server, a status or a timeout is retried there after a pause, up to the number of tries.
func TestRetryAtTheOnlyServer(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	o := plain.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			if asked.Add(1)%3 == 0 {
				c.Send(proxytest.EchoOf(r))
			} else {
				c.Send(proxytest.Response("503 Service Unavailable", "later"))
			}
		}
	})
	g := start(t, setup{backend: backend.Options{Retry: rules(func(r *backend.Retry) { r.On |= backend.On503 })}}, o)
	c := g.client()
	want(t, "status", c.Get("/").Status, 200)
	want(t, "tries", g.log.Next().Tries, 3)
	want(t, "connections", o.Connections(), 1) // short answers that are not used do not cost them
	asked.Store(0)
	g2 := start(t, setup{backend: backend.Options{Retry: rules(func(r *backend.Retry) { r.On, r.Tries = r.On|backend.On503, 2 })}}, o)
	a := g2.client().Get("/")
	want(t, "status", a.Status, 503)
	want(t, "body", a.Body, "later")
	want(t, "tries", g2.log.Next().Tries, 2)
}

// A request after which a server has closed the connection is not sent there again, also if no
// other one can be reached.
func TestRequestThatEndsAConnectionIsNotSentThereAgain(t *testing.T) {
	t.Parallel()
	bad, seen := failing(t, plain, "closes")
	g := startBefore(t, setup{}, bad.Address(), proxytest.NewRefusing(t).Address)
	if status := g.client().Get("/").Status; status < 500 {
		t.Errorf("status %d", status)
	}
	want(t, "times that the server got it", seen.of("GET"), 1)
	want(t, "tries", g.log.Next().Tries, 2)
}

// A long response that is not used is not read to its end.
func TestUnusedResponseIsNotRead(t *testing.T) {
	t.Parallel()
	sent := make(chan int, 1)
	bad := plain.origin(t, func(c *proxytest.Conn) {
		c.Request()
		c.Send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1000000000\r\n\r\n")
		n, piece := 0, strings.Repeat("x", 1<<16)
		for n < 1_000_000_000 && c.Send(piece) {
			n += len(piece)
		}
		sent <- n
	})
	g := start(t, setup{backend: backend.Options{Retry: rules(func(r *backend.Retry) { r.On |= backend.On503 })}}, bad, plain.origin(t, proxytest.Echo))
	want(t, "status", g.client().Get("/").Status, 200)
	if n := <-sent; n > 100_000_000 {
		t.Errorf("%d bytes of it were sent", n)
	}
}

// When the budget is used up, responses pass as they are.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	bad, _ := failing(t, plain, "503 Service Unavailable")
	g := start(t, setup{backend: backend.Options{
		Retry: rules(func(r *backend.Retry) { r.On, r.Tries = r.On|backend.On503, 10 }),
	}}, bad, plain.origin(t, proxytest.Always(proxytest.Response("503 Service Unavailable", "second"))))
	c := g.client()
	began := time.Now()
	for range 12 { // with up to 9 retries each
		want(t, "status", c.Get("/").Status, 503)
		want(t, "end", g.log.Next().End, "ok")
	}
	// In 10 s 100 retries are allowed.
	if refused := g.metric("mpgate_backend_retries_refused_total"); refused == 0 && time.Since(began) < 8*time.Second {
		t.Error("no retry was refused")
	}
}
