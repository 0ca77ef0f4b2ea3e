package certs

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// backend is a server with mTLS on, as ClientConfig's tests meet it.
func backend(t *testing.T, ca *testCA, names *x509.Certificate) *server {
	t.Helper()
	m, _ := newManager(t, nil)
	return serve(t, open(t, m, Options{Policy: Policy{
		Certificates: []Pair{ca.pairIn(t.TempDir(), names)}, ClientAuth: "verify_if_given", ClientCA: ca.file,
	}}))
}

func TestClientConfig(t *testing.T) {
	ca, stranger := newCA(t), newCA(t)
	uri, _ := url.Parse("spiffe://td.example/api")
	s := backend(t, ca, &x509.Certificate{DNSNames: []string{"api.internal"}, URIs: []*url.URL{uri}})
	me := ca.pair("gateway.internal")
	for name, c := range map[string]struct {
		o    ClientOptions
		want string
	}{
		"good":                 {ClientOptions{CA: ca.file, ServerName: "api.internal"}, ""},
		"system's CAs":         {ClientOptions{ServerName: "api.internal"}, "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		"another CA":           {ClientOptions{CA: stranger.file, ServerName: "api.internal"}, "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		"another name":         {ClientOptions{CA: ca.file, ServerName: "db.internal"}, "tls: failed to verify certificate: x509: certificate is valid for api.internal, not db.internal"},
		"an address":           {ClientOptions{CA: ca.file, ServerName: "127.0.0.1"}, "tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"},
		"pinned":               {ClientOptions{CA: ca.file, ServerName: "db.internal", SAN: []string{"spiffe://td.example/api"}}, ""},
		"pinned, no name":      {ClientOptions{CA: ca.file, SAN: []string{"*.internal"}}, ""},
		"pinned to another":    {ClientOptions{CA: ca.file, ServerName: "api.internal", SAN: []string{"spiffe://td.example/db"}}, `tls: failed to verify certificate: none of the certificate's names ["api.internal" "spiffe://td.example/api"] is pinned (["spiffe://td.example/db"])`},
		"pinned, untrusted":    {ClientOptions{CA: stranger.file, SAN: []string{"*.internal"}}, "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		"not verified":         {ClientOptions{ServerName: "x", SkipVerify: true}, ""},
		"with a certificate":   {ClientOptions{CA: ca.file, ServerName: "api.internal", Cert: me.Cert, Key: me.Key}, ""},
		"min_version and ALPN": {ClientOptions{CA: ca.file, ServerName: "api.internal", MinVersion: "1.3", ALPN: []string{"h2"}}, ""},
	} {
		cfg, err := ClientConfig(c.o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, v := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
			if c.o.MinVersion == "1.3" && v == tls.VersionTLS12 {
				continue
			}
			vcfg := cfg.Clone()
			vcfg.MaxVersion = v
			cs, err := s.dial(t, vcfg)
			if got := errText(err); got != c.want && !(c.want != "" && strings.HasPrefix(got, c.want)) {
				t.Errorf("%s: got %v, want %q", name, err, c.want)
			}
			srv := wait(t, "the server's side", s.conns)
			if err != nil {
				continue
			}
			if len(c.o.ALPN) > 0 && cs.NegotiatedProtocol != c.o.ALPN[0] {
				t.Errorf("%s: ALPN is %q", name, cs.NegotiatedProtocol)
			}
			if (len(srv.state.PeerCertificates) > 0) != (c.o.Cert != "") {
				t.Errorf("%s: the server saw %d certificates", name, len(srv.state.PeerCertificates))
			}
			vcfg.MinVersion = v
			if cs, err := s.dial(t, vcfg); err != nil || !cs.DidResume {
				t.Errorf("%s: not resumed (%v)", name, err)
			}
			wait(t, "the server's side", s.conns)
		}
	}
}

func TestClientConfigFaults(t *testing.T) {
	ca := newCA(t)
	a, b := ca.pair("a"), ca.pair("b")
	for name, c := range map[string]struct {
		o    ClientOptions
		want string
	}{
		"no name":      {ClientOptions{}, "server_name or san must be set: there is no name to verify"},
		"half a pair":  {ClientOptions{ServerName: "x", Cert: "c"}, `cert and key must be set together (got cert = "c", key = "")`},
		"mismatch":     {ClientOptions{ServerName: "x", Cert: a.Cert, Key: b.Key}, "cert: certificate " + a.Cert + " with key " + b.Key + ": tls: private key does not match public key"},
		"CA missing":   {ClientOptions{ServerName: "x", CA: "/nonexistent"}, "ca: cannot read the CA file: open /nonexistent: no such file or directory"},
		"pins nothing": {ClientOptions{SkipVerify: true, SAN: []string{"x"}}, "verify = false cannot be combined with ca or san"},
		"pattern":      {ClientOptions{SAN: []string{"email:x"}}, `san: bad name pattern: not an e-mail address (got "email:x")`},
		"version":      {ClientOptions{ServerName: "x", MinVersion: "1.1"}, `min_version: unknown version (got "1.1"); "1.2" or "1.3"`},
	} {
		if _, err := ClientConfig(c.o); errText(err) != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// The client certificate and the CA change on disk.
func TestClientConfigReload(t *testing.T) {
	ca, next := newCA(t), newCA(t)
	s := backend(t, ca, &x509.Certificate{DNSNames: []string{"api.internal"}})
	dir := t.TempDir()
	me := ca.pairIn(dir, &x509.Certificate{DNSNames: []string{"old.internal"}})
	caFile := filepath.Join(dir, "ca.pem")
	writeFile(t, caFile, certPEM(ca.cert))
	log := &logBuffer{}
	cfg, err := ClientConfig(ClientOptions{
		CA: caFile, ServerName: "api.internal", Cert: me.Cert, Key: me.Key,
		FilePoll: time.Nanosecond, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := func() (string, bool) {
		t.Helper()
		_, srv := s.must(t, cfg)
		return srv.state.PeerCertificates[0].DNSNames[0], srv.state.DidResume
	}
	if name, _ := seen(); name != "old.internal" {
		t.Errorf("the server saw %q", name)
	}
	if _, resumed := seen(); !resumed {
		t.Error("not resumed")
	}
	ca.pairIn(dir, &x509.Certificate{DNSNames: []string{"new.internal"}})
	if name, resumed := seen(); name != "new.internal" || resumed {
		t.Errorf("the server saw %q, resumed = %v", name, resumed)
	}
	// Bad files leave the old ones, and are said once.
	os.WriteFile(me.Key, []byte("no key"), 0o600)
	for range 3 {
		if name, _ := seen(); name != "new.internal" {
			t.Errorf("the server saw %q", name)
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), me.Key) {
		t.Errorf("said %d times:\n%s", n, log)
	}
	ca.pairIn(dir, &x509.Certificate{DNSNames: []string{"new.internal"}})
	// A CA that did not sign the server: refused, although there is a session.
	seen()
	writeFile(t, caFile, certPEM(next.cert))
	if _, err := s.dial(t, cfg); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got %v, want the server to be refused", err)
	}
}
