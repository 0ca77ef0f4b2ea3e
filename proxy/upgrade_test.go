package proxy_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
)

const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

// A request that asks for another protocol may have a body (docker exec sends one): the protocol
// begins behind it, on both sides.
func TestUpgradeWithABody(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for name, tt := range map[string]struct{ framing, first, rest, body string }{
			"length":        {"Content-Length: 5\r\n", "hello", "", "hello"},
			"length, late":  {"Content-Length: 5\r\n", "he", "llo", "hello"},
			"chunked":       {"Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", "", "hello"},
			"chunked, late": {"Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n", "3\r\nllo\r\n0\r\n\r\n", "hello"},
			"large and early": {fmt.Sprintf("Content-Length: %d\r\n", 1<<20), "", strings.Repeat("x", 1<<20),
				strings.Repeat("x", 1<<20)},
		} {
			t.Run(name, func(t *testing.T) {
				asked := make(chan struct{})
				o := m.origin(t, func(c *proxytest.Conn) {
					if strings.Contains(name, "early") { // it says 101 before it has the body
						head := c.Head()
						close(asked)
						c.Send(switched)
						if head == "" {
							return
						}
						b := make([]byte, len(tt.body))
						if _, err := io.ReadFull(c.R, b); err != nil || string(b) != tt.body {
							t.Errorf("the server got %d bytes, %v", len(b), err)
						}
					} else {
						if tt.rest != "" {
							close(asked)
						}
						if r := c.Request(); r == nil || r.Body != tt.body {
							t.Errorf("the server got %+v", r)
						}
						c.Send(switched)
					}
					_, _ = io.Copy(c.Conn, c.R)
					c.CloseWrite()
				})
				g := start(t, setup{mode: m}, o)
				c := g.client()
				c.Send("POST /exec HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: tcp\r\n" + tt.framing +
					"\r\n" + tt.first)
				if tt.rest != "" {
					<-asked
					c.Send(tt.rest)
				}
				if a := c.ReadHead(); a.Status != 101 || a.Header("Upgrade") != "tcp" {
					t.Fatalf("got %s", a.Head)
				}
				c.Send("ls\n")
				c.CloseWrite()
				if got, err := c.Rest(); got != "ls\n" || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
				l := g.log.Next()
				if l.End != "ok" || l.Status != 101 || l.BytesIn != int64(len(tt.body)+3) || l.BytesOut != 3 {
					t.Errorf("the log says %+v", l)
				}
			})
		}
	})
}

// A server that refuses the change answers as always, and what comes behind the request is the next
// one.
func TestUpgradeWithABodyRefused(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		g := start(t, setup{mode: m}, m.origin(t, proxytest.Echo))
		c := g.client()
		for _, framing := range []string{"Content-Length: 5\r\n\r\nhello",
			"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
			c.Send("POST /exec HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: tcp\r\n" + framing +
				"GET /second HTTP/1.1\r\n" + host + "\r\n")
			if a := c.Answer(); a.Status != 200 || a.Body != "POST /exec hello" {
				t.Errorf("the upgrade got %d %q", a.Status, a.Body)
			}
			if a := c.Answer(); a.Status != 200 || a.Body != "GET /second " {
				t.Errorf("the second request got %d %q", a.Status, a.Body)
			}
		}
		g.bystander()
	})
}

// A server that changes protocols while the client waits to be told to send its body has not got a
// request.
func TestUpgradeBeforeContinue(t *testing.T) {
	g := start(t, setup{mode: plain}, plain.origin(t, func(c *proxytest.Conn) {
		if c.Head() != "" {
			c.Send(switched)
			_, _ = io.Copy(io.Discard, c.R)
		}
	}))
	c := g.client()
	c.Send("POST /exec HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: tcp\r\nExpect: 100-continue\r\n" +
		"Content-Length: 5\r\n\r\n")
	if a := c.Answer(); a.Status != 502 {
		t.Errorf("got %d, want 502", a.Status)
	}
}

// Upgrade is an offer. To a server of HTTP/2, which knows none, the request goes without it.
func TestUpgradeOfferToHTTP2(t *testing.T) {
	t.Parallel()
	g := startBefore(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2}}, pairOrigin(t))
	for _, offer := range []string{
		"", "Connection: Upgrade\r\nUpgrade: foo\r\n", "Connection: upgrade\r\nUpgrade: IRC/6.9\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
	} {
		c := g.client()
		c.Send("GET /length HTTP/1.1\r\n" + host + offer + "\r\n")
		if a := c.Answer(); a.Status != 200 || !strings.HasPrefix(a.Body, "GET a.example /length") ||
			strings.Contains(a.Body, "Upgrade") {
			t.Errorf("%q: got %d %q", offer, a.Status, a.Body)
		}
		c.Send("POST /length HTTP/1.1\r\n" + host + offer + "Content-Length: 2\r\n\r\nhi")
		if a := c.Answer(); a.Status != 200 || !strings.HasPrefix(a.Body, "POST a.example /length") ||
			!strings.Contains(a.Body, "2 2 <nil>\nhi") {
			t.Errorf("%q with a body: got %d %q", offer, a.Status, a.Body)
		}
	}
	// An extended CONNECT is no offer: its client takes any 2xx for the tunnel.
	front := startBefore(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
		backend: backend.Options{Protocol: backend.HTTP2}}, pairOrigin(t))
	s, resp := askHead(t, multiplexed(t, front.addr), webSocketTo("/ws"))
	defer s.Release()
	if resp.Status != 502 {
		t.Errorf("an extended CONNECT got %d, want 502", resp.Status)
	}
}
