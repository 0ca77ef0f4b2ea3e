package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/message"
)

// clientTLS is the TLS of a backend whose servers are verified with roots, under a name.
func clientTLS(roots *x509.CertPool, name string) func(string) (*tls.Config, error) {
	return func(string) (*tls.Config, error) { return &tls.Config{RootCAs: roots, ServerName: name}, nil }
}

// tlsOrigin is a server of HTTP/1 over TLS that offers what it is given by ALPN; nothing is a
// server without ALPN.
func tlsOrigin(t testing.TB, serve func(*proxytest.Conn), offers ...string) *proxytest.Origin {
	t.Helper()
	c := &tls.Config{Certificates: []tls.Certificate{testCert(t).Certificate}, NextProtos: offers}
	return proxytest.OriginOn(t, tls.NewListener(proxytest.Listen(t, mptcp.Off), c), serve)
}

// concurrencyServer is a server of net/http over TLS, which offers HTTP/2 and HTTP/1: it answers
// once as many requests are in it as it waits for, with the protocol and the connection of each.
type concurrencyServer struct {
	addr string
	mu   sync.Mutex
	n    int
	want int
	all  chan struct{} // closed when they have come
}

func newConcurrencyServer(t testing.TB, want int) *concurrencyServer {
	t.Helper()
	o := &concurrencyServer{want: want, all: make(chan struct{})}
	ln := proxytest.Listen(t, mptcp.Off)
	o.addr = ln.Addr().String()
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	srv := &http.Server{
		Handler: o, Protocols: &p, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{testCert(t).Certificate}},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { srv.Close(); <-done })
	return o
}

func (o *concurrencyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	if o.n++; o.n == o.want {
		close(o.all)
	}
	o.mu.Unlock()
	select {
	case <-o.all:
	case <-r.Context().Done():
		return
	}
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s %s %v", r.Proto, r.RemoteAddr, r.URL.Path, body, err)
}

// Where a server offers HTTP/2, requests of many clients share one connection to it, over TLS that
// is verified.
func TestHTTP2ToServersByALPN(t *testing.T) {
	t.Parallel()
	const clients = 16
	for name, protocol := range map[string]backend.Protocol{"auto": backend.Auto, "h2": backend.HTTP2} {
		for _, m := range []mode{plain, overTLS} {
			t.Run(name+" "+m.name, func(t *testing.T) {
				o := newConcurrencyServer(t, clients)
				g := startBefore(t, setup{mode: m, backend: backend.Options{Protocol: protocol,
					TLS: clientTLS(testCert(t).roots, testHost)}}, o.addr)
				var all []*proxytest.Client
				for i := range clients { // none is answered before all have come to the server
					c := g.client()
					c.Send(fmt.Sprintf("POST /%d HTTP/1.1\r\n%sContent-Length: 5\r\n\r\nhello", i, host))
					all = append(all, c)
				}
				on := map[string]bool{}
				for i, c := range all {
					a := c.AnswerTo("POST")
					words := strings.SplitN(a.Body, " ", 3)
					if a.Status != 200 || len(words) != 3 || words[0] != "HTTP/2.0" ||
						words[2] != fmt.Sprintf("/%d hello <nil>", i) {
						t.Fatalf("client %d got %d %q", i, a.Status, a.Body)
					}
					on[words[1]] = true
				}
				again := all[0].Get("/again") // a connection that was idle is used on
				on[strings.Split(again.Body, " ")[1]] = true
				want(t, "connections that the server saw", len(on), 1)
				for range clients + 1 {
					l := g.log.Next()
					want(t, "end", l.End, "ok")
					want(t, "status", l.Status, 200)
					want(t, "proto, which is the client's", l.Proto, "HTTP/1.1")
				}
				want(t, "connects", g.metric("mpgate_backend_connects_total", "result", "ok"), 1)
			})
		}
	}
}

// With auto, a server that does not offer HTTP/2 gets HTTP/1, on connections that are kept.
func TestAutoFallsBackToHTTP1(t *testing.T) {
	t.Parallel()
	for name, offers := range map[string][]string{"http/1.1": {"http/1.1"}, "no ALPN": nil} {
		t.Run(name, func(t *testing.T) {
			o := tlsOrigin(t, proxytest.Echo, offers...)
			g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}, backend: backend.Options{
				Protocol: backend.Auto, TLS: clientTLS(testCert(t).roots, testHost),
			}}, o)
			c := g.client()
			for range 3 {
				want(t, "body", c.Get("/x").Body, "GET /x ")
				want(t, "end", g.log.Next().End, "ok")
			}
			want(t, "connections to the server", o.Connections(), 1)
			g.bystander()
			s, resp := askHead(t, multiplexed(t, g.addr), &message.Request{Method: []byte("GET"), Scheme: "http",
				Host: []byte(testHost), Path: []byte("/none")})
			want(t, "status to a client of HTTP/2", resp.Status, 200)
			body, err := readRest(s)
			want(t, "body to it", body, "GET /none ")
			want(t, "error", err, nil)
			s.Release()
		})
	}
}

// A WebSocket goes by a connection of HTTP/1 where auto leaves the choice: not every server takes
// extended CONNECT.
func TestAutoUsesHTTP1ForWebSockets(t *testing.T) {
	t.Parallel()
	o := tlsOrigin(t, func(c *proxytest.Conn) {
		s := c.Conn.(*tls.Conn)
		if err := s.Handshake(); err != nil {
			t.Error(err)
			return
		}
		if got := s.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
			t.Errorf("the connection for a WebSocket has %q by ALPN, want http/1.1", got)
		}
		webSocketEcho(func(key string) string {
			return switchingFor(key)
		})(c)
	}, "h2", "http/1.1")
	g := start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.Auto,
		TLS: clientTLS(testCert(t).roots, testHost)}}, o)
	c := g.client()
	c.Send(webSocketRequest)
	want(t, "status", c.ReadHead().Status, 101)
	g.echoes(c, "hello")
	c.CloseWrite()
	c.WantClosed()
	want(t, "end", g.log.Next().End, "ok")
}

// Where HTTP/2 is asked for, a server without it gets no request; the client is told by a 502, the
// operator by the log.
func TestHTTP2IsRequiredOfServers(t *testing.T) {
	t.Parallel()
	for name, offers := range map[string][]string{"http/1.1": {"http/1.1"}, "no ALPN": nil} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{}, 2)
			o := tlsOrigin(t, func(c *proxytest.Conn) { proxytest.Echo(c); ended <- struct{}{} }, offers...)
			g := start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2,
				TLS: clientTLS(testCert(t).roots, testHost)}}, o)
			c := g.client()
			for range 2 { // and the client's connection lives on
				a := c.Get("/x")
				want(t, "status", a.Status, 502)
				contains(t, "the body", a.Body, "502 Bad Gateway: ", "the server")
				l := g.log.Next()
				want(t, "end", l.End, "backend_connect")
				want(t, "status in the log", l.Status, 502)
				want(t, "server in the log", l.Server, o.Address())
				next(t, "connection's end", ended) // it has read all that came
			}
			lacks(t, "what the server got", o.AllRaw(), "/x", "PRI * HTTP/2.0")
		})
	}
}

// ALPN does not stand in for verification: no request goes to a server that is not verified, or
// goes by another name.
func TestServersByALPNAreVerified(t *testing.T) {
	t.Parallel()
	for name, protocol := range map[string]backend.Protocol{"auto": backend.Auto, "h2": backend.HTTP2} {
		for fault, trust := range map[string]func(string) (*tls.Config, error){
			"a strange CA": clientTLS(x509.NewCertPool(), testHost),
			"another name": clientTLS(testCert(t).roots, "other.example"),
		} {
			t.Run(name+" "+fault, func(t *testing.T) {
				o := newConcurrencyServer(t, 1)
				g := startBefore(t, setup{mode: plain, backend: backend.Options{Protocol: protocol, TLS: trust}},
					o.addr)
				a := g.client().Get("/x")
				want(t, "status", a.Status, 502)
				contains(t, "the body", a.Body, "the TLS handshake with the server failed")
				want(t, "end", g.log.Next().End, "backend_connect")
				o.mu.Lock()
				defer o.mu.Unlock()
				want(t, "requests at the server", o.n, 0)
			})
		}
	}
}
