package certs

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Case 16: a ticket of one policy is of no use with another, although the
// certificate is the same.
func TestResumptionStaysInPolicy(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	s := serve(t, open(t, m, twoPolicies(ca)))
	client := ca.client(&x509.Certificate{DNSNames: []string{"me.example"}})
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := &anyName{tls.NewLRUClientSessionCache(1)}
		cfg := func(name string) *tls.Config {
			return &tls.Config{ServerName: name, RootCAs: ca.pool(), ClientSessionCache: cache, MaxVersion: v}
		}
		s.must(t, cfg("open.example"))
		if cs, _ := s.must(t, cfg("open.example")); !cs.DidResume {
			t.Error("the same policy does not resume")
		}
		want := "remote error: tls: certificate required"
		if v == tls.VersionTLS12 {
			want = "remote error: tls: handshake failure"
		}
		s.refused(t, cfg("mtls.example"), want, ResultClientCertificate)
		s.must(t, cfg("open.example"))
		with := cfg("mtls.example")
		with.Certificates = []tls.Certificate{*client}
		if cs, srv := s.must(t, with); cs.DidResume || len(srv.state.VerifiedChains) == 0 {
			t.Error("a ticket of the open policy was resumed by the one with mTLS")
		}
		// And the other way round.
		if cs, _ := s.must(t, cfg("open.example")); cs.DidResume {
			t.Error("a ticket of the policy with mTLS was resumed by the open one")
		}
	}
}

// anyName is a malicious client's cache: it offers what it has to every name.
type anyName struct{ tls.ClientSessionCache }

func (a *anyName) Get(string) (*tls.ClientSessionState, bool) { return a.ClientSessionCache.Get("x") }
func (a *anyName) Put(_ string, s *tls.ClientSessionState)    { a.ClientSessionCache.Put("x", s) }

func TestTicketRotation(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	s := serve(t, open(t, m, Options{Policy: Policy{Certificates: []Pair{ca.pair("a.example")}}}))
	for rotations, want := range []bool{true, true, false} {
		cache := &keepFirst{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		cfg := &tls.Config{ServerName: "a.example", RootCAs: ca.pool(), ClientSessionCache: cache}
		s.must(t, cfg)
		for range rotations {
			m.rotateTickets()
		}
		if cs, srv := s.must(t, cfg); cs.DidResume != want || srv.state.DidResume != want {
			t.Errorf("after %d rotations resumed = %v, want %v", rotations, cs.DidResume, want)
		}
	}
}

// keepFirst keeps the first session, whatever newer tickets come.
type keepFirst struct {
	tls.ClientSessionCache
	have bool
}

func (k *keepFirst) Put(name string, s *tls.ClientSessionState) {
	if s != nil && !k.have {
		k.have = true
		k.ClientSessionCache.Put(name, s)
	}
}

func TestTicketsAndReload(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	client := ca.client(&x509.Certificate{DNSNames: []string{"me.example"}})
	caFile := filepath.Join(t.TempDir(), "clients.pem")
	base := Options{Policy: Policy{
		Certificates: []Pair{ca.pair("a.example")}, ClientAuth: "require", ClientCA: caFile,
	}}
	both := append(certPEM(ca.cert), certPEM(other.cert)...)
	for _, c := range []struct {
		name    string
		change  func(o *Options)
		resumes bool
		refused string
	}{
		{"nothing", func(*Options) {}, true, ""},
		{"another policy beside it", func(o *Options) {
			o.Policies = []Policy{{Hosts: []string{"b.example"}, MinVersion: "1.3"}}
		}, true, ""},
		{"a CA more in the file", func(*Options) { writeFile(t, caFile, both) }, false, ""},
		{"the CA gone from the file", func(*Options) { writeFile(t, caFile, certPEM(other.cert)) }, false,
			"remote error: tls: unknown certificate authority"},
		{"names allowed", func(o *Options) { o.Policy.ClientSAN = []string{"me.example"} }, false, ""},
		{"another name allowed", func(o *Options) { o.Policy.ClientSAN = []string{"you.example"} }, false,
			"remote error: tls: bad certificate"},
		{"min_version", func(o *Options) { o.Policy.MinVersion = "1.3" }, false, ""},
	} {
		writeFile(t, caFile, certPEM(ca.cert))
		m, _ := newManager(t, nil)
		var set atomic.Pointer[Set]
		set.Store(open(t, m, base))
		s := serveAny(t, set.Load)
		cfg := &tls.Config{
			ServerName: "a.example", RootCAs: ca.pool(), Certificates: []tls.Certificate{*client},
			ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
		_, before := s.must(t, cfg)
		o := base
		c.change(&o)
		set.Swap(open(t, m, o)).Close()
		cs, err := s.dial(t, cfg)
		if errText(err) != c.refused {
			t.Errorf("%s: got error %v, want %q", c.name, err, c.refused)
			continue
		}
		if err != nil {
			continue
		}
		after := wait(t, "the server's side", s.conns)
		if cs.DidResume != c.resumes || (after.policy == before.policy) != c.resumes || set.Load().Has(before.policy) != c.resumes {
			t.Errorf("%s: resumed = %v, policies %d and %d; want resumed = %v", c.name, cs.DidResume, before.policy, after.policy, c.resumes)
		}
		if len(after.state.VerifiedChains) == 0 {
			t.Errorf("%s: the client is not verified", c.name)
		}
	}
}

func TestResumptionEndsWithTheClientCertificate(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	set := open(t, m, Options{Policy: Policy{Certificates: []Pair{ca.pair("a.example")}, ClientAuth: "require", ClientCA: ca.file}})
	s := serve(t, set)
	// crypto/tls reads the time of the policy's configuration; the client's
	// own clock stays.
	var ahead atomic.Int64
	set.shape.def.cfg.Time = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	client := ca.client(&x509.Certificate{DNSNames: []string{"me.example"}, NotAfter: time.Now().Add(time.Hour)})
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ahead.Store(0)
		cfg := &tls.Config{
			ServerName: "a.example", RootCAs: ca.pool(), Certificates: []tls.Certificate{*client}, MaxVersion: v,
			ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
		s.must(t, cfg)
		if cs, _ := s.must(t, cfg); !cs.DidResume {
			t.Error("not resumed within the client certificate's life")
		}
		ahead.Store(int64(2 * time.Hour))
		s.refused(t, cfg, "remote error: tls: expired certificate", ResultClientCertificate)
	}
}
