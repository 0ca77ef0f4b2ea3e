package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"

	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/mptcp/paths"
)

// TestRetiredServerConnections: what a path that is back has told about ends once it is idle, and a
// new one takes its place.
func TestRetiredServerConnections(t *testing.T) {
	t.Parallel()
	proxytest.NeedMPTCP(t)
	ca := acmetest.NewCA(t)
	for _, protocol := range []string{"h1", "h2c", "h1 over TLS", "h2 over TLS"} {
		t.Run(protocol, func(t *testing.T) {
			protocol, secure := strings.CutSuffix(protocol, " over TLS")
			slow, release := make(chan struct{}), make(chan struct{})
			address := originOver(t, ca, secure, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					slow <- struct{}{}
					<-release
				}
				_, _ = io.WriteString(w, r.RemoteAddr)
			})
			more := fmt.Sprintf("protocol = %q\n", protocol)
			if secure {
				more += fmt.Sprintf("tls = { ca = %q, server_name = \"app.example\" }", ca.File)
			}
			r := startRig(t, head+listenerTable("web", "127.0.0.1:0", "")+routeTable("all", "", "app")+backendTable("app", address, more), nil)
			get := func() string {
				t.Helper()
				c := proxytest.Dial(t, r.address("web"), mptcp.Off)
				defer c.Close()
				a := c.Get("/")
				if a.Status != 200 {
					t.Fatalf("%+v", a)
				}
				return a.Body
			}
			first := get()
			if again := get(); again != first {
				t.Fatalf("the connection was not used again: %s, then %s", first, again)
			}
			held := proxytest.Dial(t, r.address("web"), mptcp.Off)
			held.Send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
			<-slow
			for c := range r.liveConnections { // as the manager of paths does
				if c.Side == paths.Back {
					c.Owner.Retire()
				}
			}
			second := get()
			if second == first {
				t.Error("a connection that was to be replaced was used again")
			}
			close(release)
			if a := held.Answer(); a.Status != 200 || a.Body == second {
				t.Errorf("%+v", a)
			}
			if !proxytest.Within(patience, func() bool { return r.back.Len() == 1 }) {
				t.Errorf("%d connections are open, want one", r.back.Len())
			}
			if third := get(); third != second {
				t.Errorf("served by %s, want %s", third, second)
			}
		})
	}
}

// originOver is a server over MPTCP, with TLS or without, that takes HTTP/1 and HTTP/2.
func originOver(t *testing.T, ca *acmetest.CA, secure bool, h http.HandlerFunc) string {
	t.Helper()
	ln := proxytest.Listen(t, mptcp.Prefer)
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &p, ErrorLog: log.New(io.Discard, "", 0), Handler: h}
	serve := func() error { return srv.Serve(ln) }
	if secure {
		cert, key := ca.PairIn(t.TempDir(), &x509.Certificate{DNSNames: []string{"app.example"}})
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
		serve = func() error { return srv.ServeTLS(ln, "", "") }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve()
	}()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String()
}
