package proxy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
)

// testHost is the name in the certificates of these tests.
const testHost = "a.example"

// certificate is one that signs itself, and who trusts it.
type certificate struct {
	tls.Certificate
	roots *x509.CertPool
}

var cachedCert = sync.OnceValues(func() (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		DNSNames: []string{testHost, "b.example", "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := &certificate{Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		roots: x509.NewCertPool()}
	c.roots.AddCert(leaf)
	return c, nil
})

func testCert(t testing.TB) *certificate {
	t.Helper()
	c, err := cachedCert()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// policies is how a program that embeds the proxy may terminate TLS: without package certs, which
// is tested with the gateway.
type policies struct {
	config *tls.Config
	byHost map[string]uint64 // all others have policy 1
	terms  map[uint64]*proxy.Terms
	gone   map[uint64]bool
}

func onePolicy(t testing.TB) *policies {
	return &policies{config: &tls.Config{
		Certificates: []tls.Certificate{testCert(t).Certificate}, NextProtos: []string{"http/1.1"},
		MinVersion: tls.VersionTLS12,
	}}
}

func (p *policies) ServerConfig() *tls.Config { return p.config }

func (p *policies) Done(state *tls.ConnectionState, err error) (uint64, bool) {
	return p.PolicyFor([]byte(strings.ToLower(state.ServerName))), err == nil
}

func (p *policies) PolicyFor(host []byte) uint64 {
	if id, ok := p.byHost[string(host)]; ok {
		return id
	}
	return 1
}

func (p *policies) Has(id uint64) bool { return !p.gone[id] }

func (p *policies) Single() bool { return len(p.byHost) == 0 }

func (p *policies) Terms(id uint64) *proxy.Terms { return p.terms[id] }

func (g *gateway) speakTLS(c *proxytest.Client) {
	g.t.Helper()
	c.Secure(&tls.Config{ServerName: testHost, RootCAs: testCert(g.t).roots})
}

// backendWith makes a further backend, which runs as long as the test.
func backendWith(t testing.TB, m mode, o backend.Options, origins ...*proxytest.Origin) *backend.Backend {
	t.Helper()
	for _, origin := range origins {
		o.Servers = append(o.Servers, backend.ServerOptions{Address: origin.Address(), MPTCP: m.mptcp})
	}
	return runBackend(t, o)
}

// runBackend makes a backend that runs as long as the test.
func runBackend(t testing.TB, o backend.Options) *backend.Backend {
	t.Helper()
	b, err := backend.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return b
}
