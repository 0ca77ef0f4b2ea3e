package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/http2"
	"mpgate/proxy/message"
	"mpgate/proxy/preread"
)

// prefixedConn is a connection whose PROXY header was read.
type prefixedConn struct {
	net.Conn
	r *bufio.Reader
}

func (h prefixedConn) Read(p []byte) (int, error) { return h.r.Read(p) }

// life is what a server saw of one connection, once that has ended.
type life struct {
	header preread.Proxy
	paths  []string
}

// proxyHeaderOrigin is a server of HTTP/2 behind PROXY headers. It answers once as many requests
// have come as it waits for, with the header's source; at the end of a connection it tells what
// that was.
func proxyHeaderOrigin(t *testing.T, secure bool, all <-chan struct{}, came chan<- string,
	lives chan<- life) *proxytest.Origin {
	return proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		var l life
		var err error
		if l.header, err = proxytest.ReadProxyHeader(c.R); err != nil {
			t.Errorf("no PROXY header: %v", err)
			return
		}
		var nc net.Conn = prefixedConn{c.Conn, c.R}
		if secure {
			s := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{testCert(t).Certificate},
				NextProtos: []string{"h2"}})
			if err := s.Handshake(); err != nil {
				t.Errorf("handshake behind the PROXY header: %v", err)
				return
			}
			nc = s
		}
		paths := make(chan string, 16)
		//lint:ignore SA1019 net/http's server takes a listener, and this connection has none
		(&xhttp2.Server{}).ServeConn(nc, &xhttp2.ServeConnOpts{Handler: http.HandlerFunc(func(w http.ResponseWriter,
			r *http.Request) {
			paths <- r.URL.Path
			came <- r.URL.Path
			select {
			case <-all:
			case <-r.Context().Done():
			}
			fmt.Fprintf(w, "%s %s", l.header.Source, r.URL.Path)
		})})
		for len(paths) > 0 {
			l.paths = append(l.paths, <-paths)
		}
		lives <- l
	})
}

// A PROXY header is one client's: to servers of HTTP/2 too, each exchange has a connection of its
// own, which begins with the header of its client and ends with it.
func TestProxyHeaderToServersOfHTTP2(t *testing.T) {
	t.Parallel()
	const one, two = "192.0.2.7:4711", "[2001:db8::8]:4712"
	for _, version := range []uint8{1, 2} {
		for name, secure := range map[string]bool{"h2c": false, "h2": true} {
			t.Run(fmt.Sprintf("v%d %s", version, name), func(t *testing.T) {
				all, came, lives := make(chan struct{}), make(chan string, 16), make(chan life, 16)
				o := proxyHeaderOrigin(t, secure, all, came, lives)
				b := backend.Options{Protocol: backend.HTTP2, SendProxy: version}
				if secure {
					b.TLS = clientTLS(testCert(t).roots, testHost)
				}
				g := start(t, setup{mode: plain, backend: b, listener: proxy.ListenerOptions{
					H2C: true, ProxyHeader: proxy.ProxyRequired, ProxyHeaderFrom: anyLocal,
				}}, o)
				// Three exchanges at a time: one of a client of HTTP/1, two of one of HTTP/2 on the
				// same connection.
				h1 := g.sendProxyHeader("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", 1000)
				h1.Send("GET /one HTTP/1.1\r\n" + host + "\r\n")
				h2 := multiplexedBehind(t, g.addr, header2(two, "[2001:db8::1]:443"))
				var streams []*http2.ClientStream
				for i := range 2 {
					s, err := h2.Open()
					if err != nil {
						t.Fatal(err)
					}
					r := &message.Request{Method: []byte("GET"), Scheme: "http", Host: []byte("h"),
						Path: fmt.Appendf(nil, "/two/%d", i)}
					if err := s.WriteHead(r); err != nil {
						t.Fatal(err)
					}
					if err := s.Flush(); err != nil {
						t.Fatal(err)
					}
					streams = append(streams, s)
				}
				for range 3 {
					next(t, "request at the server", came)
				}
				close(all)
				want(t, "body", h1.Answer().Body, one+" /one")
				for i, s := range streams {
					var resp message.Response
					if err := s.ReadHead(&resp, time.Now().Add(proxytest.Patience)); err != nil {
						t.Fatal(err)
					}
					body, err := readRest(s)
					want(t, "body", body, fmt.Sprintf("%s /two/%d", two, i))
					want(t, "error", err, nil)
					s.Release()
				}
				// A further one of the first client uses none of these connections, though they
				// would be free.
				want(t, "body", h1.Get("/again").Body, one+" /again")
				seen := map[string]string{}
				for range 4 { // the gateway ends them; the client's connections are open yet
					l := next(t, "connection's end", lives)
					if len(l.paths) != 1 {
						t.Errorf("a connection with the header of %s carried %q", l.header.Source, l.paths)
						continue
					}
					want(t, "version of the header", l.header.Version, version)
					want(t, "what the header says of "+l.paths[0], l.header.Source.String(),
						map[bool]string{true: two, false: one}[l.paths[0][:4] == "/two"])
					seen[l.paths[0]] = l.header.Source.String()
				}
				want(t, "paths that came", len(seen), 4)
				want(t, "connections to the server", o.Connections(), 4)
				for range 4 {
					want(t, "end", g.log.Next().End, "ok")
				}
			})
		}
	}
}

// next waits for what comes, if nothing is broken.
func next[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(proxytest.Patience):
		t.Fatalf("no further %s", what)
		panic("unreachable")
	}
}
