package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"testing"

	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// protocolServer runs a server over TLS that answers with the protocol of the request; it offers
// HTTP/1, and HTTP/2 if two is true.
func protocolServer(t *testing.T, ca *acmetest.CA, two bool) string {
	t.Helper()
	cert, key := ca.PairIn(t.TempDir(), &x509.Certificate{DNSNames: []string{"app.example"}})
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ln := proxytest.Listen(t, mptcp.Off)
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(two)
	srv := &http.Server{
		Protocols: &p, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(ln, "", "")
	}()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String()
}

// The protocol of a backend is the one that its servers receive, over TLS that is verified with
// any of them.
func TestServersProtocolsByConfiguration(t *testing.T) {
	t.Parallel()
	ca, stranger := acmetest.NewCA(t), acmetest.NewCA(t)
	both, one := protocolServer(t, ca, true), protocolServer(t, ca, false)
	front := head + listenerTable("web", "127.0.0.1:0", "") + routeTable("all", "", "app")
	app := func(protocol, server, file, name string) string {
		return front + backendTable("app", server, fmt.Sprintf("protocol = %q\ntls = { ca = %q, server_name = %q }", protocol, file, name))
	}
	r := startRig(t, app("h1", both, ca.File, "app.example"), nil)
	for _, tt := range []struct {
		protocol, server, file, name string
		status                       int
		body                         string
	}{
		{"h1", both, ca.File, "app.example", 200, "HTTP/1.1"},
		{"h2", both, ca.File, "app.example", 200, "HTTP/2.0"},
		{"auto", both, ca.File, "app.example", 200, "HTTP/2.0"},
		{"h1", one, ca.File, "app.example", 200, "HTTP/1.1"},
		{"h2", one, ca.File, "app.example", 502, ""},
		{"auto", one, ca.File, "app.example", 200, "HTTP/1.1"},
		{"h2", both, stranger.File, "app.example", 502, ""},
		{"auto", both, stranger.File, "app.example", 502, ""},
		{"h2", both, ca.File, "other.example", 502, ""},
		{"auto", both, ca.File, "other.example", 502, ""},
	} {
		r.swap(app(tt.protocol, tt.server, tt.file, tt.name))
		c := proxytest.Dial(t, r.address("web"), mptcp.Off)
		a := c.Get("/")
		if a.Status != tt.status || tt.status == 200 && a.Body != tt.body {
			t.Errorf("protocol %q, ca %q, name %q: got %d %q, want %d %q", tt.protocol, tt.file, tt.name, a.Status, a.Body, tt.status, tt.body)
		}
		c.Close()
	}
}
