package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mpgate/config"
	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// tlsTable is a listener named secure with TLS on any port; more are lines of its table
// [listener.tls].
func tlsTable(more string) string {
	return "[[listener]]\nname = \"secure\"\naddress = \"127.0.0.1:0\"\n[listener.tls]\n" + more + "\n"
}

// address is that of a listener's first socket.
func (r *rig) address(name string) string {
	r.t.Helper()
	for _, l := range r.Status().Listeners {
		if l.Name == name {
			return l.Sockets[0].Address
		}
	}
	r.t.Fatalf("no listener %s", name)
	return ""
}

func pairs(list ...[2]string) string {
	var all []string
	for _, p := range list {
		all = append(all, fmt.Sprintf("{ cert = %q, key = %q }", p[0], p[1]))
	}
	return "certificates = [ " + strings.Join(all, ", ") + " ]\n"
}

func pair(ca *acmetest.CA, t *testing.T, c *x509.Certificate) [2]string {
	cert, key := ca.PairIn(t.TempDir(), c)
	return [2]string{cert, key}
}

func app(t *testing.T) string {
	return routeTable("all", "", "app") + backendTable("app", named(t, "app"), "")
}

// handshake connects by a name and gives the state, or the error.
func handshake(address string, c *tls.Config) (tls.ConnectionState, error) {
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

func TestCertificateFiles(t *testing.T) {
	t.Parallel()
	ca := acmetest.NewCA(t)
	exact, wild := pair(ca, t, &x509.Certificate{DNSNames: []string{"a.example"}}), pair(ca, t, &x509.Certificate{DNSNames: []string{"*.example"}})
	soon := pair(ca, t, &x509.Certificate{DNSNames: []string{"soon.test"}, NotBefore: time.Now().AddDate(0, 0, -85), NotAfter: time.Now().Add(5 * 24 * time.Hour)})
	file := func(more string, list ...[2]string) string { return head + tlsTable(pairs(list...)+more) + app(t) }
	r := startRig(t, file("", exact, wild, soon), nil)
	address := r.address("secure")
	served := func(name string) string {
		t.Helper()
		s, err := handshake(address, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return err.Error()
		}
		return s.PeerCertificates[0].DNSNames[0]
	}
	for name, want := range map[string]string{"a.example": "a.example", "A.Example": "a.example", "b.example": "*.example", "soon.test": "soon.test", "else.where": "a.example", "": "a.example"} {
		if got := served(name); got != want {
			t.Errorf("%q is served %s, want %s", name, got, want)
		}
	}
	r.logs(`level=WARN msg="certificate expires soon" name=` + regexp.QuoteMeta(soon[0]))
	until := proxytest.Metric(t, r.metrics.Registry(), "mpgate_tls_certificate_not_after_timestamp_seconds", "name", soon[0])
	if left := time.Until(time.Unix(int64(until), 0)); left < 4*24*time.Hour || left > 5*24*time.Hour {
		t.Errorf("the metric says that it ends in %v", left)
	}

	// A file that is replaced is served without a word to the gateway.
	ca.PairIn(filepath.Dir(exact[0]), &x509.Certificate{DNSNames: []string{"new.example", "a.example"}})
	if !proxytest.Within(patience, func() bool { return served("a.example") == "new.example" }) {
		t.Fatalf("the new file is not served:\n%s", r.log)
	}
	// One that cannot be used leaves the old one, and says so.
	acmetest.Replace(t, exact[0], []byte("nothing"))
	r.logs(`level=ERROR msg="changed certificate files cannot be used; the old certificate remains active"`)
	proxytest.WaitMetric(t, r.metrics.Registry(), 1, "mpgate_tls_certificate_failing", "name", exact[0])
	if got := served("a.example"); got != "new.example" {
		t.Errorf("served %s", got)
	}
	if c := r.Status().Certificates; len(c) != 3 || !strings.Contains(fmt.Sprint(c), "failed to find any PEM data") {
		t.Errorf("status: %+v", c)
	}

	// Refused, when nobody has the name; and what is gone is gone from the metrics.
	r.swap(file("refuse_unknown = true", wild))
	if got := served("else.where"); got != "remote error: tls: unrecognized name" {
		t.Errorf("an unknown name gets %s", got)
	}
	if got := served("b.example"); got != "*.example" {
		t.Errorf("served %s", got)
	}
	if r.measures(exact[0]) || r.measures(soon[0]) || !r.measures(wild[0]) {
		t.Error("the metrics do not follow the configuration")
	}
}

func TestCertificateFaultsNameBothFilesAndTheLine(t *testing.T) {
	t.Parallel()
	ca := acmetest.NewCA(t)
	good, other := pair(ca, t, &x509.Certificate{DNSNames: []string{"a.example"}}), pair(ca, t, &x509.Certificate{DNSNames: []string{"b.example"}})
	r := startRig(t, head+tlsTable(pairs(good))+app(t), nil)
	clients := filepath.Join(t.TempDir(), "clients.pem")
	for _, tt := range []struct {
		name, table string
		want        []string
	}{
		{"keys that do not fit", pairs([2]string{good[0], other[1]}), []string{":11: listener.secure.tls.certificates[0]: certificate " + good[0] + " with key " + other[1] + ": ", "private key does not match public key"}},
		{"a missing file", pairs(good, [2]string{good[0] + ".gone", good[1]}), []string{":11: listener.secure.tls.certificates[1]: certificate " + good[0] + ".gone with key " + good[1] + ": ", "no such file"}},
		{"no client CA", pairs(good) + "client_auth = \"require\"\nclient_ca = \"" + clients + "\"\n", []string{":13: listener.secure.tls.client_ca: ", clients, "no such file"}},
		{"a client CA without certificates", pairs(good) + "client_auth = \"require\"\nclient_ca = \"" + good[1] + "\"\n", []string{":13: listener.secure.tls.client_ca: ", good[1]}},
		{"a policy's client CA", pairs(good) + "[[listener.tls.policy]]\nhosts = [\"a.example\"]\nclient_auth = \"require\"\nclient_ca = \"" + clients + "\"\n", []string{":15: listener.secure.tls.policy[0].client_ca: ", clients}},
		{"a CA's root", "acme = { domains = [\"a.example\"], ca_root = \"" + clients + "\" }\n", []string{":11: listener.secure.tls.acme", clients}},
	} {
		r.write(head + tlsTable(tt.table) + app(t))
		err := r.Reload(t.Context())
		if err == nil {
			t.Errorf("%s: accepted", tt.name)
			continue
		}
		for _, part := range tt.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error lacks %q: %v", tt.name, part, err)
			}
		}
		if s, err := handshake(r.address("secure"), &tls.Config{ServerName: "a.example", RootCAs: ca.Pool()}); err != nil {
			t.Errorf("%s: the running one does not serve: %v, %v", tt.name, s, err)
		}
		// The same on a first start.
		cfg, err := config.Load(r.file, config.Options{})
		if err != nil {
			continue // found before
		}
		if g, err := Open(t.Context(), cfg, Options{}); err == nil {
			g.closeAll()
			t.Errorf("%s: a gateway opens with it", tt.name)
		}
	}
}

func TestLocalCertificate(t *testing.T) {
	t.Parallel()
	r := startRig(t, head+tlsTable("local = true\nlocal_names = [\"dev.internal\"]\n")+app(t), nil)
	r.logs(`trust="?\S+`)
	dir := filepath.Join(filepath.Dir(r.file), "state", "local")
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	for _, name := range []string{"localhost", "dev.internal"} {
		if _, err := handshake(r.address("secure"), &tls.Config{ServerName: name, RootCAs: pool}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The certificate is for the address.
	if _, err := handshake(r.address("secure"), &tls.Config{RootCAs: pool}); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key of the CA: %v, %v", info, err)
	}
	c := proxytest.Dial(t, r.address("secure"), mptcp.Off)
	c.Secure(&tls.Config{ServerName: "localhost", RootCAs: pool, NextProtos: []string{"http/1.1"}})
	if a := c.Get("/"); a.Body != "app" {
		t.Errorf("got %d %q", a.Status, a.Body)
	}
}
