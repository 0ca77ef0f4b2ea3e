package backend

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// closing is an origin that ends its connections in order when told to.
func closing(t *testing.T, mode mptcp.Mode) (o *proxytest.Origin, end func()) {
	t.Helper()
	now := make(chan struct{})
	o = proxytest.NewOrigin(t, mode, func(c *proxytest.Conn) {
		done := make(chan struct{})
		go func() { defer close(done); proxytest.Echo(c) }()
		select {
		case <-now:
			c.CloseWrite()
		case <-done:
		}
		c.Close()
		<-done
	})
	return o, func() { now <- struct{}{} }
}

var overMPTCP = []struct {
	name   string
	origin mptcp.Mode
}{{"fallback", mptcp.Off}, {"mptcp", mptcp.Prefer}}

// After a server's FIN has arrived, but before the kernel reports it, the connection carries no
// POST.
func TestEndIsSeenBelowMPTCP(t *testing.T) {
	proxytest.NeedMPTCP(t)
	for _, m := range overMPTCP {
		for _, before := range []string{"POST", "GET"} {
			t.Run(m.name+" after "+before, func(t *testing.T) {
				checked := 0
				for range 20 {
					o, end := closing(t, m.origin)
					b, _ := pool(t, Options{Servers: []ServerOptions{{Address: o.Address(), MPTCP: mptcp.Prefer}}})
					ask(t, b, before)
					s := b.list()[0]
					c := s.idle[0]
					r, err := mptcp.LastReceived(c.link.Raw())
					if err != nil {
						t.Fatal(err)
					}
					end()
					for came, until := r, time.Now().Add(proxytest.Patience); came.Segments == r.Segments; {
						if came, err = mptcp.LastReceived(c.link.Raw()); err != nil || time.Now().After(until) {
							t.Fatalf("no FIN came: %v", err)
						}
					}
					now := time.Now()
					state := c.peerState(now)
					if now.Sub(c.used) >= 3*tick { // the FIN may count as a segment of the exchange
						continue
					}
					checked++
					if state == peerOpen {
						t.Fatal("the connection seems open")
					}
					if s.takeIdle(false, false) != nil {
						t.Fatal("the connection would carry a POST")
					}
				}
				if checked == 0 {
					t.Error("every check came too late; is the host that slow?")
				}
			})
		}
	}
}

// Open connections are reused. A POST that directly follows a GET may need one more connection.
func TestPOSTsReuseConnectionsOverMPTCP(t *testing.T) {
	proxytest.NeedMPTCP(t)
	ready := httptest.NewTLSServer(nil)
	certificates := ready.TLS.Certificates
	ready.Close()
	for _, m := range overMPTCP {
		for _, secure := range []bool{false, true} {
			serve := proxytest.Echo
			o := Options{}
			if secure {
				o.TLS = func(string) (*tls.Config, error) { return &tls.Config{InsecureSkipVerify: true}, nil }
				serve = func(c *proxytest.Conn) {
					s := tls.Server(c.Conn, &tls.Config{Certificates: certificates})
					proxytest.Echo(&proxytest.Conn{Conn: s, Origin: c.Origin, R: bufio.NewReader(s)})
				}
			}
			server := proxytest.NewOrigin(t, m.origin, serve)
			o.Servers = []ServerOptions{{Address: server.Address(), MPTCP: mptcp.Prefer}}
			b, _ := pool(t, o)
			for range 50 {
				ask(t, b, "POST")
			}
			// The kernel may say more than the exchange needs, such as an announced address.
			if n := server.Connections(); n > 3 {
				t.Errorf("%s, TLS %v: %d connections for 50 POSTs in a row", m.name, secure, n)
			}
			before := server.Connections()
			for range 50 {
				ask(t, b, "GET")
				ask(t, b, "POST")
			}
			if n := server.Connections() - before; n > 3 {
				t.Errorf("%s, TLS %v: %d more connections for a GET and a POST in turn", m.name, secure, n)
			}
		}
	}
}

// A connection that was idle for a while, and of which nothing was counted, is judged by when
// something came last.
func TestPeerStateByTime(t *testing.T) {
	proxytest.NeedMPTCP(t)
	o := proxytest.NewOrigin(t, mptcp.Prefer, proxytest.Echo)
	b, _ := pool(t, Options{Servers: []ServerOptions{{Address: o.Address(), MPTCP: mptcp.Prefer}}})
	ask(t, b, "GET")
	c := b.list()[0].idle[0]
	if c.segmentsKnown || c.peerStateMayBeKnown(c.used) || c.peerState(c.used) != peerMayHaveClosed {
		t.Error("a connection just used by a GET may carry a POST")
	}
	later := func() bool { now := time.Now(); return c.peerStateMayBeKnown(now) && c.peerState(now) == peerOpen }
	if !proxytest.Within(proxytest.Patience, later) {
		t.Error("a connection that was silent since a GET never carries a POST")
	}
	if c.peerState(c.used.Add(10*time.Minute)) == peerOpen && time.Since(c.used) < workerTime/2 {
		t.Error("something came long after the last exchange, and the connection seems open")
	}
}

// The same for a connection of HTTP/2 that carries nothing: its reader learns of the end only when
// the kernel hands it on.
func TestEndOfASharedConnection(t *testing.T) {
	for _, mode := range []mptcp.Mode{mptcp.Off, mptcp.Prefer} {
		for range 20 {
			l := &remembering{Listener: proxytest.Listen(t, mptcp.Off), conns: make(chan net.Conn, 2)}
			serveH2C(t, l)
			b, in := pool(t, Options{Servers: []ServerOptions{{Address: l.Addr().String(), MPTCP: mode}}, Protocol: HTTP2})
			ask(t, b, "POST")
			h := &b.list()[0].shared
			h.mu.Lock()
			c := h.conns[0]
			h.mu.Unlock()
			// without GOAWAY, as when killed
			if err := (<-l.conns).(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			for until := time.Now().Add(proxytest.Patience); ; {
				r, err := mptcp.LastReceived(c.link.Raw())
				if err != nil || r.State != mptcp.StateEstablished {
					break // the reader may have closed it by now
				}
				if time.Now().After(until) {
					t.Fatal("no FIN came")
				}
			}
			if got := ask(t, b, "POST"); got != "HTTP/2.0" {
				t.Fatalf("got %q", got)
			}
			if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_connects_total"); n != 2 {
				t.Fatalf("%v connects, want a second one after the end of the first", n)
			}
		}
	}
}

// remembering is a listener that sends what it accepts to a channel.
type remembering struct {
	net.Listener
	conns chan net.Conn
}

func (l *remembering) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.conns <- c
	}
	return c, err
}
