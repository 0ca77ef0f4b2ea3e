package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"

	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// The whole way: a first start with the CA away, certificates by each challenge, and their renewal,
// all while the gateway runs.
func TestACME(t *testing.T) {
	for _, challenge := range []string{"http-01", "tls-alpn-01", "dns-01"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			testACME(t, challenge)
		})
	}
}

func testACME(t *testing.T, challenge string) {
	web, secure := proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	ca := acmetest.New(t, acmetest.Options{Validity: 15, HTTPPort: portOf(t, web), TLSPort: portOf(t, secure)})
	ca.Stop()
	more, name := "", "a.example.test"
	if challenge == "dns-01" {
		name = "*.example.test"
		more = fmt.Sprintf("dns = { resolvers = [%q], rfc2136 = { server = %q, key_name = %q, key_secret = %q } }\n",
			ca.DNS.Addr, ca.DNS.Addr, acmetest.TSIGName, acmetest.TSIGSecret)
	}
	// A redirect would catch the challenge on the listener that the CA asks, and a route for its
	// path as well.
	file := head + listenerTable("web", web, "redirect_https = true\nhealth_path = \"/health\"") +
		listenerTable("secure", secure, fmt.Sprintf("[listener.tls.acme]\ndomains = [%q]\nemail = \"x@example.test\"\nca = %q\nca_root = %q\nchallenges = [%q]\n%s",
			name, ca.Directory(), ca.CARoot, challenge, more)) +
		routeTable("all", `path = "/*"`, "app") + routeTable("catches", `path = "/.well-known/*"`, "app") + backendTable("app", named(t, "app"), "")
	r := startRig(t, file, nil)

	// Ready, plain HTTP served, and the handshake refused by name.
	if got := fetch(t, "http://"+web+"/health"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("plain HTTP gets %s", got)
	}
	r.logs(`level=ERROR msg="cannot get a certificate" name="?` + strings.ReplaceAll(name, "*", `\*`) + `"? .*serving=none.*connection refused`)
	_, err := tls.Dial("tcp", secure, &tls.Config{ServerName: "a.example.test", InsecureSkipVerify: true})
	if err == nil || err.Error() != "remote error: tls: unrecognized name" {
		t.Errorf("the handshake without a certificate: %v", err)
	}
	if c := r.Status().Certificates; len(c) != 1 || c[0].Name != name || !strings.Contains(c[0].Error, "connection refused") || !c[0].NotAfter.IsZero() {
		t.Errorf("status: %+v", c)
	}
	proxytest.WaitMetric(t, r.metrics.Registry(), 1, "mpgate_tls_certificate_failing", "name", name)

	// The CA is there; a reload tries again at once.
	ca.Start()
	r.swap(file)
	first := r.leaf(secure, "a.example.test", ca.Roots)
	proxytest.WaitMetric(t, r.metrics.Registry(), 0, "mpgate_tls_certificate_failing", "name", name)
	if until := proxytest.Metric(t, r.metrics.Registry(), "mpgate_tls_certificate_not_after_timestamp_seconds", "name", name); until < float64(first.NotAfter.Unix()) {
		t.Errorf("the metric says %v, the certificate %v", until, first.NotAfter.Unix())
	}

	// A connection of before continues while the certificate is renewed.
	c := proxytest.Dial(t, secure, mptcp.Off)
	c.Secure(&tls.Config{ServerName: "a.example.test", InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	get := func() {
		t.Helper()
		c.Send("GET / HTTP/1.1\r\nHost: a.example.test\r\n\r\n")
		if a := c.Answer(); a.Body != "app" {
			t.Errorf("got %d %q", a.Status, a.Body)
		}
	}
	get()
	if !proxytest.Within(patience, func() bool { return !r.leaf(secure, "a.example.test", ca.Roots).Equal(first) }) {
		t.Fatalf("not renewed:\n%s", r.log)
	}
	get()
	if a := proxytest.Dial(t, web, mptcp.Off).Get("/.well-known/acme-challenge/not-ours"); a.Status != 308 {
		t.Errorf("a challenge of others gets %d, want 308", a.Status)
	}
	if c := r.Status().Certificates; len(c) != 1 || c[0].Error != "" || c[0].NotAfter.IsZero() || c[0].Issuer == "" {
		t.Errorf("status: %+v", c)
	}

	// What is no longer configured leaves status and metrics.
	r.swap(head + listenerTable("web", web, "") + routeTable("all", `path = "/*"`, "app") + backendTable("app", named(t, "app"), ""))
	if !proxytest.Within(patience, func() bool { return len(r.Status().Certificates) == 0 && !r.measures(name) }) {
		t.Errorf("status or metrics still have it: %+v", r.Status().Certificates)
	}
}

// leaf waits for a handshake that verifies.
func (r *rig) leaf(address, name string, roots func() *x509.CertPool) (leaf *x509.Certificate) {
	r.t.Helper()
	var last error
	pool := roots()
	if !proxytest.Within(patience, func() bool {
		c, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, RootCAs: pool})
		if err != nil {
			last = err
			return false
		}
		leaf = c.ConnectionState().PeerCertificates[0]
		_ = c.Close()
		return true
	}) {
		r.t.Fatalf("%s: %v\n%s", name, last, r.log)
	}
	return leaf
}

func portOf(t testing.TB, address string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

// measures says whether any metric has a label of that value.
func (r *rig) measures(value string) bool {
	r.t.Helper()
	families, err := r.metrics.Registry().Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == value {
					return true
				}
			}
		}
	}
	return false
}

// Two gateways, as of two hosts, on one storage: what one has obtained the other serves.
func TestACMEStorageIsShared(t *testing.T) {
	t.Parallel()
	web, secure, other := proxytest.FreeAddress(t), proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	ca := acmetest.New(t, acmetest.Options{HTTPPort: portOf(t, web), TLSPort: portOf(t, secure)})
	state := t.TempDir()
	file := func(plain, address string) string {
		return strings.Replace(head, `"state"`, fmt.Sprintf("%q", state), 1) + plain +
			listenerTable("secure", address, fmt.Sprintf("[listener.tls.acme]\ndomains = [\"a.example.test\"]\nca = %q\nca_root = %q\nchallenges = [\"http-01\"]\n", ca.Directory(), ca.CARoot)) +
			routeTable("all", `path = "/*"`, "app") + backendTable("app", "127.0.0.1:1", "")
	}
	// Only the first can be asked by the CA: it answers for the second, too.
	one := startRig(t, file(listenerTable("web", web, ""), secure), nil)
	two := startRig(t, file("", other), nil)
	a, b := one.leaf(secure, "a.example.test", ca.Roots), two.leaf(other, "a.example.test", ca.Roots)
	if !a.Equal(b) || ca.Issued() != 1 {
		t.Errorf("%d certificates were issued, want 1", ca.Issued())
	}
}
