package proxy_test

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/preread"
)

var anyLocal = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// header2 is a PROXY header in version 2.
func header2(source, destination string) string {
	h := preread.Proxy{Version: 2, Source: netip.MustParseAddrPort(source),
		Destination: netip.MustParseAddrPort(destination)}
	return string(h.Append(nil))
}

// withTLV puts extra bytes behind the addresses, as load balancers of clouds do.
func withTLV(header, tlv string) string {
	b := []byte(header + tlv)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	return string(b)
}

const local2 = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

// sendProxyHeader connects, sends a PROXY header in pieces of some bytes, and uses TLS where the
// mode does.
func (g *gateway) sendProxyHeader(header string, piece int) *proxytest.Client {
	g.t.Helper()
	c := proxytest.Dial(g.t, g.addr, g.mode.mptcp)
	for len(header) > 0 {
		n := min(piece, len(header))
		c.Send(header[:n])
		header = header[n:]
	}
	if g.mode.tls {
		g.speakTLS(c)
	}
	return c
}

func TestProxyHeaderSetsTheClient(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m, listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyRequired,
			ProxyHeaderFrom: anyLocal}}, o)
		for _, tt := range []struct{ header, client string }{
			{"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "192.0.2.7"},
			{"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "2001:db8::7"},
			{"PROXY UNKNOWN\r\n", "127.0.0.1"},
			{"PROXY UNKNOWN ff:: whatever this is\r\n", "127.0.0.1"},
			{header2("192.0.2.8:1", "198.51.100.1:443"), "192.0.2.8"},
			{header2("[2001:db8::8]:1", "[2001:db8::1]:443"), "2001:db8::8"},
			{withTLV(header2("192.0.2.9:1", "198.51.100.1:443"), "\x04\x00\x03abc"), "192.0.2.9"},
			{local2, "127.0.0.1"},
		} {
			for _, piece := range []int{1, 1000} {
				c := g.sendProxyHeader(tt.header, piece)
				c.Send("GET /x HTTP/1.1\r\n" + host + "X-Forwarded-For: 203.0.113.1\r\n\r\n")
				want(t, "status", c.Answer().Status, 200)
				l := g.log.Next()
				want(t, "client", l.Client, tt.client)
				want(t, "peer is the socket's", l.Peer, c.LocalAddr().String())
				c.Close()
			}
		}
		raw := o.AllRaw()
		for _, client := range []string{"192.0.2.7", "2001:db8::7", "192.0.2.9"} {
			contains(t, "what the server got", raw, "X-Forwarded-For: "+client+"\r\n", "X-Real-IP: "+client+"\r\n")
		}
		lacks(t, "what the server got", raw, "203.0.113.1", "PROXY")
	})
}

// Who sends the request and the header in one piece, as most do.
func TestProxyHeaderAndRequestInOneSegment(t *testing.T) {
	t.Parallel()
	g := start(t, setup{listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyRequired,
		ProxyHeaderFrom: anyLocal}}, plain.origin(t, proxytest.Echo))
	request := "GET /a HTTP/1.1\r\n" + host + "\r\n"
	for _, header := range []string{"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
		header2("192.0.2.7:1", "198.51.100.1:443")} {
		c := proxytest.Dial(t, g.addr, g.mode.mptcp)
		c.Send(header + request + request)
		want(t, "body", c.Answer().Body, "GET /a ")
		want(t, "body of the second", c.Answer().Body, "GET /a ")
		want(t, "client", g.log.Next().Client, "192.0.2.7")
		want(t, "client of the second", g.log.Next().Client, "192.0.2.7")
	}
}

func TestProxyHeaderIsRequired(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	request := "GET / HTTP/1.1\r\n" + host + "\r\n"
	good := "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
	for name, tt := range map[string]struct {
		from []netip.Prefix
		sent string
	}{
		"none":                {anyLocal, request},
		"from a stranger":     {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, good + request},
		"from nobody":         {nil, good + request},
		"malformed":           {anyLocal, "PROXY TCP4 192.0.2.7\r\n" + request},
		"a leading zero":      {anyLocal, "PROXY TCP4 192.0.2.07 198.51.100.1 4711 443\r\n" + request},
		"a bad command":       {anyLocal, strings.Replace(local2, "\x20", "\x2f", 1) + request},
		"endless":             {anyLocal, "PROXY " + strings.Repeat("x", 200)},
		"a TLS ClientHello":   {anyLocal, clientHello(t, testHost)},
		"a long second field": {anyLocal, "PROXY TCP4 " + strings.Repeat("1", 120) + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var said record
			debug := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
			g := start(t, setup{listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyRequired,
				ProxyHeaderFrom: tt.from}, options: proxy.Options{Logger: debug}}, o)
			c := proxytest.Dial(t, g.addr, g.mode.mptcp)
			c.Send(tt.sent)
			c.WantClosed()
			g.waitMetric(1, "mpgate_connections_total", "listener", "web", "end", "proxy_header")
			contains(t, "the program's log", said.String(), `msg="connection without a request" listener=web end=proxy_header peer=127.0.0.1:`)
			want(t, "lines in the log", len(g.lines()), 0)
		})
	}
	want(t, "connections to the server", o.Connections(), 0)
}

func TestProxyHeaderIsOptional(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{plain, overTLS} {
		t.Run(m.name, func(t *testing.T) {
			o := m.origin(t, proxytest.Echo)
			g := start(t, setup{mode: m, listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyOptional,
				ProxyHeaderFrom: anyLocal}}, o)
			for header, client := range map[string]string{"": "127.0.0.1",
				"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n": "192.0.2.7"} {
				c := g.sendProxyHeader(header, 7)
				want(t, "status", c.Get("/").Status, 200)
				want(t, "client", g.log.Next().Client, client)
			}
			if !m.tls { // a request that begins as a header does, and as short as it goes
				c := g.client()
				c.Send("PROPFIND / HTTP/1.1\r\n" + host + "\r\n")
				want(t, "body", c.Answer().Body, "PROPFIND / ")
				c.Send("G / HTTP/1.0\r\n\r\n")
				want(t, "status", c.Answer().Status, 200)
			}
			// A stranger's header is no header.
			g.update(func(o *proxy.ListenerOptions) { o.ProxyHeaderFrom = nil })
			c := proxytest.Dial(t, g.addr, g.mode.mptcp)
			c.Send("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\nGET /forged HTTP/1.1\r\n" + host + "\r\n")
			rest, _ := c.Rest()
			lacks(t, "the answer", rest, "200 OK")
			lacks(t, "what the server got", o.AllRaw(), "/forged")
			g.bystander()
		})
	}
}

func TestProxyHeaderOff(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{}, o)
	c := g.client()
	c.Send("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\nGET / HTTP/1.1\r\n" + host + "\r\n")
	want(t, "status", c.Answer().Status, 400)
	want(t, "connections to the server", o.Connections(), 0)
}

// A unix socket's peers are those whom its file mode lets in: they may say for whom they speak.
func TestProxyHeaderOnAUnixSocket(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{address: "unix", listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyRequired}}, o)
	c := g.sendProxyHeader("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n", 3)
	want(t, "status", c.Get("/").Status, 200)
	want(t, "client", g.log.Next().Client, "192.0.2.7")
	contains(t, "what the server got", o.AllRaw(), "X-Forwarded-For: 192.0.2.7\r\n")
	// Version 2 may name unix sockets; they have no address to tell.
	h := preread.Proxy{Version: 2, Unix: true, SourcePath: "/a", DestinationPath: "/b"}
	c = g.sendProxyHeader(string(h.Append(nil)), 1000)
	want(t, "status", c.Get("/").Status, 200)
	want(t, "client", g.log.Next().Client, "")
}

// Case 18: half a header, and silence.
func TestStalledProxyHeader(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	for _, m := range []mode{plain, overTLS} {
		g := start(t, setup{
			mode: m, options: proxy.Options{Limits: proxy.Limits{HeaderTime: limit}},
			listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyRequired, ProxyHeaderFrom: anyLocal},
		}, plain.origin(t, proxytest.Echo))
		header := "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n"
		// No further into the ClientHello than its version: what follows is random, and may hold
		// the end of a line.
		for _, sent := range []string{"", "P", header[:20], local2[:14], header,
			header + clientHello(t, testHost)[:11]} {
			began := time.Now()
			c := proxytest.Dial(t, g.addr, g.mode.mptcp)
			c.Send(sent)
			rest, err := c.Rest()
			if took := time.Since(began); took < limit/2 || took > proxytest.Patience/2 {
				t.Errorf("%s, %q: closed after %v, want about %v; read %q, %v", m.name, sent, took, limit, rest, err)
			}
		}
	}
}

func TestProxyHeaderToServers(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for version, wanted := range map[uint8]string{1: "PROXY TCP4 127.0.0.1 127.0.0.1 ",
			2: "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01"} {
			o := m.origin(t, func(c *proxytest.Conn) {
				head := make([]byte, 28)
				if version == 1 {
					line, _ := c.R.ReadString('\n')
					head = []byte(line)
				} else if _, err := io.ReadFull(c.R, head); err != nil {
					return
				}
				if !strings.HasPrefix(string(head), wanted) {
					t.Errorf("the connection began with %q, want %q…", head, wanted)
				}
				proxytest.Echo(c)
			})
			g := start(t, setup{mode: m, backend: backend.Options{SendProxy: version}}, o)
			one, two := g.client(), g.client()
			for _, c := range []*proxytest.Client{one, two, one} {
				want(t, "status", c.Get("/").Status, 200)
				want(t, "end", g.log.Next().End, "ok")
			}
			// What a header says is true of one client only.
			want(t, "connections to the server", o.Connections(), 3)
			g.bystander()
		}
	})
}

// Where the client is behind a proxy itself, its own address is forwarded, and the one that it
// connected to.
func TestProxyHeaderIsForwarded(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		for version := uint8(1); version <= 2; version++ {
			o := m.origin(t, func(c *proxytest.Conn) {
				if _, err := proxytest.ReadProxyHeader(c.R); err != nil {
					t.Error(err)
				}
				proxytest.Echo(c)
			})
			g := start(t, setup{
				mode: m, backend: backend.Options{SendProxy: version},
				listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyRequired, ProxyHeaderFrom: anyLocal},
			}, o)
			own := netip.MustParseAddrPort(g.addr)
			for _, e := range []struct{ in, source, destination string }{
				{"PROXY TCP4 192.0.2.9 198.51.100.7 1111 443\r\n", "192.0.2.9:1111", "198.51.100.7:443"},
				{"PROXY TCP6 2001:db8::9 2001:db8::7 1111 443\r\n", "[2001:db8::9]:1111", "[2001:db8::7]:443"},
				{"PROXY TCP6 ::ffff:192.0.2.9 ::ffff:198.51.100.7 1111 443\r\n", "192.0.2.9:1111", "198.51.100.7:443"},
				{header2("192.0.2.9:1111", "198.51.100.7:443"), "192.0.2.9:1111", "198.51.100.7:443"},
				{header2("[2001:db8::9]:1111", "[2001:db8::7]:443"), "[2001:db8::9]:1111", "[2001:db8::7]:443"},
				{"PROXY UNKNOWN\r\n", "", own.String()}, // then the socket's addresses count
				{local2, "", own.String()},
			} {
				c := g.sendProxyHeader(e.in, 1000)
				want(t, "status", c.Get("/").Status, 200)
				source := e.source
				if source == "" {
					source = c.LocalAddr().String()
				}
				raw := o.Raw()
				got, _, err := preread.ParseProxy([]byte(raw[len(raw)-1]))
				if err != nil || got.Version != version || got.Source.String() != source ||
					got.Destination.String() != e.destination {
					t.Errorf("%q in version %d became %+v, %v; want %s to %s", e.in, version, got, err, source,
						e.destination)
				}
				c.Close()
			}
		}
	})
}

func TestProxyHeaderOfUnixPeersIsUnknown(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, func(c *proxytest.Conn) {
		_, _ = c.R.ReadString('\n')
		proxytest.Echo(c)
	})
	g := start(t, setup{address: "unix", backend: backend.Options{SendProxy: 1},
		listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyOptional}}, o)
	want(t, "status", g.client().Get("/").Status, 200)
	contains(t, "what the server got", o.AllRaw(), "PROXY UNKNOWN\r\n")
	c := g.sendProxyHeader("PROXY TCP4 192.0.2.9 198.51.100.7 1111 443\r\n", 1000)
	want(t, "status", c.Get("/").Status, 200)
	contains(t, "what the server got", o.AllRaw(), "PROXY TCP4 192.0.2.9 198.51.100.7 1111 443\r\n")
}

// An address of a socket of both families is told as what it is.
func TestProxyHeaderHasNoMappedAddresses(t *testing.T) {
	t.Parallel()
	for version, wanted := range map[uint8]string{1: "PROXY TCP4 127.0.0.1 127.0.0.1 ",
		2: "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01"} {
		o := plain.origin(t, func(c *proxytest.Conn) {
			_, _ = proxytest.ReadProxyHeader(c.R)
			proxytest.Echo(c)
		})
		g := start(t, setup{address: ":0", backend: backend.Options{SendProxy: version}}, o)
		_, port, err := net.SplitHostPort(g.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := proxytest.Dial(t, "127.0.0.1:"+port, plain.mptcp)
		want(t, "status", c.Get("/").Status, 200)
		contains(t, "what the server got", o.AllRaw(), wanted)
	}
}

// Senders put the client's certificate into a header.
func TestLargeProxyHeader(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		g := start(t, setup{mode: m, listener: proxy.ListenerOptions{ProxyHeader: proxy.ProxyRequired,
			ProxyHeaderFrom: anyLocal}}, m.origin(t, proxytest.Echo))
		const large = 16 << 10
		base := header2("192.0.2.9:1", "198.51.100.1:443")
		for _, size := range []int{4096, 8000, large, large + 1} {
			n := size - len(base) - 3
			header := withTLV(base, string([]byte{0x20, byte(n >> 8), byte(n)})+strings.Repeat("c", n))
			if size > large {
				c := proxytest.Dial(t, g.addr, m.mptcp)
				c.Send(header)
				c.WantClosed()
				continue
			}
			for _, piece := range []int{1000, len(header)} {
				c := g.sendProxyHeader(header, piece)
				want(t, "status", c.Get("/").Status, 200)
				want(t, "client", g.log.Next().Client, "192.0.2.9")
				c.Close()
			}
		}
	})
}
