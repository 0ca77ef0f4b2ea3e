package certs

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func localPool(t *testing.T, m *Manager) *x509.CertPool {
	t.Helper()
	path, trust := m.LocalCA()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(path) || !strings.Contains(trust, path) {
		t.Errorf("path %q, command %q", path, trust)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		t.Fatalf("%s holds no certificate", path)
	}
	return pool
}

func TestLocal(t *testing.T) {
	m, _ := newManager(t, nil)
	s := serve(t, open(t, m, Options{
		Policy:   Policy{Local: true, LocalNames: []string{"192.0.2.9", "dev.test"}},
		Policies: []Policy{{Hosts: []string{"*.app.example"}, Local: true}},
	}))
	pool := localPool(t, m)
	for _, name := range []string{"localhost", "127.0.0.1", "dev.test", "x.app.example"} {
		s.must(t, &tls.Config{ServerName: name, RootCAs: pool})
	}
	if _, err := s.dial(t, &tls.Config{ServerName: "other.test", RootCAs: pool}); err == nil {
		t.Error("the certificate is good for any name")
	}
	info, err := os.Stat(filepath.Join(m.localDir(), "ca.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ca.key: %v, %v", info.Mode(), err)
	}
}

func TestLocalCAIsKeptAndConstrained(t *testing.T) {
	dir := t.TempDir()
	var made []string
	openCA := func(now time.Time, names ...string) *localCA {
		t.Helper()
		ca, err := openLocalCA(dir, names, now, func(why string) { made = append(made, why) })
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	now := time.Now()
	first := openCA(now, "localhost", "127.0.0.1")
	if again := openCA(now, "localhost"); !again.cert.Equal(first.cert) {
		t.Error("the CA is not kept")
	}
	if sub := openCA(now, "app.localhost"); !sub.cert.Equal(first.cert) {
		t.Error("a name below a permitted one makes a new CA")
	}
	// What it may not sign for, nobody believes.
	leaf, err := first.leaf([]string{"bank.example"}, now)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(first.cert)
	_, err = leaf.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "bank.example"})
	if err == nil || !strings.Contains(err.Error(), `DNS name "bank.example" is not permitted by any constraint`) {
		t.Errorf("got %v", err)
	}
	if lan := openCA(now, "printer.local", "x.y.test"); !lan.cert.Equal(first.cert) {
		t.Error("a reserved name makes a new CA")
	}
	second := openCA(now, "dev.example")
	if second.cert.Equal(first.cert) || second.excludes([]string{"localhost", "127.0.0.1", "::ffff:127.0.0.9"}) != "" {
		t.Error("the new CA does not permit what the old one did")
	}
	third := openCA(now.Add(localCALife-localLeafLife/2), "dev.example")
	if third.cert.Equal(second.cert) {
		t.Error("a CA at its end is used")
	}
	want := []string{"no CA existed", `the old one may not sign for "dev.example"`, "the old one expires soon"}
	if strings.Join(made, "|") != strings.Join(want, "|") {
		t.Errorf("made for %q, want %q", made, want)
	}
	os.WriteFile(filepath.Join(dir, "ca.key"), []byte("x"), 0o600)
	_, err = openLocalCA(dir, []string{"localhost"}, now, func(string) {})
	if wantErr := dir + "/ca.key: not a key and its certificate; remove the file to create a new one"; errText(err) != wantErr {
		t.Errorf("got %v, want %s", err, wantErr)
	}
}

func TestLocalCAMadeByManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	var (
		tasks sync.WaitGroup
		mu    sync.Mutex
		cas   = map[string]bool{}
		made  int
	)
	for range 8 {
		tasks.Go(func() {
			ca, err := openLocalCA(dir, localNames, time.Now(), func(string) {})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			made++
			cas[ca.cert.SerialNumber.String()] = true
		})
	}
	tasks.Wait()
	if len(cas) != 1 || made != 8 {
		t.Errorf("%d of 8 have a CA, %d different ones", made, len(cas))
	}
}

func TestLocalLeafRenews(t *testing.T) {
	m, ev := newManager(t, func(o *ManagerOptions) { o.FilePoll = time.Hour })
	s := serve(t, open(t, m, Options{Policy: Policy{Local: true}}))
	wait(t, "the first certificate", ev.notAfter)
	pool, before := localPool(t, m), shown(t, s, "localhost")
	m.mu.Lock()
	var l *local
	for _, l = range m.locals {
	}
	m.mu.Unlock()
	l.poll(time.Now().Add(localLeafLife / 2))
	if shown(t, s, "localhost") != before {
		t.Error("renewed too early")
	}
	l.poll(time.Now().Add(localLeafLife - localLeafLife/4))
	if shown(t, s, "localhost") == before {
		t.Error("not renewed")
	}
	s.must(t, &tls.Config{ServerName: "localhost", RootCAs: pool})
	if l.cur.Load().Leaf.IPAddresses[0].Equal(net.IPv6loopback) == false && len(l.cur.Load().Leaf.IPAddresses) != 2 {
		t.Errorf("addresses are %v", l.cur.Load().Leaf.IPAddresses)
	}
}

// A second listener's name is beyond the CA's constraints: the first one's
// leaf follows to the new CA.
func TestLocalFollowsTheCA(t *testing.T) {
	m, ev := newManager(t, nil)
	first := serve(t, open(t, m, Options{Policy: Policy{Local: true}}))
	wait(t, "the first certificate", ev.notAfter)
	second := serve(t, open(t, m, Options{Listener: "second", Policy: Policy{Local: true, LocalNames: []string{"shop.example"}}}))
	wait(t, "the second certificate", ev.notAfter)
	wait(t, "the first listener's new certificate", ev.notAfter)
	pool := localPool(t, m)
	first.must(t, &tls.Config{ServerName: "localhost", RootCAs: pool})
	second.must(t, &tls.Config{ServerName: "shop.example", RootCAs: pool})
}
