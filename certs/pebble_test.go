package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"mpgate/internal/acmetest"
)

// pebbleCA is a running pebble, and the front that answers its challenges: HTTP and TLS on sockets
// of our own.
type pebbleCA struct {
	*acmetest.Pebble
	t      *testing.T
	front  atomic.Pointer[Manager] // answers HTTP-01
	set    atomic.Pointer[Set]     // answers TLS, and so TLS-ALPN-01
	server *server
}

type pebbleOptions struct {
	validity int // seconds
	eab      bool
}

func newPebble(t *testing.T, o pebbleOptions) *pebbleCA {
	t.Helper()
	p := &pebbleCA{t: t}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m := p.front.Load(); m != nil && IsACMEChallenge([]byte(r.URL.Path)) {
			m.ACMEHandler().ServeHTTP(w, r)
			return
		}
		fmt.Fprint(w, "a route")
	})}
	var tasks sync.WaitGroup
	tasks.Go(func() { web.Serve(ln) })
	t.Cleanup(func() { web.Close(); tasks.Wait() })
	p.server = serveAny(t, p.set.Load)
	p.Pebble = acmetest.New(t, acmetest.Options{
		Validity: o.validity, EAB: o.eab, HTTPPort: port(ln.Addr().String()), TLSPort: port(p.server.addr),
	})
	return p
}

func port(addr string) int {
	a, _ := net.ResolveTCPAddr("tcp", addr)
	return a.Port
}

func (p *pebbleCA) acme(challenge string, domains ...string) *ACME {
	return &ACME{
		Domains: domains, CA: p.Directory(), CARoot: p.CARoot,
		Email: "x@example.test", Challenges: []string{challenge},
	}
}

// serve opens o with m and puts both to the front.
func (p *pebbleCA) serve(m *Manager, o Options) *Set {
	p.t.Helper()
	o.Listener = "web"
	set, err := m.Open(o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(set.Close)
	p.set.Store(set)
	p.front.Store(m)
	set.Start()
	return set
}

// leaf connects and verifies.
func (p *pebbleCA) leaf(name string, roots *x509.CertPool) *x509.Certificate {
	p.t.Helper()
	cs, err := p.server.dial(p.t, &tls.Config{ServerName: name, RootCAs: roots})
	if err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	return cs.PeerCertificates[0]
}
