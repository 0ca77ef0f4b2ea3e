package proxy_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"mpgate/internal/dnstest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
)

func TestTransportsInTheLog(t *testing.T) {
	t.Parallel()
	proxytest.NeedMPTCP(t)
	for name, e := range map[string]struct {
		client, listener, origin, dial mptcp.Mode
		wantClient, wantServer         string
	}{
		"mptcp both sides":          {mptcp.Prefer, mptcp.Prefer, mptcp.Prefer, mptcp.Prefer, "mptcp", "mptcp"},
		"plain client":              {mptcp.Off, mptcp.Prefer, mptcp.Prefer, mptcp.Prefer, "tcp", "mptcp"},
		"plain listener":            {mptcp.Prefer, mptcp.Off, mptcp.Prefer, mptcp.Prefer, "tcp", "mptcp"},
		"plain server":              {mptcp.Prefer, mptcp.Prefer, mptcp.Off, mptcp.Prefer, "mptcp", "fallback"},
		"plain dial":                {mptcp.Prefer, mptcp.Prefer, mptcp.Prefer, mptcp.Off, "mptcp", "tcp"},
		"required, and it is there": {mptcp.Prefer, mptcp.Require, mptcp.Prefer, mptcp.Require, "mptcp", "mptcp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := proxytest.NewOrigin(t, e.origin, proxytest.Echo)
			s := setup{mode: mode{mptcp: e.listener}}
			s.listener.RequireMPTCP = e.listener == mptcp.Require
			s.backend.Servers = []backend.ServerOptions{{Address: o.Address(), MPTCP: e.dial}}
			g := start(t, s)
			c := proxytest.Dial(t, g.addr, e.client)
			for range 2 { // a new connection to the server, and a kept one
				want(t, "status", c.Get("/").Status, 200)
				l := g.log.Next()
				want(t, "client's transport", l.ClientTransport, e.wantClient)
				want(t, "server's transport", l.ServerTransport, e.wantServer)
				want(t, "subflows to the client are told", l.ClientSubflows >= 1, e.wantClient == "mptcp")
				want(t, "subflows to the server are told", l.ServerSubflows >= 1, e.wantServer == "mptcp")
			}
			want(t, "dials", g.metric("mpgate_backend_connects_total", "transport", e.wantServer, "result", "ok"), 1)
			want(t, "subflows", g.metric("mpgate_mptcp_subflows", "side", "listener") >= 1, e.wantClient == "mptcp")
			c.Close()
			g.waitMetric(1, "mpgate_mptcp_connections_total", "side", "listener", "result", e.wantClient)
			g.waitMetric(0, "mpgate_mptcp_subflows", "side", "listener")
			notOffered := 0.0
			if e.client == mptcp.Off {
				notOffered = 1
			}
			want(t, "connections where it was not offered", g.metric("mpgate_mptcp_fallbacks_total", "side",
				"listener", "reason", "not_offered"), notOffered)
			g.stop() // the backend closes what it kept
			g.waitMetric(1, "mpgate_mptcp_connections_total", "side", "backend", "result", e.wantServer)
			if e.wantServer == "fallback" {
				want(t, "fallbacks to the server", g.metric("mpgate_mptcp_fallbacks_total", "side", "backend",
					"reason", "peer_or_path"), 1)
			}
			g.waitMetric(0, "mpgate_mptcp_subflows", "side", "backend")
		})
	}
}

func TestRequiredMPTCPEndsOtherClients(t *testing.T) {
	t.Parallel()
	proxytest.NeedMPTCP(t)
	o := proxytest.NewOrigin(t, mptcp.Prefer, proxytest.Echo)
	g := start(t, setup{mode: mode{mptcp: mptcp.Require}, listener: proxy.ListenerOptions{RequireMPTCP: true}}, o)
	for range 3 {
		c := proxytest.Dial(t, g.addr, mptcp.Off)
		_, _ = c.Write([]byte("GET /plain HTTP/1.1\r\n" + host + "\r\n"))
		c.WantClosed()
	}
	g.waitMetric(3, "mpgate_connections_total", "listener", "web", "end", "mptcp_required")
	c := proxytest.Dial(t, g.addr, mptcp.Require)
	want(t, "body", c.Get("/x").Body, "GET /x ")
	want(t, "path of the first line in the log", g.log.Next().Path, "/x")
	lacks(t, "what the server got", o.AllRaw(), "/plain")
}

func TestRequiredMPTCPToAServer(t *testing.T) {
	t.Parallel()
	proxytest.NeedMPTCP(t)
	tcp := proxytest.NewOrigin(t, mptcp.Off, proxytest.Echo)
	s := setup{mode: plain}
	s.backend.Servers = []backend.ServerOptions{{Address: tcp.Address(), MPTCP: mptcp.Require}}
	g := start(t, s)
	a := g.client().Get("/x")
	want(t, "status", a.Status, 502)
	contains(t, "the body", a.Body, "the server was not reached over MPTCP, which is required")
	want(t, "end", g.log.Next().End, "mptcp_required")
	want(t, "what the server got", tcp.AllRaw(), "")
	g.waitMetric(1, "mpgate_backend_connects_total", "transport", "fallback", "result", "error")
}

func TestUnixServer(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := proxytest.NewUnixOrigin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		c := g.client()
		want(t, "body", c.Get("/x").Body, "GET /x ")
		want(t, "body", c.Get("/y").Body, "GET /y ")
		want(t, "connections", o.Connections(), 1)
		l := g.log.Next()
		want(t, "transport", l.ServerTransport, "unix")
		want(t, "server", l.Server, o.Address())
		want(t, "dials", g.metric("mpgate_backend_connects_total", "transport", "unix", "result", "ok"), 1)
	})
}

func TestMissingUnixServer(t *testing.T) {
	t.Parallel()
	g := startBefore(t, setup{}, "unix:"+t.TempDir()+"/none")
	c := g.client()
	want(t, "status", c.Get("/").Status, 502)
	want(t, "end", g.log.Next().End, "backend_connect")
	want(t, "dials", g.metric("mpgate_backend_connects_total", "transport", "unix", "result", "unreachable"), 1)
}

// TestCase19ConnectionsThatRefuse has clients whose connections are dead or refuse options by the
// time they are accepted.
func TestCase19ConnectionsThatRefuse(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		for range 50 {
			ctx, cancel := context.WithTimeout(context.Background(), proxytest.Patience)
			var d net.Dialer
			d.SetMultipathTCP(m.mptcp != mptcp.Off)
			nc, err := d.DialContext(ctx, "tcp", g.addr)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			_ = nc.(*net.TCPConn).SetLinger(0) // a reset, before or while it is accepted
			_ = nc.Close()
		}
		g.bystander()
		if n := g.failed.Load(); n > 50 {
			t.Errorf("%d accept errors", n)
		}
		g.waitMetric(0, "mpgate_connections_open")
	})
}

func TestServerNames(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	_, port, _ := net.SplitHostPort(o.Address())
	dns := dnstest.New(t)
	dns.Set("name.example. 60 IN A 127.0.0.1")
	s := setup{mode: plain}
	s.backend.Resolve.Servers = []netip.AddrPort{dns.Addr}
	s.backend.ConnectTimeout = proxytest.Patience
	for _, name := range []string{"localhost", "name.example."} {
		s.backend.Servers = []backend.ServerOptions{{Address: name + ":" + port, MPTCP: mptcp.Off}}
		g := start(t, s)
		want(t, "body", g.client().Get("/x").Body, "GET /x ")
		want(t, "server", g.log.Next().Server, name+":"+port)
	}
	s.backend.Servers = []backend.ServerOptions{{Address: "other.example.:80", MPTCP: mptcp.Off}}
	g := start(t, s)
	want(t, "status", g.client().Get("/").Status, 502)
	want(t, "end", g.log.Next().End, "backend_connect")
}
