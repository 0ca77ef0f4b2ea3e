package certs

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shown returns the serial number of the certificate that is served.
func shown(t *testing.T, s *server, name string) string {
	t.Helper()
	cs, _ := s.must(t, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	return cs.PeerCertificates[0].SerialNumber.String()
}

func TestPairReload(t *testing.T) {
	ca := newCA(t)
	m, ev := newManager(t, nil)
	dir := t.TempDir()
	p := ca.pairIn(dir, &x509.Certificate{DNSNames: []string{"a.example"}})
	set := open(t, m, Options{Policy: Policy{Certificates: []Pair{p}}})
	s := serve(t, set)
	if got := wait(t, "the first certificate", ev.notAfter); got != p.Cert {
		t.Errorf("the metric is of %q, want %q", got, p.Cert)
	}
	before, cfg := shown(t, s, "a.example"), set.ServerConfig()

	// Other names in the new one: chosen by them from then on.
	ca.pairIn(dir, &x509.Certificate{DNSNames: []string{"a.example", "new.example"}})
	wait(t, "the second certificate", ev.notAfter)
	if shown(t, s, "new.example") == before {
		t.Error("the new certificate is not served")
	}
	if set.ServerConfig() != cfg || !set.shape.def.covers("new.example") {
		t.Error("the configuration is another one, or does not know the new name")
	}

	// A bad one: the old one stays, and it is said, once.
	now := shown(t, s, "a.example")
	writeFile(t, p.Key, keyPEM(t, newKey(t)))
	err := wait(t, "the error", ev.errors)
	want := "certificate " + p.Cert + " with key " + p.Key + ": tls: private key does not match public key"
	if errText(err) != want || errText(m.Status()[0].Err) != want {
		t.Errorf("got %v, status %v; want %s", err, m.Status()[0].Err, want)
	}
	if shown(t, s, "a.example") != now {
		t.Error("the good certificate is not served any more")
	}
	os.Remove(p.Key)
	err = wait(t, "the other error", ev.errors)
	if !strings.HasSuffix(errText(err), "c.key: no such file or directory") {
		t.Errorf("got %v", err)
	}

	// Mended: served, and the error is gone.
	ca.pairIn(dir, &x509.Certificate{DNSNames: []string{"a.example"}})
	if err := wait(t, "the end of the error", ev.errors); err != nil {
		t.Errorf("got %v", err)
	}
	wait(t, "the third certificate", ev.notAfter)
	if shown(t, s, "a.example") == now || m.Status()[0].Err != nil {
		t.Error("the mended certificate is not served")
	}
}

// Kubernetes mounts secrets as links to ..data/NAME, and swaps ..data.
func TestPairReloadBySymlink(t *testing.T) {
	ca := newCA(t)
	m, ev := newManager(t, nil)
	dir := t.TempDir()
	version := func(name string) {
		d := filepath.Join(dir, name)
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		ca.pairIn(d, &x509.Certificate{DNSNames: []string{"a.example"}})
		if err := os.Symlink(name, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..v1")
	p := Pair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	os.Symlink("..data/c.pem", p.Cert)
	os.Symlink("..data/c.key", p.Key)
	s := serve(t, open(t, m, Options{Policy: Policy{Certificates: []Pair{p}}}))
	wait(t, "the first certificate", ev.notAfter)
	before := shown(t, s, "a.example")
	version("..v2")
	os.RemoveAll(filepath.Join(dir, "..v1"))
	wait(t, "the second certificate", ev.notAfter)
	if shown(t, s, "a.example") == before {
		t.Error("the old certificate is still served")
	}
	select {
	case err := <-ev.errors:
		t.Errorf("an error on the way: %v", err)
	default:
	}
}

// A reload of the configuration takes what it has read at once.
func TestPairTakenByOpen(t *testing.T) {
	ca := newCA(t)
	m, ev := newManager(t, func(o *ManagerOptions) { o.FilePoll = time.Hour })
	dir := t.TempDir()
	p := ca.pairIn(dir, &x509.Certificate{DNSNames: []string{"a.example"}})
	o := Options{Policy: Policy{Certificates: []Pair{p}}}
	first := open(t, m, o)
	s := serve(t, first)
	before := shown(t, s, "a.example")
	wait(t, "the first certificate", ev.notAfter)
	ca.pairIn(dir, &x509.Certificate{DNSNames: []string{"a.example"}})
	second := open(t, m, o)
	wait(t, "the second certificate", ev.notAfter)
	if shown(t, s, "a.example") == before || second.ServerConfig() != first.ServerConfig() {
		t.Error("the new certificate is not served, or by another configuration")
	}
}

func TestExpiryIsSaid(t *testing.T) {
	ca := newCA(t)
	m, ev := newManager(t, nil)
	soon, gone := t.TempDir(), t.TempDir()
	open(t, m, Options{Policy: Policy{Certificates: []Pair{
		ca.pair("fine.example"),
		ca.pairIn(soon, &x509.Certificate{DNSNames: []string{"soon.example"}, NotBefore: time.Now().AddDate(0, 0, -80), NotAfter: time.Now().AddDate(0, 0, 10)}),
		ca.pairIn(gone, &x509.Certificate{DNSNames: []string{"gone.example"}, NotAfter: time.Now().Add(-time.Minute)}),
	}}})
	log := ev.log.String()
	for _, want := range []string{
		`level=WARN msg="certificate expires soon" name=` + soon,
		`level=ERROR msg="certificate has expired" name=` + gone,
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("the log does not have once %q:\n%s", want, log)
		}
	}
	if strings.Count(log, "certificate expires soon") != 1 {
		t.Errorf("the log warns of a good certificate:\n%s", log)
	}
	if st := m.Status(); len(st) != 3 || st[0].NotAfter.IsZero() || st[0].Kind != FromFile || len(st[0].Names) != 1 {
		t.Errorf("status is %+v", st)
	}
}
