package proxy_test

import (
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

func TestKeepAliveAndPipelining(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		c := g.client()
		for range 3 {
			a := c.Get("/one?q=1")
			if a.Status != 200 || a.Body != "GET /one?q=1 " {
				t.Fatalf("got %d %q", a.Status, a.Body)
			}
			lacks(t, "a kept connection's response", a.Head, "connection:")
		}
		const n = 20
		var all strings.Builder
		for i := range n {
			all.WriteString("POST /" + string(rune('a'+i)) + " HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n" +
				"\r\nhi")
		}
		c.Send(all.String())
		for i := range n {
			if a := c.Answer(); a.Body != "POST /"+string(rune('a'+i))+" hi" {
				t.Fatalf("pipelined response %d is %q", i, a.Body)
			}
		}
		fewConnections(t, m, o)
		for range n + 3 {
			if l := g.log.Next(); l.End != "ok" || l.Tries != 1 || l.Server != o.Address() || l.Route != "all" {
				t.Errorf("log line %+v", l)
			}
		}
		if rest := g.lines(); len(rest) > 0 {
			t.Errorf("%d lines too many in the log: %+v", len(rest), rest)
		}
	})
}

// fewConnections holds an origin to one connection. Over MPTCP there may be another: a connection
// on which something came a moment ago, if only an acknowledgement, carries no POST.
func fewConnections(t *testing.T, m mode, o *proxytest.Origin) {
	t.Helper()
	if n := o.Connections(); n != 1 && (n != 2 || m.mptcp == mptcp.Off) {
		t.Errorf("%d connections to the server, want 1", n)
	}
}
