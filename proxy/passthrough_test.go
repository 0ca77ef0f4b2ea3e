package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/route"
)

// passed is a gateway that passes b.example on, and answers for all other names itself.
func passed(t *testing.T, m mode, o backend.Options, options proxy.ListenerOptions, origin *proxytest.Origin) *gateway {
	t.Helper()
	o.Name = "sealed"
	b := backendWith(t, m, o, origin)
	var err error
	if options.Passthrough, err = proxy.NewPassthroughs([]proxy.Route{{Name: "pass",
		Match: route.Match{Hosts: []string{"b.example"}}, Action: &proxy.TCP{Backend: b}}}); err != nil {
		t.Fatal(err)
	}
	m.tls = true
	return start(t, setup{mode: m, listener: options}, m.origin(t, proxytest.Echo))
}

// tlsClient is an origin that ends TLS itself.
func tlsClient(t *testing.T) func(*proxytest.Conn) {
	cert := testCert(t).Certificate
	return func(c *proxytest.Conn) {
		s := tls.Server(overReader{c.Conn, c.R}, &tls.Config{Certificates: []tls.Certificate{cert}})
		if s.Handshake() != nil {
			return
		}
		_, _ = fmt.Fprintf(s, "sealed for %s\n", s.ConnectionState().ServerName)
		_, _ = io.Copy(s, s) // and what comes goes back
		_ = s.CloseWrite()
	}
}

// overReader is a connection that is read through the recording reader.
type overReader struct {
	net.Conn
	r io.Reader
}

func (o overReader) Read(p []byte) (int, error) { return o.r.Read(p) }

// shredder sends its first record, the ClientHello, in records of one byte, each in a write of its
// own.
type shredder struct {
	net.Conn
	done bool
}

func (s *shredder) Write(p []byte) (int, error) {
	if s.done {
		return s.Conn.Write(p)
	}
	s.done = true
	for _, b := range p[5:] {
		if _, err := s.Conn.Write([]byte{22, 3, 1, 0, 1, b}); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func TestPassthrough(t *testing.T) {
	for _, m := range modes[:4] {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			transport := "tcp"
			if m.mptcp != mptcp.Off {
				proxytest.NeedMPTCP(t)
				transport = "mptcp"
			}
			o := m.origin(t, tlsClient(t))
			g := passed(t, m, backend.Options{}, proxy.ListenerOptions{}, o)
			for _, name := range []string{"b.example", "B.EXAMPLE"} {
				for _, shred := range []bool{false, true} {
					c := proxytest.Dial(t, g.addr, m.mptcp)
					local := c.LocalAddr().String()
					if shred {
						c.Conn = &shredder{Conn: c.Conn}
					}
					s := tls.Client(c.Conn, &tls.Config{ServerName: name, RootCAs: testCert(t).roots})
					if err := s.Handshake(); err != nil {
						t.Fatal(err)
					}
					text := strings.Repeat("there and back ", 10_000)
					go func() { _, _ = io.WriteString(s, text); _ = s.CloseWrite() }()
					got, err := io.ReadAll(s)
					if err != nil || string(got) != "sealed for "+name+"\n"+text {
						t.Fatalf("%s: got %.100q (%d bytes), %v", name, got, len(got), err)
					}
					_ = c.Close()
					l := g.log.Next()
					if l.Route != "pass" || l.Backend != "sealed" || l.Server != o.Address() ||
						l.SNI != "b.example" || l.Proto != "TLS" || l.Peer != local ||
						l.End != "ok" || l.Status != 0 || l.Method != "" || l.ClientTransport != transport ||
						l.ServerTransport != transport ||
						l.BytesIn < int64(len(text)) || l.BytesOut < int64(len(text)) ||
						l.BytesIn > 2*int64(len(text)) || l.Duration <= 0 || l.Tries != 1 || l.TLSVersion != "" {
						t.Errorf("logged %+v", l)
					}
				}
			}
			// All other names are the gateway's own.
			want(t, "status", g.client().Get("/own").Status, 200)
			l := g.log.Next()
			want(t, "route", l.Route, "all")
			want(t, "SNI", l.SNI, testHost)
			want(t, "TLS", l.TLSVersion, "TLS 1.3")
			lacks(t, "what the sealed server got", o.AllRaw(), "GET /own ")
			g.bystander()
		})
	}
}

func TestPassthroughWithProxyHeaders(t *testing.T) {
	t.Parallel()
	for version := range 3 {
		o := plain.origin(t, func(c *proxytest.Conn) {
			switch version {
			case 1:
				if line, _ := c.R.ReadString('\n'); !strings.HasPrefix(line,
					"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n") {
					t.Errorf("the connection began with %q", line)
				}
			case 2:
				head := make([]byte, 28)
				if _, err := io.ReadFull(c.R, head); err != nil ||
					string(head[16:]) != "\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x01\xbb" {
					t.Errorf("the connection began with %q, %v", head, err)
				}
			}
			tlsClient(t)(c)
		})
		g := passed(t, plain, backend.Options{SendProxy: uint8(version)},
			proxy.ListenerOptions{ProxyHeader: proxy.ProxyOptional, ProxyHeaderFrom: anyLocal}, o)
		c := proxytest.Dial(t, g.addr, plain.mptcp)
		c.Send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n")
		s := tls.Client(&shredder{Conn: c.Conn}, &tls.Config{ServerName: "b.example", RootCAs: testCert(t).roots})
		if err := s.Handshake(); err != nil {
			t.Fatal(err)
		}
		_ = s.CloseWrite()
		if got, err := io.ReadAll(s); err != nil || string(got) != "sealed for b.example\n" {
			t.Errorf("got %q, %v", got, err)
		}
		_ = c.Close()
		l := g.log.Next()
		want(t, "client", l.Client, "192.0.2.7")
		want(t, "end", l.End, "ok")
	}
}

// Each direction ends by itself: a client that has said all still gets the answer.
func TestPassthroughHalfClose(t *testing.T) {
	t.Parallel()
	hello := clientHello(t, "b.example")
	o := plain.origin(t, func(c *proxytest.Conn) {
		all, _ := io.ReadAll(c.R)
		c.Send(fmt.Sprintf("got %d bytes", len(all)))
	})
	g := passed(t, plain, backend.Options{}, proxy.ListenerOptions{}, o)
	c := proxytest.Dial(t, g.addr, plain.mptcp)
	c.Send(hello + "and more")
	c.CloseWrite()
	rest, err := c.Rest()
	if want := fmt.Sprintf("got %d bytes", len(hello)+8); rest != want || err != nil {
		t.Errorf("got %q, %v; want %q", rest, err, want)
	}
	l := g.log.Next()
	want(t, "end", l.End, "ok")
	want(t, "bytes in", l.BytesIn, int64(len(hello)+8))
	want(t, "bytes out", l.BytesOut, int64(len(rest)))

	// The server ends first.
	o2 := plain.origin(t, func(c *proxytest.Conn) {
		c.Send("bye")
		c.CloseWrite()
		_, _ = io.Copy(io.Discard, c.R)
	})
	g = passed(t, plain, backend.Options{}, proxy.ListenerOptions{}, o2)
	c = proxytest.Dial(t, g.addr, plain.mptcp)
	c.Send(hello)
	if rest, err := c.Rest(); rest != "bye" || err != nil {
		t.Errorf("got %q, %v", rest, err)
	}
	c.Send("I go on")
	c.CloseWrite()
	l = g.log.Next()
	want(t, "end", l.End, "ok")
	want(t, "bytes in", l.BytesIn, int64(len(hello)+7))
}

func TestPassthroughEnds(t *testing.T) {
	t.Parallel()
	hello := clientHello(t, "b.example")
	silent := func(c *proxytest.Conn) { _, _ = io.Copy(io.Discard, c.R) }
	t.Run("idle", func(t *testing.T) {
		g := passed(t, plain, backend.Options{IdleTimeout: 200 * time.Millisecond}, proxy.ListenerOptions{},
			plain.origin(t, silent))
		c := proxytest.Dial(t, g.addr, plain.mptcp)
		c.Send(hello)
		c.WantClosed()
		l := g.log.Next()
		want(t, "end", l.End, "client_timeout")
		want(t, "waited", l.Duration >= 200, true)
	})
	t.Run("busy in one direction", func(t *testing.T) {
		const idle = time.Second
		g := passed(t, plain, backend.Options{IdleTimeout: idle}, proxy.ListenerOptions{}, plain.origin(t, silent))
		c := proxytest.Dial(t, g.addr, plain.mptcp)
		c.Send(hello)
		tick := time.NewTicker(idle / 20)
		defer tick.Stop()
		for range 60 { // three times the idle time
			<-tick.C
			c.Send("x")
		}
		c.CloseWrite()
		c.WantClosed()
		want(t, "end", g.log.Next().End, "ok")
	})
	t.Run("client resets", func(t *testing.T) {
		g := passed(t, plain, backend.Options{}, proxy.ListenerOptions{}, plain.origin(t, func(c *proxytest.Conn) {
			c.Send("x")
			silent(c)
		}))
		c := proxytest.Dial(t, g.addr, plain.mptcp)
		c.Send(hello)
		_, _ = c.R.ReadByte()
		c.Reset()
		want(t, "end", g.log.Next().End, "client_gone")
	})
	t.Run("server resets", func(t *testing.T) {
		g := passed(t, plain, backend.Options{}, proxy.ListenerOptions{}, plain.origin(t, func(c *proxytest.Conn) {
			_, _ = c.R.ReadByte()
			c.Reset()
		}))
		c := proxytest.Dial(t, g.addr, plain.mptcp)
		c.Send(hello)
		c.WantClosed()
		want(t, "end", g.log.Next().End, "backend_reset")
	})
	t.Run("no server", func(t *testing.T) {
		o := plain.origin(t, silent)
		g := passed(t, plain, backend.Options{}, proxy.ListenerOptions{}, o)
		o.Close()
		c := proxytest.Dial(t, g.addr, plain.mptcp)
		c.Send(hello)
		c.WantClosed()
		want(t, "end", g.log.Next().End, "backend_connect")
		g.bystander()
	})
	t.Run("half a ClientHello", func(t *testing.T) {
		m := plain
		b := backendWith(t, m, backend.Options{Name: "sealed"}, m.origin(t, silent))
		table, err := proxy.NewPassthroughs([]proxy.Route{{Name: "pass",
			Match: route.Match{Hosts: []string{"b.example"}}, Action: &proxy.TCP{Backend: b}}})
		if err != nil {
			t.Fatal(err)
		}
		const limit = 1500 * time.Millisecond // the bystander below needs to be done in that, too
		for _, tls := range []bool{true, false} {
			m.tls = tls
			g := start(t, setup{
				mode: m, options: proxy.Options{Limits: proxy.Limits{HeaderTime: limit}},
				listener: proxy.ListenerOptions{Passthrough: table},
			}, m.origin(t, proxytest.Echo))
			began := time.Now()
			var clients []*proxytest.Client
			for _, sent := range []string{"", hello[:1], hello[:4], hello[:len(hello)-1]} {
				c := proxytest.Dial(t, g.addr, plain.mptcp)
				c.Send(sent)
				clients = append(clients, c)
			}
			for i, c := range clients {
				_, _ = c.Rest()
				if took := time.Since(began); took < limit/2 || took > proxytest.Patience/2 {
					t.Errorf("TLS %v, part %d: closed after %v, want about %v", tls, i, took, limit)
				}
			}
			g.bystander()
		}
	})
}

// A listener may pass names on and speak plain HTTP with everybody else.
func TestPassthroughAndPlainHTTPOnOneListener(t *testing.T) {
	t.Parallel()
	b := backendWith(t, plain, backend.Options{Name: "sealed"}, plain.origin(t, tlsClient(t)))
	table, err := proxy.NewPassthroughs([]proxy.Route{{Name: "pass",
		Match: route.Match{Hosts: []string{"*.example"}}, Action: &proxy.TCP{Backend: b}}})
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, setup{listener: proxy.ListenerOptions{Passthrough: table}}, plain.origin(t, proxytest.Echo))
	c := g.client()
	// As short as a request goes: nothing more will come to tell it by.
	c.Send("G / HTTP/1.0\r\n\r\n")
	want(t, "status", c.Answer().Status, 200)
	c = g.client()
	state := c.Secure(&tls.Config{ServerName: "b.example", RootCAs: testCert(t).roots})
	want(t, "handshake", state.HandshakeComplete, true)
	c = g.client()
	c.Send(clientHello(t, "b.elsewhere"))
	rest, _ := c.Rest()
	lacks(t, "the answer to a name that nobody serves", rest, "200 OK")
	g.bystander()
}
