package certs

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"mpgate/internal/acmetest"
)

// obtainAndRenew gets a certificate that lives seconds, and sees it replaced.
func obtainAndRenew(t *testing.T, p *pebbleCA, a *ACME, names ...string) {
	t.Helper()
	m, ev := newManager(t, nil)
	set := p.serve(m, Options{Policy: Policy{ACME: a}})
	// one may be renewed before the other is there
	for seen := map[string]bool{}; len(seen) < len(a.Domains); {
		seen[wait(t, "a certificate", ev.notAfter)] = true
	}
	roots, cfg := p.Roots(), set.ServerConfig()
	serials := map[string]string{}
	for _, n := range names {
		serials[n] = p.leaf(n, roots).SerialNumber.String()
	}
	for range a.Domains {
		wait(t, "a renewed certificate", ev.notAfter)
	}
	// The first to be renewed may come twice before the last: wait for each.
	for renewed := 0; renewed < len(names); {
		renewed = 0
		for _, n := range names {
			if p.leaf(n, roots).SerialNumber.String() != serials[n] {
				renewed++
			}
		}
		if renewed < len(names) {
			wait(t, "one more renewed certificate", ev.notAfter)
		}
	}
	if set.ServerConfig() != cfg {
		t.Error("the configuration changed")
	}
	for _, st := range m.Status() {
		if st.Err != nil || st.Kind != FromACME || st.NotAfter.IsZero() || st.RenewAt.IsZero() {
			t.Errorf("status is %+v", st)
		}
	}
}

const shortLife = 10 // seconds

func TestACMEHTTP01(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{validity: shortLife})
	obtainAndRenew(t, p, p.acme(HTTP01, "a.example.test", "b.example.test"), "a.example.test", "b.example.test")
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/.well-known/acme-challenge/not-ours", p.Config["httpPort"]))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Errorf("a challenge that is not ours gets %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestACMETLSALPN01(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{validity: shortLife})
	obtainAndRenew(t, p, p.acme(TLSALPN01, "a.example.test"), "a.example.test")
	// Who else asks for the challenge's protocol is refused.
	for _, name := range []string{"a.example.test", "unknown.example.test", ""} {
		_, err := p.server.dial(t, &tls.Config{ServerName: name, NextProtos: []string{ALPNChallenge}, InsecureSkipVerify: true})
		if errText(err) != unrecognized {
			t.Errorf("%q: got %v, want %s", name, err, unrecognized)
		}
	}
}

// The CA is away at the first start, comes, goes again, and comes back having
// forgotten us.
func TestACMECAIsAway(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{validity: 20})
	m, ev := newManager(t, nil)
	p.Stop()
	set := p.serve(m, Options{Policy: Policy{ACME: p.acme(HTTP01, "a.example.test")}})
	err := wait(t, "the first error", ev.errors)
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	// Ready, and the handshake refused with a named alert, in each version.
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		p.server.refused(t, &tls.Config{ServerName: "a.example.test", MaxVersion: v}, unrecognized, ResultNoCertificate)
	}
	wait(t, "the second error", ev.errors)
	st := m.Status()[0]
	if st.Err == nil || st.ErrAt.IsZero() || !st.Next.After(st.ErrAt) || !st.NotAfter.IsZero() {
		t.Errorf("status is %+v", st)
	}
	if log := ev.log.String(); !strings.Contains(log, `level=ERROR msg="cannot get a certificate" name=a.example.test`) || !strings.Contains(log, `serving=none`) {
		t.Errorf("the log does not say it:\n%s", log)
	}

	p.Start()
	wait(t, "the certificate", ev.notAfter)
	drain(t, ev.errors)
	roots := p.Roots()
	first := p.leaf("a.example.test", roots)
	p.Stop()
	if err := wait(t, "an error of renewing", ev.errors); err == nil {
		t.Error("no error while the CA is away")
	}
	if got := p.leaf("a.example.test", roots); !got.Equal(first) {
		t.Error("another certificate is served while the CA is away")
	}
	p.Start() // with an empty memory: another root, no account
	wait(t, "the certificate of the new CA", ev.notAfter)
	drain(t, ev.errors)
	p.leaf("a.example.test", p.Roots())
	if st := m.Status()[0]; st.Err != nil {
		t.Errorf("the error stays: %v", st.Err)
	}
	_ = set
}

// drain waits for the end of the errors.
func drain(t *testing.T, errs <-chan error) {
	t.Helper()
	for wait(t, "the end of the errors", errs) != nil {
	}
}

func TestACMEExternalAccount(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{eab: true})
	m, ev := newManager(t, nil)
	a := p.acme(HTTP01, "a.example.test")
	p.serve(m, Options{Policy: Policy{ACME: a}})
	err := wait(t, "the refusal", ev.errors)
	if err == nil || !strings.Contains(err.Error(), "externalAccountRequired") {
		t.Errorf("got %v", err)
	}
	bound := *a
	bound.EABKeyID, bound.EABKey = "kid-1", acmetest.EABKey
	old := p.set.Load()
	p.serve(m, Options{Policy: Policy{ACME: &bound}})
	old.Close()
	wait(t, "the certificate", ev.notAfter)
	p.leaf("a.example.test", p.Roots())
}

// The CA suggests to renew a certificate that has months to live (ARI).
func TestACMERenewalInformation(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{})
	m, ev := newManager(t, nil)
	set := p.serve(m, Options{Policy: Policy{ACME: p.acme(HTTP01, "a.example.test")}})
	wait(t, "the certificate", ev.notAfter)
	roots := p.Roots()
	first := p.leaf("a.example.test", roots)
	st := m.Status()[0]
	if life := first.NotAfter.Sub(first.NotBefore); st.RenewAt.Before(first.NotBefore.Add(life/2)) || st.RenewAt.After(first.NotAfter) {
		t.Errorf("to be renewed at %v, of %v to %v", st.RenewAt, first.NotBefore, first.NotAfter)
	}
	p.Suggest(first, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	// Let the time be over that the CA is not to be asked again.
	d := set.shape.def.owned[0].(*managed)
	res, meta, err := d.metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Minute)
	meta.RenewalInfo.RetryAfter = &past
	res.IssuerData, _ = json.Marshal(meta)
	data, _ := json.Marshal(res)
	if err := m.o.Storage.Store(t.Context(), certmagic.StorageKeys.SiteMeta(d.issuer.IssuerKey(), "a.example.test"), data); err != nil {
		t.Fatal(err)
	}
	wait(t, "the renewed certificate", ev.notAfter)
	if p.leaf("a.example.test", roots).Equal(first) {
		t.Error("the same certificate is served")
	}
}

// What is removed from the configuration is not obtained any more, what stays
// is not disturbed.
func TestACMERemoved(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{})
	m, ev := newManager(t, nil)
	a := p.acme(HTTP01, "a.example.test")
	two := p.acme(HTTP01, "a.example.test", "b.example.test")
	p.serve(m, Options{Policy: Policy{ACME: two}})
	wait(t, "a certificate", ev.notAfter)
	wait(t, "the other certificate", ev.notAfter)
	old := p.set.Load()
	p.serve(m, Options{Policy: Policy{ACME: a}})
	kept, gone := old.shape.def.owned[0].(*managed), old.shape.def.owned[1].(*managed)
	old.Close()
	wait(t, "the end of b.example.test", gone.ctx.Done())
	if kept.ctx.Err() != nil || p.set.Load().shape.def.owned[0] != kept || len(m.Status()) != 1 {
		t.Error("a.example.test was not carried over")
	}
	if n := p.Issued(); n != 2 {
		t.Errorf("%d certificates were issued, want 2", n)
	}
	p.leaf("a.example.test", p.Roots())
}

// A torn write, or a disk gone bad: what is stored does not make a certificate.
func TestACMEStoredPairIsBroken(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{})
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	share := func(o *ManagerOptions) { o.Storage = storage }
	o := Options{Policy: Policy{ACME: p.acme(HTTP01, "a.example.test")}}
	m1, ev1 := newManager(t, share)
	set := p.serve(m1, o)
	wait(t, "the certificate", ev1.notAfter)
	key := certmagic.StorageKeys.SitePrivateKey(set.shape.def.owned[0].(*managed).issuer.IssuerKey(), "a.example.test")
	set.Close()
	if err := storage.Store(t.Context(), key, keyPEM(t, newKey(t))); err != nil {
		t.Fatal(err)
	}
	m2, ev2 := newManager(t, share)
	p.serve(m2, o)
	wait(t, "another certificate", ev2.notAfter)
	p.leaf("a.example.test", p.Roots())
}

func TestStorageFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, ev := newManager(t, func(o *ManagerOptions) { o.Dir = file })
	open(t, m, Options{Policy: Policy{ACME: &ACME{Domains: []string{"a.example.test"}, CA: "https://127.0.0.1:1/dir"}}})
	err := wait(t, "the error", ev.errors)
	if err == nil || !strings.HasSuffix(err.Error(), file+"/acme/certificates/127.0.0.1-1-dir/a.example.test/a.example.test.key: not a directory") {
		t.Errorf("got %v", err)
	}
}

// certmagic's package variables stay as they are: other users of it in one
// program, and other managers, see nothing of us.
func TestCertmagicGlobalsStay(t *testing.T) {
	now := func() string {
		return fmt.Sprintf("%+v\n%+v\n%v %v %q %v", certmagic.Default, certmagic.DefaultACME, certmagic.HTTPPort, certmagic.HTTPSPort, certmagic.UserAgent, certmagic.HTTPTimeout)
	}
	before := now()
	m, ev := newManager(t, nil)
	open(t, m, Options{Policy: Policy{ACME: &ACME{Domains: []string{"a.example.test"}, Email: "x@y.example", CA: "https://127.0.0.1:1/dir"}}})
	wait(t, "an attempt", ev.errors)
	if after := now(); before != after {
		t.Errorf("before %s\nafter %s", before, after)
	}
}

func TestBackoff(t *testing.T) {
	m := NewManager(ManagerOptions{})
	defer m.Close()
	d := &managed{}
	d.init(m, FromACME, "x")
	for fails, want := range map[int]time.Duration{0: time.Minute, 1: 2 * time.Minute, 5: 32 * time.Minute, 9: 6 * time.Hour, 80: 6 * time.Hour} {
		d.fails = fails
		if got := d.backoff(); got < want*8/10 || got > want*12/10 {
			t.Errorf("after %d failures %v, want %v and a fifth", fails, got, want)
		}
	}
}
