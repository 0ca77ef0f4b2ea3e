package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/route"
	"mpgate/telemetry"
)

// forwarding is a gateway whose listener forwards bytes to the origins.
func forwarding(t *testing.T, m mode, o backend.Options, s setup, origins ...*proxytest.Origin) *gateway {
	t.Helper()
	o.Name = "raw"
	s.listener.TCP = tcpTable(t, "bytes", backendWith(t, m, o, origins...))
	s.mode = m
	return start(t, s, m.origin(t, proxytest.Echo))
}

// tcpTable is a table of one route, for the listener of these tests.
func tcpTable(t *testing.T, name string, b *backend.Backend) *proxy.Passthroughs {
	t.Helper()
	table, err := proxy.NewPassthroughs([]proxy.Route{{Name: name, Match: route.Match{Listener: "web"}, Action: &proxy.TCP{Backend: b}, Lease: new(proxy.Lease)}})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// greets speaks first, returns what comes, and ends its direction after the client has ended its
// own.
func greets(c *proxytest.Conn) {
	c.Send("220 ready\r\n")
	_, _ = io.Copy(c.Conn, c.R)
	c.Send("bye")
	c.CloseWrite()
}

// rest reads what the server sends until it ends.
func rest(t *testing.T, c *proxytest.Client) string {
	t.Helper()
	got, err := c.Rest()
	if err != nil {
		t.Errorf("got %.100q, %v", got, err)
	}
	return got
}

func TestTCPForwardsBothWays(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		transport := "tcp"
		if m.mptcp != mptcp.Off {
			transport = "mptcp"
		}
		o := m.origin(t, greets)
		g := forwarding(t, m, backend.Options{}, setup{}, o)
		c := g.client()
		// The server speaks before the client.
		if line, err := c.R.ReadString('\n'); line != "220 ready\r\n" || err != nil {
			t.Fatalf("got %q, %v", line, err)
		}
		want(t, "open", g.metric("mpgate_passthrough_connections_open", "listener", "web", "route", "bytes"), 1)
		text := strings.Repeat("GET / HTTP/1.1\r\n\r\n\x00\xff", 20_000)
		go func() { c.Send(text); c.CloseWrite() }()
		if got := rest(t, c); got != text+"bye" {
			t.Errorf("got %d bytes, want %d", len(got), len(text)+3)
		}
		l := g.log.Next()
		if l.Route != "bytes" || l.Backend != "raw" || l.Server != o.Address() || l.Proto != "TCP" || l.End != "ok" || l.Status != 0 || l.Method != "" ||
			l.Peer != c.LocalAddr().String() || l.BytesIn != int64(len(text)) || l.BytesOut != int64(len(text))+14 || l.Tries != 1 ||
			l.ClientTransport != transport || l.ServerTransport != transport || (l.TLSVersion != "") != m.tls || (l.SNI != "") != m.tls {
			t.Errorf("logged %+v", l)
		}
		want(t, "ended", g.metric("mpgate_exchanges_total", "listener", "web", "route", "bytes", "end", "ok"), 1)
		want(t, "open", g.metric("mpgate_passthrough_connections_open", "listener", "web", "route", "bytes"), 0)
		g.waitMetric(1, "mpgate_connections_total", "listener", "web", "end", "ok")
	})
}

// A server that ends its direction first still gets what the client sends.
func TestTCPServerEndsFirst(t *testing.T) {
	for _, m := range []mode{plain, modes[4]} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			o := plain.origin(t, func(c *proxytest.Conn) {
				c.Send("all")
				c.CloseWrite()
				b, err := io.ReadAll(c.R)
				got <- fmt.Sprint(string(b), err)
			})
			g := forwarding(t, m, backend.Options{}, setup{}, o)
			c := g.client()
			want(t, "answer", rest(t, c), "all")
			c.Send("late words")
			c.CloseWrite()
			want(t, "what the server got", <-got, "late words<nil>")
			want(t, "end", g.log.Next().End, "ok")
		})
	}
}

func TestTCPWithProxyHeaders(t *testing.T) {
	const header = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
	for _, m := range []mode{plain, modes[4]} {
		for version := range 3 {
			t.Run(fmt.Sprint(m.name, version), func(t *testing.T) {
				t.Parallel()
				o := plain.origin(t, func(c *proxytest.Conn) { _, _ = io.Copy(c.Conn, c.R); c.CloseWrite() })
				g := forwarding(t, m, backend.Options{SendProxy: uint8(version)},
					setup{listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyRequired, ProxyHeaderFrom: anyLocal}}, o)
				for _, in := range []string{header, header2("192.0.2.7:4711", "198.51.100.1:443")} {
					c := g.sendProxyHeader(in, 7)
					c.Send("hello")
					c.CloseWrite()
					sent := map[int]string{1: header, 2: header2("192.0.2.7:4711", "198.51.100.1:443")}[version]
					want(t, "what the server got", rest(t, c), sent+"hello")
					l := g.log.Next()
					want(t, "client", l.Client, "192.0.2.7")
					want(t, "bytes in", l.BytesIn, 5)
				}
				c := proxytest.Dial(t, g.addr, m.mptcp)
				c.Send("HELO without a header\r\n")
				c.WantClosed()
				g.waitMetric(1, "mpgate_connections_total", "end", "proxy_header")
			})
		}
	}
}

func TestTCPEnds(t *testing.T) {
	t.Parallel()
	silent := func(c *proxytest.Conn) { _, _ = io.Copy(io.Discard, c.R) }
	for _, m := range []mode{plain, modes[4]} {
		t.Run("idle, "+m.name, func(t *testing.T) {
			t.Parallel()
			const idle = 1500 * time.Millisecond
			g := forwarding(t, m, backend.Options{IdleTimeout: idle}, setup{}, plain.origin(t, greets))
			c := g.client()
			for range 4 { // one direction is busy for longer than the idle time
				<-time.After(idle / 2)
				c.Send("x")
			}
			got, _ := c.Rest()
			want(t, "what came", got, "220 ready\r\nxxxx")
			l := g.log.Next()
			want(t, "end", l.End, "client_timeout")
			want(t, "bytes in", l.BytesIn, 4)
			want(t, "waited", l.Duration >= 2.5*float64(idle.Milliseconds()), true)
		})
	}
	t.Run("neither reads", func(t *testing.T) {
		t.Parallel()
		floods := func(c *proxytest.Conn) {
			_, _ = io.Copy(c.Conn, zeros{})
		}
		g := forwarding(t, plain, backend.Options{IdleTimeout: 300 * time.Millisecond}, setup{}, plain.origin(t, floods))
		c := g.client()
		_, err := io.Copy(c.Conn, zeros{})
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want the connection to be closed", err)
		}
		want(t, "end", g.log.Next().End, "client_timeout")
	})
	t.Run("client resets", func(t *testing.T) {
		t.Parallel()
		gone := make(chan error, 1)
		g := forwarding(t, plain, backend.Options{}, setup{}, plain.origin(t, func(c *proxytest.Conn) {
			c.Send("x")
			_, err := io.Copy(io.Discard, c.R)
			gone <- err
		}))
		c := g.client()
		_, _ = c.R.ReadByte()
		c.Reset()
		<-gone
		want(t, "end", g.log.Next().End, "client_gone")
	})
	t.Run("client of TLS leaves without close_notify", func(t *testing.T) {
		t.Parallel()
		g := forwarding(t, modes[4], backend.Options{}, setup{}, plain.origin(t, greets))
		raw := proxytest.Dial(t, g.addr, mptcp.Off)
		s := tls.Client(raw.Conn, &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots})
		if _, err := io.WriteString(s, "half a mess"); err != nil {
			t.Fatal(err)
		}
		raw.CloseWrite()
		raw.WantClosed()
		want(t, "end", g.log.Next().End, "client_gone")
	})
	t.Run("server resets", func(t *testing.T) {
		t.Parallel()
		g := forwarding(t, plain, backend.Options{}, setup{}, plain.origin(t, func(c *proxytest.Conn) {
			_, _ = c.R.ReadByte()
			c.Reset()
		}))
		c := g.client()
		c.Send("x")
		c.WantClosed()
		want(t, "end", g.log.Next().End, "backend_reset")
	})
	t.Run("no server", func(t *testing.T) {
		t.Parallel()
		o := plain.origin(t, silent)
		g := forwarding(t, plain, backend.Options{}, setup{}, o)
		o.Close()
		g.client().WantClosed()
		want(t, "end", g.log.Next().End, "backend_connect")
	})
	t.Run("MPTCP is required", func(t *testing.T) {
		t.Parallel()
		proxytest.NeedMPTCP(t)
		o := plain.origin(t, greets)
		g := forwarding(t, modes[2], backend.Options{}, setup{listener: proxy.ListenerOptions{RequireMPTCP: true}}, o)
		proxytest.Dial(t, g.addr, mptcp.Off).WantClosed()
		g.waitMetric(1, "mpgate_connections_total", "listener", "web", "end", "mptcp_required")
		c := proxytest.Dial(t, g.addr, mptcp.Require)
		c.CloseWrite()
		want(t, "answer", rest(t, c), "220 ready\r\nbye")
	})
}

// zeros is a reader without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A server of a listener that is that listener, directly or by way of another one.
func TestTCPThatComesBack(t *testing.T) {
	t.Parallel()
	dial := func(to string) *backend.Backend {
		return runBackend(t, backend.Options{Name: "raw", Servers: []backend.ServerOptions{{Address: to, MPTCP: mptcp.Off}}})
	}
	ends := func(g *gateway) {
		t.Helper()
		c := g.client()
		c.WantClosed()
		c.Close() // its own direction is still open
		g.waitMetric(0, "mpgate_connections_open", "listener", "web")
		want(t, "reports", strings.Count(g.programLog.String(), "connection loop"), 1)
		limited := slices.ContainsFunc(g.lines(), func(l proxytest.Line) bool { return l.End == "limit" })
		want(t, "a line with the end limit", limited, true)
	}
	g := start(t, setup{}, plain.origin(t, proxytest.Echo))
	g.update(func(o *proxy.ListenerOptions) { o.TCP = tcpTable(t, "bytes", dial(g.addr)) })
	ends(g)

	// A second listener of the same gateway, whose route leads back to the first.
	g = start(t, setup{}, plain.origin(t, proxytest.Echo))
	second := g.proxy.NewListener("web", proxy.ListenerOptions{TCP: tcpTable(t, "back", dial(g.addr))})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			g.proxy.Accept(c, second, false)
		}
	}()
	g.update(func(o *proxy.ListenerOptions) { o.TCP = tcpTable(t, "there", dial(ln.Addr().String())) })
	ends(g)
	ln.Close()
	<-accepted
	second.Close()
}

// A reload that takes the route away, and the end of the program, leave connections their time, and
// cut them then.
func TestTCPDrains(t *testing.T) {
	t.Parallel()
	for name, drain := range map[string]func(context.Context, *gateway, *proxy.Lease){
		"route is gone": func(ctx context.Context, g *gateway, l *proxy.Lease) {
			g.proxy.Expire(ctx, proxy.Ending{Leases: []*proxy.Lease{l}})
		},
		"shutdown": func(ctx context.Context, g *gateway, _ *proxy.Lease) { g.proxy.Shutdown(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := backendWith(t, plain, backend.Options{Name: "raw"}, plain.origin(t, greets))
			lease := new(proxy.Lease)
			table, err := proxy.NewPassthroughs([]proxy.Route{{Name: "bytes", Match: route.Match{Listener: "web"}, Action: &proxy.TCP{Backend: b}, Lease: lease}})
			if err != nil {
				t.Fatal(err)
			}
			g := start(t, setup{listener: proxy.ListenerOptions{TCP: table}}, plain.origin(t, proxytest.Echo))
			ends, stays := g.client(), g.client()
			for _, c := range []*proxytest.Client{ends, stays} {
				if line, err := c.R.ReadString('\n'); line != "220 ready\r\n" {
					t.Fatalf("got %q, %v", line, err)
				}
			}
			ctx, cut := context.WithCancel(context.Background())
			defer cut()
			done := make(chan struct{})
			go func() { defer close(done); drain(ctx, g, lease) }()
			ends.Send("x")
			ends.CloseWrite()
			want(t, "what a connection gets that ends in time", rest(t, ends), "xbye")
			want(t, "its end", g.log.Next().End, "ok")
			stays.Send("y")
			if b, err := stays.R.ReadByte(); b != 'y' {
				t.Errorf("a connection within its time got %q, %v", b, err)
			}
			cut()
			stays.WantClosed()
			<-done
			want(t, "end of the other one", g.log.Next().End, telemetry.EndDrain.String())
		})
	}
}
