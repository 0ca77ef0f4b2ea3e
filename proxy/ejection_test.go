package proxy_test

import (
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy/backend"
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
