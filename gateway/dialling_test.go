package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// lateListener accepts connections of which nothing is read before release.
type lateListener struct {
	net.Listener
	release chan struct{}
	free    func() // closes it
	count   atomic.Int64
}

func (l *lateListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.count.Add(1)
	return &lateConn{c, l.release}, nil
}

type lateConn struct {
	net.Conn
	release chan struct{}
}

func (c *lateConn) Read(p []byte) (int, error) {
	<-c.release
	return c.Conn.Read(p)
}

// newLate is a server of net/http on a lateListener that echoes, over TLS unless protocol is "h1"
// or "h2c".
func newLate(t *testing.T, ca *acmetest.CA, protocol string) *lateListener {
	t.Helper()
	ln := &lateListener{Listener: proxytest.Listen(t, mptcp.Off), release: make(chan struct{})}
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Protocols: &p, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s %v", r.Method, r.URL.Path, body, err)
		}),
	}
	serve := srv.Serve
	if protocol != "h1" && protocol != "h2c" {
		cert, key := ca.PairIn(t.TempDir(), &x509.Certificate{DNSNames: []string{"app.example"}})
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = serve(ln) }()
	ln.free = sync.OnceFunc(func() { close(ln.release) })
	t.Cleanup(func() { ln.free(); srv.Close(); <-done })
	return ln
}

// A backend that is replaced, or a gateway that ends, while requests dial its servers loses none of
// them, and they share what was dialled for them as before.
func TestRequestsThatDialOutliveTheirBackend(t *testing.T) {
	t.Parallel()
	ca := acmetest.NewCA(t)
	const requests = 12
	for _, protocol := range []string{"h1", "h2c", "h2", "auto"} {
		for name, act := range map[string]func(r *rig, file func(timeout int) string){
			"reload":      func(r *rig, file func(int) string) { r.swap(file(11)) },
			"two reloads": func(r *rig, file func(int) string) { r.swap(file(11)); r.swap(file(12)) },
			"drain":       func(r *rig, _ func(int) string) { r.stop(); r.logs("draining") },
		} {
			t.Run(protocol+" "+name, func(t *testing.T) {
				t.Parallel()
				late := newLate(t, ca, protocol)
				file := func(timeout int) string {
					more := fmt.Sprintf("protocol = %q\nconnect_timeout = \"%ds\"\n", protocol, timeout)
					if protocol == "h2" || protocol == "auto" {
						more += fmt.Sprintf("tls = { ca = %q, server_name = \"app.example\" }\n", ca.File)
					}
					return head + listenerTable("web", "127.0.0.1:0", "") + routeTable("all", "", "app") +
						backendTable("app", late.Addr().String(), more)
				}
				r := startRig(t, file(10), nil)
				var clients []*proxytest.Client
				for i := range requests {
					c := proxytest.Dial(t, r.address("web"), mptcp.Off)
					if i%2 == 0 {
						c.Send(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i))
					} else {
						c.Send(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", i))
					}
					clients = append(clients, c)
				}
				proxytest.WaitMetric(t, r.metrics.Registry(), requests, "mpgate_http_requests_in_flight")
				act(r, file)
				late.free()
				for i, c := range clients {
					want := fmt.Sprintf("GET /%d  <nil>", i)
					if i%2 == 1 {
						want = fmt.Sprintf("POST /%d hello <nil>", i)
					}
					if a := c.Answer(); a.Status != 200 || a.Body != want {
						t.Errorf("request %d got %d %q, want %q", i, a.Status, a.Body, want)
					}
				}
				if n := late.count.Load(); protocol != "h1" && n != 1 {
					t.Errorf("%d connections, want one for all", n)
				}
			})
		}
	}
}
