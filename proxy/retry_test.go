package proxy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/backend"
)

func TestAnotherServerIsTriedWhileNothingWasSent(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		dead := proxytest.NewRefusing(t).Address
		g := startBefore(t, setup{mode: m}, dead, o.Address())
		c := g.client()
		began := time.Now()
		for i := range 6 { // a POST too: it has not left
			c.Send(fmt.Sprintf("POST /%d HTTP/1.1\r\n%sContent-Length: 2\r\n\r\nhi", i, host))
			want(t, "body", c.AnswerTo("POST").Body, fmt.Sprintf("POST /%d hi", i))
			l := g.log.Next()
			want(t, "server", l.Server, o.Address())
			// The dead one comes first, then it is left alone for a second.
			if i == 0 && l.Tries != 2 || i > 0 && l.Tries > 2 {
				t.Errorf("request %d took %d tries", i, l.Tries)
			}
		}
		took := time.Since(began)
		if n := g.metric("mpgate_backend_connects_total", "server", dead, "result", "refused"); n < 1 ||
			n > 1+float64(took/time.Second) {
			t.Errorf("the dead server was asked %v times within %v", n, took)
		}
		want(t, "retries", g.metric("mpgate_backend_retries_total", "server", o.Address()) >= 1, true)
	})
}

// If every server has refused, one is tried again: it may accept now.
func TestOnlyServerIsRetriedAtOnce(t *testing.T) {
	t.Parallel()
	server := proxytest.NewRefusing(t)
	g := startBefore(t, setup{}, server.Address)
	c := g.client()
	for range 2 {
		a := c.Get("/")
		want(t, "status", a.Status, 502)
		contains(t, "the body", a.Body, "502 Bad Gateway: the server could not be reached\nid: ")
		want(t, "end", g.log.Next().End, "backend_connect")
	}
	want(t, "connects", g.metric("mpgate_backend_connects_total", "result", "refused"), 2)
	proxytest.OriginOn(t, server.Listen(), proxytest.Echo)
	want(t, "body", c.Get("/back").Body, "GET /back ")
	want(t, "end", g.log.Next().End, "ok")
}

// stale is an origin that answers count requests on each connection, then drops the connection when
// it gets another one.
func stale(t *testing.T, m mode, count int, drop func(*proxytest.Conn)) (o *proxytest.Origin, got *counter) {
	got = &counter{seen: map[string]int{}}
	o = m.origin(t, func(c *proxytest.Conn) {
		for i := 0; ; i++ {
			r := c.Request()
			if r == nil {
				return
			}
			got.add(r.Method + " " + r.Target)
			if i == count {
				drop(c)
				return
			}
			c.Send(proxytest.EchoOf(r))
		}
	})
	return o, got
}

type counter struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *counter) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[what]++
}

func (c *counter) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[what]
}

func TestStaleConnection(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for name, drop := range map[string]func(*proxytest.Conn){
			"closed": func(*proxytest.Conn) {},
			"reset":  func(c *proxytest.Conn) { c.Reset() },
		} {
			for _, e := range []struct {
				request string
				repeat  bool
			}{
				{"GET /x HTTP/1.1\r\n" + host + "\r\n", true},
				{"DELETE /x HTTP/1.1\r\n" + host + "\r\n", true},
				{"PUT /x HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", true},
				{"PUT /x HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi", true},
				// More than is kept.
				{"PUT /x HTTP/1.1\r\n" + host + "Content-Length: 65537\r\n\r\n" + strings.Repeat("x", 65537), false},
				{"POST /x HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", false},
				{"POST /x HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi", false},
				{"PATCH /x HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi", false},
				{"ODD /x HTTP/1.1\r\n" + host + "\r\n", false},
				{strings.Replace(upgrade, "/chat", "/x", 1), false},
			} {
				method, _, _ := strings.Cut(e.request, " ")
				t.Run(name+" "+method, func(t *testing.T) {
					o, got := stale(t, m, 1, drop)
					g := start(t, setup{mode: m}, o)
					c := g.client()
					kept := time.Now()
					c.Send("POST /first HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n")
					want(t, "body", c.AnswerTo("POST").Body, "POST /first ")
					g.log.Next()
					c.Send(e.request)
					a := c.AnswerTo(method)
					l := g.log.Next()
					if !e.repeat && a.Status == 200 && (time.Since(kept) > time.Second || m.mptcp != mptcp.Off) {
						// It was too old for this request by then, which a busy machine brings
						// about, or something came on it.
						want(t, "times that the server got it", got.of(method+" /x"), 1)
						return
					}
					if e.repeat {
						want(t, "status", a.Status, 200)
						_, body, _ := strings.Cut(e.request, "\r\n\r\n")
						want(t, "body", a.Body, method+" /x "+body)
						want(t, "times that the server got it", got.of(method+" /x"), 2)
						want(t, "end", l.End, "ok")
					} else {
						want(t, "status", a.Status, 502)
						want(t, "times that the server got it", got.of(method+" /x"), 1)
						want(t, "end", l.End, "backend_reset")
					}
					want(t, "server", l.Server, o.Address())
				})
			}
		}
	})
}

func TestNothingIsRepeatedOnceAnAnswerHasBegun(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, begin := range []string{"H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"} {
			o, got := stale(t, m, 1, func(c *proxytest.Conn) { c.Send(begin) })
			g := start(t, setup{mode: m}, o)
			c := g.client()
			c.Get("/first")
			c.Send("GET /x HTTP/1.1\r\n" + host + "\r\n")
			want(t, "status", c.Answer().Status, 502)
			want(t, "times that the server got it", got.of("GET /x"), 1)
		}
	})
}

func TestAFreshConnectionThatFailsIsNotRepeated(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o, got := stale(t, m, 0, func(c *proxytest.Conn) {})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		want(t, "status", c.Get("/x").Status, 502) // the server got it and went: it may do so again
		want(t, "times that the server got it", got.of("GET /x"), 1)
		want(t, "end", g.log.Next().End, "backend_reset")
	})
}

func TestClosedConnectionsAreNotUsed(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		closed := make(chan struct{})
		var posts atomic.Int64
		o := m.origin(t, func(c *proxytest.Conn) {
			r := c.Request()
			if r == nil {
				return
			}
			if r.Method == "POST" {
				posts.Add(1)
			}
			c.Send(proxytest.EchoOf(r))
			if c.Number == 0 {
				c.Conn.Close()
				closed <- struct{}{}
			}
			c.Request()
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Get("/")
		<-closed // its FIN has come by the time the next request does
		c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi")
		want(t, "body", c.AnswerTo("POST").Body, "POST / hi")
		want(t, "times that the POST was sent", posts.Load(), 1)
		want(t, "connections", o.Connections(), 2)
	})
}

func TestOldConnectionsCarryNoPOST(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{}, o)
	c := g.client()
	c.Get("/")
	c.Get("/")
	want(t, "connections", o.Connections(), 1)
	<-time.After(1100 * time.Millisecond) // the server might just close it
	c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi")
	want(t, "body", c.AnswerTo("POST").Body, "POST / hi")
	want(t, "connections", o.Connections(), 2)
	c.Get("/")
	want(t, "connections", o.Connections(), 2)
}

func TestKeptConnectionsCloseAfterTheIdleTimeout(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		gone := make(chan struct{}, 1)
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				c.Send(proxytest.EchoOf(r))
			}
			gone <- struct{}{}
		})
		g := start(t, setup{mode: m, backend: backend.Options{IdleTimeout: 100 * time.Millisecond}}, o)
		began := time.Now()
		g.client().Get("/")
		<-gone
		if took := time.Since(began); took < 100*time.Millisecond {
			t.Errorf("it went after %v", took)
		}
		g.waitMetric(0, "mpgate_backend_connections_idle")
		g.waitMetric(0, "mpgate_backend_connections_open")
	})
}

func TestErrorBodies(t *testing.T) {
	t.Parallel()
	g := startBefore(t, setup{}, proxytest.NewRefusing(t).Address)
	c := g.client()
	for _, e := range []struct{ accept, kind string }{
		{"", "text/plain; charset=utf-8"}, {"text/html", "text/plain; charset=utf-8"},
		{"application/json", "application/json"}, {"text/plain;q=0.9, application/json", "application/json"},
		{"application/problem+json, text/plain", "text/plain; charset=utf-8"},
	} {
		accept := ""
		if e.accept != "" {
			accept = "Accept: " + e.accept + "\r\n"
		}
		c.Send("GET / HTTP/1.1\r\n" + host + accept + "\r\n")
		a := c.Answer()
		want(t, "Content-Type", a.Header("Content-Type"), e.kind)
		want(t, "Cache-Control", a.Header("Cache-Control"), "no-store")
		want(t, "has a Date", a.Has("Date"), true)
		want(t, "Connection", a.Header("Connection"), "") // it goes on
		l := g.log.Next()
		want(t, "logged status", l.Status, a.Status)
		want(t, "bytes out", l.BytesOut, int64(len(a.Body)))
		want(t, "the body has the id", strings.Contains(a.Body, l.ID), true)
		if e.kind == "application/json" {
			var body struct {
				Status    int
				Error, ID string
			}
			if err := json.Unmarshal([]byte(a.Body), &body); err != nil || body.Status != a.Status ||
				body.ID != l.ID || body.Error == "" {
				t.Errorf("the body is %q, %v", a.Body, err)
			}
		}
	}
	c.Send("HEAD / HTTP/1.1\r\n" + host + "\r\nGET / HTTP/1.1\r\n" + host + "\r\n")
	a := c.AnswerTo("HEAD")
	want(t, "has a length", a.Header("Content-Length") != "", true)
	want(t, "bytes out", g.log.Next().BytesOut, 0)
	want(t, "status of the next", c.Answer().Status >= 502, true)
}

// TestKeptConnectionsCarryRequestsOnce keeps connections for longer than the deadlines of the
// exchange before: the timers that are still set must not make a request leave twice.
func TestKeptConnectionsCarryRequestsOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		got := &counter{seen: map[string]int{}}
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				got.add(r.Target)
				c.Send(proxytest.EchoOf(r))
			}
		})
		g := start(t, setup{mode: m, noLog: true}, o)
		const clients, rounds = 16, 4
		var wait sync.WaitGroup
		for i := range clients {
			c := g.client()
			wait.Go(func() {
				for k := range rounds {
					tick := time.NewTimer(backend.ClientCheckDelay + 20*time.Millisecond)
					<-tick.C
					if _, err := fmt.Fprintf(c.Conn, "POST /%d/%d HTTP/1.1\r\n%sContent-Length: 0\r\n\r\n", i, k,
						host); err != nil {
						t.Error(err)
						return
					}
					head := make([]byte, 12)
					if _, err := readUntil(c, head, fmt.Sprintf("POST /%d/%d ", i, k)); err != nil ||
						string(head) != "HTTP/1.1 200" {
						t.Errorf("got %q, %v", head, err)
						return
					}
				}
			})
		}
		wait.Wait()
		for i := range clients {
			for k := range rounds {
				if n := got.of(fmt.Sprintf("/%d/%d", i, k)); n != 1 {
					t.Errorf("POST /%d/%d came %d times", i, k, n)
				}
			}
		}
	})
}
