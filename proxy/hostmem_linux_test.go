package proxy_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/backend"
)

// A request that gets no answer over MPTCP while the host is short of memory for sockets is sent on
// another connection, if it may be sent twice.
func TestRequestsMoveFromConnectionsThatMayStall(t *testing.T) {
	t.Parallel()
	proxytest.NeedMPTCP(t)
	prefer := mode{name: "mptcp", mptcp: mptcp.Prefer}
	t.Run("HTTP/1", func(t *testing.T) {
		t.Parallel()
		var short atomic.Bool
		o := prefer.origin(t, func(c *proxytest.Conn) {
			if _, err := http.ReadRequest(c.R); err != nil {
				return
			}
			if c.Number == 0 {
				short.Store(true)
				_, _ = c.R.ReadByte() // it stalls
				return
			}
			_, _ = c.Conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmoved"))
			_, _ = c.R.ReadByte()
		})
		g := start(t, setup{mode: prefer, backend: backend.Options{MemoryShort: short.Load}}, o)
		a := g.client().Get("/")
		want(t, "status", a.Status, 200)
		want(t, "body", a.Body, "moved")
		want(t, "connections", o.Connections(), 2)
		l := g.log.Next()
		want(t, "end", l.End, "ok")
	})
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		var short atomic.Bool
		l := proxytest.Listen(t, mptcp.Prefer)
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		var asked atomic.Int64
		web := &http.Server{Protocols: &p, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) == 1 {
				short.Store(true)
				<-r.Context().Done()
				return
			}
			_, _ = w.Write([]byte("moved"))
		})}
		go func() { _ = web.Serve(l) }()
		t.Cleanup(func() { web.Close() })
		g := startBefore(t, setup{mode: prefer, backend: backend.Options{Protocol: backend.HTTP2,
			MemoryShort: short.Load}}, l.Addr().String())
		a := g.client().Get("/")
		want(t, "status", a.Status, 200)
		want(t, "body", a.Body, "moved")
		want(t, "requests", asked.Load(), 2)
	})
}

// A request that must not be sent twice waits for its answer where it is.
func TestRequestsThatCannotBeRepeatedStay(t *testing.T) {
	t.Parallel()
	proxytest.NeedMPTCP(t)
	prefer := mode{name: "mptcp", mptcp: mptcp.Prefer}
	o := prefer.origin(t, func(c *proxytest.Conn) {
		if _, err := http.ReadRequest(c.R); err != nil {
			return
		}
		<-time.After(1200 * time.Millisecond) // longer than a request that may be repeated stays
		_, _ = c.Conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"))
		_, _ = c.R.ReadByte()
	})
	g := start(t, setup{mode: prefer, backend: backend.Options{MemoryShort: func() bool { return true }}}, o)
	c := g.client()
	c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n")
	a := c.Answer()
	want(t, "status", a.Status, 200)
	want(t, "body", a.Body, "late")
	want(t, "connections", o.Connections(), 1)
}
