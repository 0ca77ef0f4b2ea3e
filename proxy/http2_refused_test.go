package proxy_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
)

func TestWebSocketOverHTTP2Refused(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		status int
		end    string
	}{
		"a wrong accept": {switching, 502, "backend_invalid"},
		"an answer":      {proxytest.Response("403 Forbidden", "no"), 403, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}},
				plain.origin(t, webSocketEcho(func(string) string { return c.answer })))
			s, resp := askHead(t, multiplexed(t, g.addr), webSocketTo("/ws"))
			defer s.Release()
			if resp.Status != c.status {
				t.Errorf("got %d, want %d", resp.Status, c.status)
			}
			if l := g.log.Next(); l.End != c.end || l.Status != c.status {
				t.Errorf("the log says %d, %q", l.Status, l.End)
			}
		})
	}
}

// Any 2xx tells a client of HTTP/2 that its WebSocket stands. A server of HTTP/1 that answers the
// upgrade with an ordinary one has declined, and what follows is a page.
func TestWebSocketOverHTTP2IsDeclinedWith2xx(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"length":    proxytest.Response("200 OK", "\x81\x06secret", "Content-Type: text/html"),
		"empty":     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"chunks":    "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n\x81\x06secret\r\n0\r\n\r\n",
		"to an end": "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n\r\n\x81\x06secret",
		"no body":   "HTTP/1.1 204 No Content\r\n\r\n",
		"upgrade": "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 8\r\n\r\n" +
			"\x81\x06secret",
		"interim": "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 299 Odd\r\nContent-Length: 8\r\n\r\n" +
			"\x81\x06secret",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := plain.origin(t, webSocketEcho(func(string) string { return answer }))
			h1 := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
			h2 := startBefore(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
				backend: backend.Options{Protocol: backend.HTTP2}}, h1.addr)
			for server, g := range map[string]*gateway{"h1": h1, "h2": h2} {
				s, resp := askHead(t, multiplexed(t, g.addr), webSocketTo("/ws"))
				for resp.Interim() {
					resp.Reset()
					if err := s.ReadHead(resp, time.Now().Add(proxytest.Patience)); err != nil {
						t.Fatal(err)
					}
				}
				want(t, "status, to a server of "+server, resp.Status, 502)
				if body, err := readRest(s); err != nil || strings.Contains(body, "secret") {
					t.Errorf("to a server of %s: the body is %q, %v", server, body, err)
				}
				s.Release()
				l := g.log.Next()
				want(t, "logged status", l.Status, 502)
				want(t, "end, to a server of "+server, l.End,
					map[string]string{"h1": "backend_invalid", "h2": "ok"}[server])
				if server == "h2" {
					want(t, "end at the second gateway", h1.log.Next().End, "backend_invalid")
				}
			}
			// In HTTP/1 it is an answer like any other.
			c := h1.client()
			c.Send("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			a := c.ReadHead()
			if a.Status < 200 {
				a = c.ReadHead()
			}
			want(t, "status is a 2xx", a.Status/100, 2)
		})
	}
}

// Nor may what the gateway itself answers tell that the WebSocket stands.
func TestOwnAnswersToWebSocketOverHTTP2(t *testing.T) {
	t.Parallel()
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{
		H2C: true, HealthPath: "/ready",
		Challenge: func(_, path []byte) (string, bool) { return "proof", bytes.HasSuffix(path, []byte("/token")) },
	}}, plain.origin(t, webSocketEcho(func(string) string { return "" })))
	c := multiplexed(t, g.addr)
	for _, path := range []string{"/ready", "/.well-known/acme-challenge/token"} {
		s, resp := askHead(t, c, webSocketTo(path))
		want(t, "status of "+path, resp.Status, 400)
		body, err := readRest(s)
		lacks(t, "the body", body, "proof")
		want(t, "error", err, nil)
		s.Release()
		want(t, "end", g.log.Next().End, "bad_request")
	}
	g.update(func(o *proxy.ListenerOptions) { o.RedirectHTTPS = true })
	s, resp := askHead(t, c, webSocketTo("/ws"))
	want(t, "status of a redirect", resp.Status, 308)
	s.Release()
}
