package proxy_test

import (
	"io"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/preread"
)

// A server whose responses are errors, whatever kind, gets no further requests; what is not its
// fault does not count.
func TestServerThatFailsIsEjected(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
	answer := func(s string) func(*proxytest.Conn) {
		return func(c *proxytest.Conn) {
			for c.Request() != nil {
				if !c.Send(s) {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct {
		serve   func(*proxytest.Conn)
		ejected bool
	}{
		"503":            {answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), true},
		"unfinished":     {func(c *proxytest.Conn) { c.Request(); c.Send(head + "half") }, true},
		"no answer":      {func(c *proxytest.Conn) { c.Request(); c.Request() }, true},
		"reset":          {func(c *proxytest.Conn) { c.Request(); c.Reset() }, true},
		"invalid":        {answer("HTTP/1.1 what\r\n\r\n"), true},
		"gRPC":           {answer("HTTP/1.1 200 OK\r\nGrpc-Status: 14\r\nContent-Length: 0\r\n\r\n"), true},
		"404":            {answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), false},
		"501":            {answer("HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n"), false},
		"508":            {answer("HTTP/1.1 508 Loop Detected\r\nContent-Length: 0\r\n\r\n"), false},
		"closes if idle": {func(c *proxytest.Conn) { c.Request(); c.Send(head + "0123456789") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := proxytest.NewOrigin(t, 0, c.serve)
			good := proxytest.NewOrigin(t, 0, proxytest.Echo)
			o := backend.Options{Eject: &backend.EjectOptions{Errors: 2, Rest: time.Hour}}
			// The time decides over the good server, too: one error must do.
			if name == "no answer" {
				o.Eject.Errors, o.ResponseTimeout = 1, 3*time.Second
			}
			g := start(t, setup{backend: o}, bad, good)
			for range 8 { // both get four, unless one is ejected
				client := g.client()
				client.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\nConnection: close\r\n\r\n")
				_, _ = client.Rest()
			}
			up := g.metric("mpgate_backend_server_up", "server", bad.Address())
			if ejected := up == 0; ejected != c.ejected {
				t.Errorf("ejected: %v, want %v", ejected, c.ejected)
			}
			want(t, "the other server is up", g.metric("mpgate_backend_server_up", "server", good.Address()), 1)
		})
	}
}

// A client that leaves, or sends a body that is cut off, is no error of the server.
func TestClientsEjectNoServer(t *testing.T) {
	origin := proxytest.NewOrigin(t, 0, func(c *proxytest.Conn) {
		for c.Request() != nil {
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
			for c.Send("x") {
			}
		}
	})
	g := start(t, setup{backend: backend.Options{Eject: &backend.EjectOptions{Errors: 1, Rest: time.Hour}}}, origin, proxytest.NewOrigin(t, 0, proxytest.Echo))
	for range 4 {
		c := g.client()
		c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 10\r\n\r\nhal")
		c.Conn.Close()
		g.log.Next()
		c = g.client()
		c.Send("GET / HTTP/1.1\r\n" + host + "\r\n")
		_, _ = c.R.ReadByte()
		c.Conn.Close()
		g.log.Next()
	}
	want(t, "up", g.metric("mpgate_backend_server_up", "server", origin.Address()), 1)
}

// What clients do, or leave undone, takes out no server, whatever the server makes of it.
func TestClientsCannotProvokeEjection(t *testing.T) {
	read := func(c *proxytest.Conn) (string, error) { // a server that does not wait long for a body
		c.Head()
		_ = c.Conn.SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
		_, err := c.R.ReadByte()
		return "", err
	}
	upgrade := "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	switching := switchingFor("dGhlIHNhbXBsZSBub25jZQ==")
	type play struct {
		serve func(*proxytest.Conn)
		ask   string
		more  string // after the first byte of the answer
		wait  bool   // for the server's end before anything is read
	}
	serverEnded := make(chan struct{}, 8)
	for name, p := range map[string]play{
		"500 for a late body": {serve: func(c *proxytest.Conn) {
			_, _ = read(c)
			c.Send("HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}, ask: "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\n"},
		"reset for a late body": {serve: func(c *proxytest.Conn) { _, _ = read(c); c.Reset() },
			ask: "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\n"},
		"end at a late body after 100": {serve: func(c *proxytest.Conn) {
			c.Send("HTTP/1.1 100 Continue\r\n\r\n")
			_, _ = read(c)
		}, ask: "POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"},
		"reset in a WebSocket": {serve: func(c *proxytest.Conn) {
			c.Head()
			c.Send(switching)
			_, _ = c.R.ReadByte()
			c.Reset()
		}, ask: upgrade + "\r\n", more: "what"},
		"101 before the body": {serve: func(c *proxytest.Conn) { c.Head(); c.Send(switching); _, _ = c.R.ReadByte() },
			ask: strings.Replace(upgrade, "GET", "POST", 1) + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"},
		"nothing is read": {serve: func(c *proxytest.Conn) {
			c.Head()
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
			_ = c.Conn.SetWriteDeadline(time.Now().Add(1500 * time.Millisecond))
			for c.Send(strings.Repeat("x", 1<<16)) {
			}
			c.Reset()
			serverEnded <- struct{}{}
		}, ask: "GET / HTTP/1.1\r\n" + host + "\r\n", wait: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := proxytest.NewOrigin(t, 0, p.serve)
			// One error would do, and the other server lets that happen.
			o := backend.Options{Eject: &backend.EjectOptions{Errors: 1, Rest: time.Hour}}
			g := start(t, setup{backend: o}, bad, proxytest.NewOrigin(t, 0, p.serve))
			c := g.client()
			c.Send(p.ask)
			if p.wait {
				<-serverEnded
			}
			if p.more != "" {
				_, _ = c.R.ReadByte()
				c.Send(p.more)
			}
			_, _ = c.Rest()
			c.Conn.Close()
			g.log.Next()
			for _, s := range g.backend.States() {
				if !s.Ejected.IsZero() {
					t.Errorf("ejected: %s", s.Why)
				}
			}
		})
	}
}

// Nor what clients of HTTP/2 ask for: a tunnel where there is none, or a deadline of gRPC.
func TestHTTP2ClientsCannotProvokeEjection(t *testing.T) {
	t.Parallel()
	o := backend.Options{Eject: &backend.EjectOptions{Errors: 1, Rest: time.Hour}}
	check := func(g *gateway) {
		t.Helper()
		g.log.Next()
		for _, s := range g.backend.States() {
			if !s.Ejected.IsZero() {
				t.Errorf("ejected: %s", s.Why)
			}
		}
	}
	page := proxytest.NewOrigin(t, 0, proxytest.Always(proxytest.Response("200 OK", "a page")))
	g := start(t, setup{listener: proxy.ListenerOptions{H2C: true}, backend: o}, page, proxytest.NewOrigin(t, 0, proxytest.Echo))
	for range 2 {
		_, resp := askHead(t, multiplexed(t, g.addr), webSocketTo("/"))
		want(t, "status", resp.Status, 502)
		check(g)
	}
	o.Protocol = backend.HTTP2
	for name, play := range map[string]struct {
		head bool
		code xhttp2.ErrCode
		away bool // the connection ends, not the stream
	}{
		"canceled": {false, xhttp2.ErrCodeCancel, false}, "canceled after the head": {true, xhttp2.ErrCodeCancel, false},
		"too much": {false, xhttp2.ErrCodeEnhanceYourCalm, false}, "too much after the head": {true, xhttp2.ErrCodeEnhanceYourCalm, false},
		"too much on the connection": {false, xhttp2.ErrCodeEnhanceYourCalm, true},
		"likewise after the head":    {true, xhttp2.ErrCodeEnhanceYourCalm, true},
	} {
		origin := func() *proxytest.Origin {
			return plain.origin(t, func(c *proxytest.Conn) {
				_, _ = io.CopyN(io.Discard, c.R, int64(len(preread.Preface)))
				fr := xhttp2.NewFramer(c.Conn, c.R)
				for err := fr.WriteSettings(); err == nil; {
					var f xhttp2.Frame
					f, err = fr.ReadFrame()
					h, ok := f.(*xhttp2.HeadersFrame)
					if !ok {
						continue
					}
					if play.head { // :status 200
						_ = fr.WriteRawFrame(xhttp2.FrameHeaders, xhttp2.FlagHeadersEndHeaders, h.StreamID, []byte{0x88})
					}
					if play.away {
						_ = fr.WriteGoAway(h.StreamID, play.code, nil)
						return
					}
					err = fr.WriteRSTStream(h.StreamID, play.code)
				}
			})
		}
		g := start(t, setup{listener: proxy.ListenerOptions{H2C: true}, backend: o}, origin(), origin())
		c := multiplexed(t, g.addr)
		s, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		r := webSocketTo("/" + strings.ReplaceAll(name, " ", "-"))
		r.Upgrade = nil
		_ = s.WriteHead(r)
		_ = s.End(nil)
		check(g)
	}
}
