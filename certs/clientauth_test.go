package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestClientAuth(t *testing.T) {
	ca, stranger := newCA(t), newCA(t)
	uri, _ := url.Parse("spiffe://td.example/ns/prod/api")
	full := func() *x509.Certificate {
		return &x509.Certificate{DNSNames: []string{"api.clients.example"}, URIs: []*url.URL{uri}, EmailAddresses: []string{"ops@Example.org"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 7)}}
	}
	me, other := ca.client(full()), stranger.client(full())
	expired := full()
	expired.NotAfter = time.Now().Add(-time.Minute)
	old := ca.client(expired)
	const (
		required = "remote error: tls: certificate required"
		unknown  = "remote error: tls: unknown certificate authority"
		bad      = "remote error: tls: bad certificate"
		tooOld   = "remote error: tls: expired certificate"
	)
	for _, c := range []struct {
		mode   string
		san    []string
		cert   *tls.Certificate
		refuse string
		// what is known of the client otherwise
		known, verified bool
	}{
		{"off", nil, me, "", false, false},
		{"request", nil, nil, "", false, false},
		{"request", nil, other, "", true, false},
		{"verify_if_given", nil, nil, "", false, false},
		{"verify_if_given", nil, me, "", true, true},
		{"verify_if_given", nil, other, unknown, false, false},
		{"verify_if_given", []string{"you.example"}, me, bad, false, false},
		{"require", nil, nil, required, false, false},
		{"require", nil, me, "", true, true},
		{"require", nil, other, unknown, false, false},
		{"require", nil, old, tooOld, false, false},
		{"require", []string{"api.clients.example"}, me, "", true, true},
		{"require", []string{"*.clients.example"}, me, "", true, true},
		{"require", []string{"*.example"}, me, bad, false, false},
		{"require", []string{"clients.example"}, me, bad, false, false},
		{"require", []string{"spiffe://td.example/ns/prod/*"}, me, "", true, true},
		{"require", []string{"spiffe://td.example/ns/prod/api"}, me, "", true, true},
		{"require", []string{"spiffe://td.example/ns/prod"}, me, bad, false, false},
		{"require", []string{"spiffe://td.example/ns/dev/*"}, me, bad, false, false},
		{"require", []string{"ops@example.ORG"}, me, "", true, true},
		{"require", []string{"OPS@example.org"}, me, bad, false, false},
		{"require", []string{"::ffff:192.0.2.7"}, me, "", true, true},
		{"require", []string{"dns:192.example", "ip:192.0.2.8"}, me, bad, false, false},
	} {
		m, _ := newManager(t, nil)
		p := Policy{Certificates: []Pair{ca.pair("a.example")}, ClientAuth: c.mode, ClientSAN: c.san}
		if c.mode == "require" || c.mode == "verify_if_given" {
			p.ClientCA = ca.file
		}
		s := serve(t, open(t, m, Options{Policy: p}))
		cfg := &tls.Config{ServerName: "a.example", RootCAs: ca.pool()}
		if c.cert != nil {
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert, nil }
		}
		if c.refuse != "" {
			s.refused(t, cfg, c.refuse, ResultClientCertificate)
			continue
		}
		_, srv := s.must(t, cfg)
		id := IdentityOf(&srv.state)
		if (id != nil) != c.known || id != nil && id.Verified != c.verified {
			t.Errorf("%s %q: identity is %+v", c.mode, c.san, id)
		}
	}
}

func TestIdentity(t *testing.T) {
	ca := newCA(t)
	uri, _ := url.Parse("spiffe://td.example/a,DNS:admin.example")
	c := ca.client(&x509.Certificate{
		Subject:        pkix.Name{CommonName: "me\r\nX-Admin: 1", Organization: []string{"Ö, Inc"}},
		DNSNames:       []string{"me.example"},
		EmailAddresses: []string{"me@example.org"},
		URIs:           []*url.URL{uri},
	})
	cs := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.Leaf}, VerifiedChains: [][]*x509.Certificate{{c.Leaf}}}
	id := IdentityOf(cs)
	if want := `CN=me\0D\0AX-Admin: 1,O=\C3\96\, Inc`; id.Subject != want {
		t.Errorf("Subject is %q, want %q", id.Subject, want)
	}
	if want := "DNS:me.example,URI:spiffe%3A%2F%2Ftd.example%2Fa%2CDNS%3Aadmin.example,email:me%40example.org"; id.SANs != want {
		t.Errorf("SANs is %q, want %q", id.SANs, want)
	}
	text, err := url.QueryUnescape(id.PEM)
	if block, _ := pem.Decode([]byte(text)); err != nil || block == nil || string(block.Bytes) != string(c.Leaf.Raw) {
		t.Errorf("PEM does not hold the certificate: %q", id.PEM)
	}
	if id.Fingerprint != fileSum(c.Leaf.Raw) || len(id.URI) != 1 || len(id.DNS) != 1 || len(id.Email) != 1 || !id.Verified {
		t.Errorf("got %+v", id)
	}
	for _, v := range []string{id.Subject, id.SANs, id.PEM, id.Fingerprint, id.Serial} {
		if strings.ContainsAny(v, "\r\n\x00") {
			t.Errorf("%q cannot stand in a header", v)
		}
	}
	if IdentityOf(&tls.ConnectionState{}) != nil {
		t.Error("nobody has an identity")
	}
}

func TestSANBelow(t *testing.T) {
	p, err := parseSAN("spiffe://td/ns/*")
	if err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]bool{
		"spiffe://td/ns/a": true, "spiffe://td/ns/a/b": true, "spiffe://td/ns": false, "spiffe://td/ns/": false,
		"spiffe://td/ns/../x": false, "spiffe://td/ns/x/..": false, "spiffe://td/nsx": false, "spiffe://td/ns/%2e%2e/x": false,
	} {
		u, _ := url.Parse(uri)
		if got := matchSAN([]sanPattern{p}, &x509.Certificate{URIs: []*url.URL{u}}); got != want {
			t.Errorf("%s: got %v, want %v", uri, got, want)
		}
	}
}
