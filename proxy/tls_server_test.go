package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/backend"
)

// secureOrigin is an origin that uses TLS below what serve says.
func secureOrigin(t *testing.T, m mode, config *tls.Config, serve func(*proxytest.Conn)) *proxytest.Origin {
	return m.origin(t, func(c *proxytest.Conn) {
		s := tls.Server(overReader{c.Conn, c.R}, config)
		if s.Handshake() != nil {
			return
		}
		inner := &proxytest.Conn{Conn: s, Origin: c.Origin, Number: c.Number, R: bufio.NewReader(s)}
		serve(inner)
		_ = s.Close()
	})
}

func serverConfig(t *testing.T) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCert(t).Certificate}}
}

func toServer(config *tls.Config) backend.Options {
	return backend.Options{TLS: func(string) (*tls.Config, error) { return config, nil }}
}

func TestTLSToServers(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		var resumed, full atomic.Int64
		config := serverConfig(t)
		config.VerifyConnection = func(s tls.ConnectionState) error {
			if s.DidResume {
				resumed.Add(1)
			} else {
				full.Add(1)
			}
			return nil
		}
		o := secureOrigin(t, m, config, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				if !c.Send(proxytest.EchoOf(r)) || r.Target == "/last" {
					return
				}
			}
		})
		g := start(t, setup{mode: m, backend: toServer(&tls.Config{
			RootCAs: testCert(t).roots, ServerName: "b.example", ClientSessionCache: tls.NewLRUClientSessionCache(8),
		})}, o)
		c := g.client()
		var used time.Time
		for range 3 { // one connection, with the session tickets that come at any time
			if a := c.Get("/x"); a.Body != "GET /x " {
				t.Fatalf("got %d %q", a.Status, a.Body)
			}
			l := g.log.Next()
			transport := "tcp"
			if m.mptcp != mptcp.Off {
				transport = "mptcp"
			}
			if l.End != "ok" || l.ServerTransport != transport || l.Tries != 1 {
				t.Errorf("logged %+v", l)
			}
			used = time.Now()
		}
		large := strings.Repeat("large ", 100_000)
		c.Send("POST /large HTTP/1.1\r\n" + host + "Content-Length: 600000\r\n\r\n" + large)
		if a := c.AnswerTo("POST"); a.Body != "POST /large "+large {
			t.Errorf("a large body came back as %d bytes, %v", len(a.Body), a.BodyErr)
		}
		made := o.Connections()
		// For longer it is not trusted with what cannot be repeated.
		if time.Since(used) < time.Second {
			fewConnections(t, m, o)
		}
		// The server closes: the next connection continues with the session of the first.
		for range made {
			want(t, "body", c.Get("/last").Body, "GET /last ")
			want(t, "connections to the server", o.Connections(), made)
		}
		want(t, "body", c.Get("/last").Body, "GET /last ")
		want(t, "connections to the server", o.Connections(), made+1)
		want(t, "full handshakes", full.Load(), 1)
		want(t, "resumed handshakes", int(resumed.Load()), made)
		g.bystander()
	})
}

func TestHandshakesWithServersThatFail(t *testing.T) {
	t.Parallel()
	silent := func(c *proxytest.Conn) { _, _ = io.Copy(io.Discard, c.R) }
	refusing := serverConfig(t)
	refusing.ClientAuth = tls.RequireAnyClientCert
	for _, tt := range []struct {
		name   string
		config *tls.Config
		origin func(*testing.T) *proxytest.Origin
		status int
	}{
		{"an unknown CA", &tls.Config{ServerName: testHost, RootCAs: x509.NewCertPool()}, nil, 502},
		{"another name", &tls.Config{ServerName: "c.example", RootCAs: testCert(t).roots}, nil, 502},
		{"refused by a check of its own", &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots,
			VerifyConnection: func(tls.ConnectionState) error { return errors.New("no") }}, nil, 502},
		{"an old version", &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots,
			MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, nil, 502},
		{"a server without TLS", &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots},
			func(t *testing.T) *proxytest.Origin {
				return plain.origin(t, func(c *proxytest.Conn) { c.Send(proxytest.Response("400 Bad Request", "")) })
			}, 502},
		{"a server that closes", &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots},
			func(t *testing.T) *proxytest.Origin {
				return plain.origin(t, func(*proxytest.Conn) {})
			}, 502},
		{"a server that says nothing", &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots},
			func(t *testing.T) *proxytest.Origin {
				return plain.origin(t, silent)
			}, 504},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := secureOrigin
			origin := (*proxytest.Origin)(nil)
			if tt.origin != nil {
				origin = tt.origin(t)
			} else {
				origin = o(t, plain, serverConfig(t), proxytest.Echo)
			}
			b := toServer(tt.config)
			if tt.status == 504 {
				b.ConnectTimeout = 500 * time.Millisecond
			}
			g := start(t, setup{backend: b}, origin)
			c := g.client()
			a := c.Get("/secret")
			want(t, "status", a.Status, tt.status)
			l := g.log.Next()
			want(t, "end", l.End, "backend_connect")
			want(t, "status in the log", l.Status, tt.status)
			want(t, "server", l.Server, origin.Address())
			lacks(t, "what a server got that could not be trusted", origin.AllRaw(), "/secret")
			c.Get("/again") // the connection goes on
		})
	}
	// A client certificate that is asked for and not there: in TLS 1.3 that shows only after the
	// handshake.
	g := start(t, setup{backend: toServer(&tls.Config{ServerName: testHost, RootCAs: testCert(t).roots})},
		secureOrigin(t, plain, refusing, proxytest.Echo))
	want(t, "status without a client certificate", g.client().Get("/").Status, 502)
	g = start(t, setup{backend: toServer(&tls.Config{
		ServerName: testHost, RootCAs: testCert(t).roots, Certificates: []tls.Certificate{testCert(t).Certificate},
	})}, secureOrigin(t, plain, refusing, proxytest.Echo))
	want(t, "status with one", g.client().Get("/").Status, 200)
}

// A handshake with a server that says nothing does not hold up the end.
func TestShutdownEndsHandshakeWithServer(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	o := plain.origin(t, func(c *proxytest.Conn) {
		close(asked)
		_, _ = c.R.ReadByte()
		_, _ = io.Copy(io.Discard, c.R)
	})
	b := toServer(&tls.Config{ServerName: testHost, RootCAs: testCert(t).roots})
	b.ConnectTimeout = time.Minute
	g := start(t, setup{backend: b}, o)
	c := g.client()
	c.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-asked
	now, over := context.WithCancel(context.Background())
	over()
	began := time.Now()
	g.proxy.Shutdown(now)
	if took := time.Since(began); took > proxytest.Patience/2 {
		t.Errorf("it took %v", took)
	}
	want(t, "end", g.log.Next().End, "drain")
}

// PROXY, then TLS, then HTTP.
func TestProxyHeaderComesBeforeTLSToServers(t *testing.T) {
	t.Parallel()
	cert := serverConfig(t)
	o := plain.origin(t, func(c *proxytest.Conn) {
		line, _ := c.R.ReadString('\n')
		if !strings.HasPrefix(line, "PROXY TCP4 127.0.0.1 127.0.0.1 ") {
			t.Errorf("the connection began with %q", line)
		}
		s := tls.Server(overReader{c.Conn, c.R}, cert)
		if s.Handshake() == nil {
			proxytest.Echo(&proxytest.Conn{Conn: s, R: bufio.NewReader(s)})
		}
	})
	b := toServer(&tls.Config{ServerName: testHost, RootCAs: testCert(t).roots})
	b.SendProxy = 1
	g := start(t, setup{backend: b}, o)
	want(t, "body", g.client().Get("/x").Body, "GET /x ")
}

// Rule 5 under TLS: a record after a complete response is discarded, also if it came in the same
// packet.
func TestRecordsAfterAResponseAreDiscarded(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, func(c *proxytest.Conn) {
		held := &holding{Conn: overReader{c.Conn, c.R}}
		s := tls.Server(held, serverConfig(t))
		if s.Handshake() != nil {
			return
		}
		inner := &proxytest.Conn{Conn: s, R: bufio.NewReader(s)}
		for r := inner.Request(); r != nil; r = inner.Request() {
			if strings.HasPrefix(r.Target, "/innocent") {
				inner.Send(proxytest.EchoOf(r))
				continue
			}
			held.hold = true
			inner.Send(proxytest.EchoOf(r))
			inner.Send(proxytest.Response("200 OK", "poison"))
			held.release()
		}
	})
	g := start(t, setup{backend: toServer(&tls.Config{ServerName: testHost, RootCAs: testCert(t).roots})}, o)
	for range 5 {
		c := g.client()
		want(t, "body", c.Get("/a").Body, "GET /a ")
		g.bystander()
	}
}

// holding keeps what is written back until it is released.
type holding struct {
	net.Conn
	b    []byte
	hold bool
}

func (h *holding) Write(p []byte) (int, error) {
	if h.hold {
		h.b = append(h.b, p...)
		return len(p), nil
	}
	return h.Conn.Write(p)
}

func (h *holding) release() {
	h.hold = false
	_, _ = h.Conn.Write(h.b)
	h.b = nil
}

// A body of TLS that was cut off must not look whole: there is no close_notify.
func TestCutServerBodyOverTLS(t *testing.T) {
	t.Parallel()
	o := secureOrigin(t, plain, serverConfig(t), func(c *proxytest.Conn) {
		c.Request()
		c.Send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it")
		// A FIN without close_notify: anybody on the way can send that.
		_ = c.Conn.(*tls.Conn).NetConn().Close()
	})
	g := start(t, setup{mode: overTLS, backend: toServer(&tls.Config{ServerName: testHost,
		RootCAs: testCert(t).roots})}, o)
	c := g.client()
	a := c.Get("/")
	if a.BodyErr == nil {
		t.Errorf("a body that was cut looks whole: %q", a.Body)
	}
	want(t, "end", g.log.Next().End, "backend_reset")
}
