package proxy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/backend"
)

func TestServerTimeouts(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		const limit = time.Second // the request after one that took too long must be done in that
		t.Run("connect", func(t *testing.T) {
			g := startBefore(t, setup{mode: m, backend: backend.Options{ConnectTimeout: limit}},
				proxytest.FullQueue(t, netip.MustParseAddrPort("127.0.0.1:0")))
			a := g.client().Get("/")
			want(t, "status", a.Status, 504)
			contains(t, "the body", a.Body, "504 Gateway Timeout: the server did not accept the connection in time\n")
			want(t, "end", g.log.Next().End, "backend_connect")
			want(t, "timed out connects", g.metric("mpgate_backend_connects_total", "result", "timeout"), 1)
		})
		t.Run("response", func(t *testing.T) {
			o, asked, gone := thinking(t, m, "")
			g := start(t, setup{mode: m, backend: backend.Options{ResponseTimeout: limit}}, o)
			c := g.client()
			began := time.Now()
			a := c.Get("/think")
			if took := time.Since(began); took < limit {
				t.Errorf("it took %v", took)
			}
			want(t, "status", a.Status, 504)
			contains(t, "the body", a.Body, "504 Gateway Timeout: the server did not answer in time\n")
			want(t, "end", g.log.Next().End, "backend_timeout")
			<-asked
			<-gone
			want(t, "body of the next", c.Get("/x").Body, "GET /x ")
		})
		t.Run("half a head", func(t *testing.T) {
			o, _, _ := thinking(t, m, "HTTP/1.1 200 OK\r\n")
			g := start(t, setup{mode: m, backend: backend.Options{ResponseTimeout: limit}}, o)
			want(t, "status", g.client().Get("/think").Status, 504)
			want(t, "end", g.log.Next().End, "backend_timeout")
		})
		t.Run("within the body", func(t *testing.T) {
			o, _, gone := thinking(t, m, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
			g := start(t, setup{mode: m, backend: backend.Options{IdleTimeout: limit}}, o)
			c := g.client()
			a := c.Get("/think")
			if a.Status != 200 || a.BodyErr == nil || a.Body != "hello" {
				t.Errorf("got %d, %q, %v; want a body that is cut", a.Status, a.Body, a.BodyErr)
			}
			want(t, "end", g.log.Next().End, "backend_timeout")
			<-gone
			g.bystander()
		})
		t.Run("with a body that it does not read", func(t *testing.T) {
			release := make(chan struct{})
			o := m.origin(t, func(c *proxytest.Conn) { <-release })
			defer close(release)
			g := start(t, setup{mode: m, backend: backend.Options{ResponseTimeout: limit}}, o)
			c := g.client()
			c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 100000\r\n\r\n")
			c.Send(strings.Repeat("x", 100000))
			want(t, "status", c.AnswerTo("POST").Status, 504)
			want(t, "end", g.log.Next().End, "backend_timeout")
		})
	})
}

// A server answers for its own time: that of a client which sends its head slowly, and of a server
// that was tried before, are others'.
func TestServerTimeBeginsWithTheServer(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	m := mode{mptcp: mptcp.Off}
	answers := func(c *proxytest.Client, g *gateway) {
		t.Helper()
		if a := c.Answer(); a.Status != 200 {
			t.Errorf("got %q", a.Head)
		}
		if l := g.log.Next(); l.BackendMS == nil || *l.BackendMS > float64(limit.Milliseconds()) ||
			l.Duration < float64(limit.Milliseconds()) {
			t.Errorf("backend_ms %v of %v", l.BackendMS, l.Duration)
		}
	}
	t.Run("after a slow head", func(t *testing.T) {
		g := start(t, setup{mode: m, backend: backend.Options{ResponseTimeout: limit}}, m.origin(t, proxytest.Echo))
		c := g.client()
		c.Send("GET / HT")
		<-time.After(limit + 50*time.Millisecond)
		c.Send("TP/1.1\r\n" + host + "\r\n")
		answers(c, g)
	})
	t.Run("after another server", func(t *testing.T) {
		silent := proxytest.FullQueue(t, netip.MustParseAddrPort("127.0.0.1:0"))
		g := startBefore(t, setup{mode: m, backend: backend.Options{ConnectTimeout: limit + 50*time.Millisecond,
			ResponseTimeout: limit}},
			silent, m.origin(t, proxytest.Echo).Address())
		c := g.client()
		c.Send("GET / HTTP/1.1\r\n" + host + "\r\n")
		answers(c, g)
	})
}
