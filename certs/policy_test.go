package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"
)

func TestCertificateByName(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	first := ca.pair("first.example")
	s := serve(t, open(t, m, Options{Policy: Policy{Certificates: []Pair{
		first, ca.pair("a.example.org"), ca.pair("*.example.org"),
		ca.pairIn(t.TempDir(), &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"ip.example"}}),
	}}}))
	for name, want := range map[string]string{
		"a.example.org": "a.example.org", "A.EXAMPLE.Org": "a.example.org", "b.example.org": "*.example.org",
		"a.b.example.org": "first.example", "unknown.example": "first.example", "": "ip.example",
	} {
		cs, _ := s.must(t, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if got := cs.PeerCertificates[0].DNSNames[0]; got != want {
			t.Errorf("server name %q got the certificate of %q, want %q", name, got, want)
		}
	}
}

func TestRefuseUnknown(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	s := serve(t, open(t, m, Options{
		RefuseUnknown: true,
		Policy:        Policy{Certificates: []Pair{ca.pair("a.example.org")}},
		Policies:      []Policy{{Hosts: []string{"b.example.org"}, Certificates: []Pair{ca.pair("b.example.org")}}},
	}))
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := func(name string) *tls.Config {
			return &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: v}
		}
		s.must(t, cfg("a.example.org"))
		s.must(t, cfg("b.example.org"))
		s.refused(t, cfg("c.example.org"), unrecognized, ResultUnknownName)
		s.refused(t, cfg(""), unrecognized, ResultNoCertificate)
	}
}

func TestVersionsSuitesGroupsAndALPN(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	s := serve(t, open(t, m, Options{
		Policy:   Policy{Certificates: []Pair{ca.pair("a.example", "strict.example")}},
		Policies: []Policy{{Hosts: []string{"strict.example"}, MinVersion: "1.3"}},
	}))
	base := func(name string) *tls.Config { return &tls.Config{ServerName: name, RootCAs: ca.pool()} }

	cs, srv := s.must(t, base("a.example"))
	if cs.Version != tls.VersionTLS13 || srv.state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("got version %x, group %v; want TLS 1.3 and X25519MLKEM768", cs.Version, srv.state.CurveID)
	}
	cfg := base("a.example")
	cfg.CurvePreferences = []tls.CurveID{tls.CurveP256}
	if _, srv = s.must(t, cfg); srv.state.CurveID != tls.CurveP256 {
		t.Errorf("got group %v, want P-256", srv.state.CurveID)
	}
	cfg = base("a.example")
	cfg.MaxVersion = tls.VersionTLS12
	if cs, _ = s.must(t, cfg); cs.Version != tls.VersionTLS12 {
		t.Errorf("got version %x, want TLS 1.2", cs.Version)
	}
	for _, insecure := range []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256} {
		cfg = cfg.Clone()
		cfg.CipherSuites = []uint16{insecure}
		s.refused(t, cfg, "remote error: tls: handshake failure", ResultNoCommon)
	}
	cfg = base("a.example")
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	s.refused(t, cfg, "remote error: tls: protocol version not supported", ResultNoCommon)
	cfg = base("strict.example")
	cfg.MaxVersion = tls.VersionTLS12
	s.refused(t, cfg, "remote error: tls: protocol version not supported", ResultNoCommon)

	for _, c := range []struct {
		offer []string
		want  string
	}{
		{[]string{"http/1.1", "h2"}, "h2"}, {[]string{"http/1.1"}, "http/1.1"}, {nil, ""},
		{[]string{"http/1.0"}, "http/1.0"}, {[]string{"http/1.0", "http/1.1"}, "http/1.1"}, {[]string{"http/1.0", "h2"}, "h2"},
	} {
		cfg = base("a.example")
		cfg.NextProtos = c.offer
		if cs, _ = s.must(t, cfg); cs.NegotiatedProtocol != c.want {
			t.Errorf("offered %q, got %q, want %q", c.offer, cs.NegotiatedProtocol, c.want)
		}
	}
	cfg = base("a.example")
	cfg.NextProtos = []string{"spdy/3"}
	s.refused(t, cfg, "remote error: tls: no application protocol", ResultNoCommon)
}

func TestProtocolsChooseALPN(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	s := serve(t, open(t, m, Options{Protocols: []string{"h1"}, Policy: Policy{Certificates: []Pair{ca.pair("a.example")}}}))
	cs, _ := s.must(t, &tls.Config{ServerName: "a.example", RootCAs: ca.pool(), NextProtos: []string{"h2", "http/1.1"}})
	if cs.NegotiatedProtocol != "http/1.1" {
		t.Errorf("got %q, want http/1.1", cs.NegotiatedProtocol)
	}
}

// twoPolicies has an open site and one with mTLS, on one certificate.
func twoPolicies(ca *testCA) Options {
	return Options{
		Policy: Policy{Certificates: []Pair{ca.pair("open.example", "mtls.example")}},
		Policies: []Policy{{
			Hosts: []string{"mtls.example", "*.mtls.example"}, ClientAuth: "require", ClientCA: ca.file,
		}},
	}
}

// Case 15 of the security cases.
func TestPolicyByName(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	set := open(t, m, twoPolicies(ca))
	s := serve(t, set)
	client := ca.client(&x509.Certificate{DNSNames: []string{"me.example"}})

	_, openSide := s.must(t, &tls.Config{ServerName: "open.example", RootCAs: ca.pool()})
	for _, name := range []string{"mtls.example", "MTLS.Example", "x.mtls.example"} {
		cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true}
		s.refused(t, cfg, "remote error: tls: certificate required", ResultClientCertificate)
		cfg.Certificates = []tls.Certificate{*client}
		_, strict := s.must(t, cfg)
		if strict.policy == openSide.policy || strict.policy == 0 {
			t.Errorf("%s: policy %d, that of open.example is %d", name, strict.policy, openSide.policy)
		}
		for _, host := range []string{"mtls.example", "MTLS.EXAMPLE:8443", "mtls.example.", "a.mtls.example"} {
			if set.PolicyFor([]byte(host)) != strict.policy {
				t.Errorf("host %q is under another policy than server name %q", host, name)
			}
		}
	}
	for _, host := range []string{"open.example", "", "a.b.mtls.example", "other.example:1", "127.0.0.1"} {
		if set.PolicyFor([]byte(host)) != openSide.policy {
			t.Errorf("host %q is not under the listener's own policy", host)
		}
	}
	if set.Single() || !set.Has(openSide.policy) || set.Has(0) {
		t.Error("Single or Has is wrong")
	}
	host := []byte("MTLS.Example:8443")
	if n := testing.AllocsPerRun(100, func() { set.PolicyFor(host) }); n != 0 {
		t.Errorf("PolicyFor allocates %v times", n)
	}
}

// oneByteRecords sends each byte of the first record (the ClientHello) as a
// record of its own.
type oneByteRecords struct {
	net.Conn
	done bool
}

func (c *oneByteRecords) Write(p []byte) (int, error) {
	if c.done {
		return c.Conn.Write(p)
	}
	c.done = true
	var out bytes.Buffer
	for _, b := range p[5:] {
		out.Write([]byte{p[0], p[1], p[2], 0, 1, b})
	}
	if _, err := c.Conn.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

func TestClientHelloInOneByteRecords(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	s := serve(t, open(t, m, twoPolicies(ca)))
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, err = greet(&oneByteRecords{Conn: c}, &tls.Config{ServerName: "MTLS.example", RootCAs: ca.pool()})
	if errText(err) != "remote error: tls: certificate required" {
		t.Errorf("got %v, want the policy of mtls.example to apply", err)
	}
	if got := wait(t, "the server's side", s.conns); got.result != ResultClientCertificate {
		t.Errorf("got %q, want %q", got.result, ResultClientCertificate)
	}
}

func TestCarryOver(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	o := twoPolicies(ca)
	first := open(t, m, o)
	second := open(t, m, o)
	if first.ServerConfig() != second.ServerConfig() {
		t.Error("equal options yield different configurations")
	}
	o.Policies = append(o.Policies, Policy{Hosts: []string{"new.example"}, MinVersion: "1.3"})
	third := open(t, m, o)
	if third.ServerConfig() == second.ServerConfig() {
		t.Error("different options yield the same configuration")
	}
	if a, b := first.shape.lookupName("mtls.example"), third.shape.lookupName("mtls.example"); a != b || a.cfg != b.cfg {
		t.Error("an unchanged policy is not carried over")
	}
	otherListener := o
	otherListener.Listener = "admin"
	if fourth := open(t, m, otherListener); fourth.Has(third.PolicyForName("mtls.example")) {
		t.Error("two listeners share a policy, and so ticket keys")
	}
	// All sets but one closed, in any order and twice.
	first.Close()
	third.Close()
	third.Close()
	s := serve(t, second)
	s.must(t, &tls.Config{ServerName: "open.example", RootCAs: ca.pool()})
	if len(m.Status()) != 1 {
		t.Errorf("got %d certificates, want 1", len(m.Status()))
	}
}

func TestHundredReloadsLeaveNothing(t *testing.T) {
	ca := newCA(t)
	m, _ := newManager(t, nil)
	o := twoPolicies(ca)
	var last *Set
	for i := range 100 {
		o.Policy.LocalNames = nil
		if i%2 == 1 {
			o.Policy.MinVersion = "1.3"
		} else {
			o.Policy.MinVersion = ""
		}
		next, err := m.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		next.Start()
		if last != nil {
			last.Close()
		}
		last = next
	}
	last.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.shapes) + len(m.policies) + len(m.pairs) + len(m.managed) + len(m.issuers) + len(m.locals); n != 0 {
		t.Errorf("%d parts are left", n)
	}
}

// What is no TLS, silent, or half a ClientHello.
func TestResultOfWhatIsNoHandshake(t *testing.T) {
	ca := newCA(t)
	m, ev := newManager(t, nil)
	s := serve(t, open(t, m, Options{Policy: Policy{Certificates: []Pair{ca.pair("a.example")}}}))
	for text, want := range map[string]Result{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n": ResultNotTLS,
		"":                                  ResultClientGone,
		"\x16\x03\x01\x02\x00\x01":          ResultClientGone,
	} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(text))
		c.(*net.TCPConn).CloseWrite()
		if got := wait(t, "the server's side", s.conns); got.result != want || wait(t, "the hook", ev.handshakes) != want {
			t.Errorf("%q: got %q (%v), want %q", text, got.result, got.err, want)
		}
		c.Close()
	}
	s.dialUntrusting(t)
	if got := wait(t, "the server's side", s.conns); got.result != ResultClientAlert {
		t.Errorf("got %q (%v), want %q", got.result, got.err, ResultClientAlert)
	}
	a, b := net.Pipe()
	defer b.Close()
	a.SetDeadline(time.Now())
	err := tls.Server(a, s.set().ServerConfig()).Handshake()
	if _, r := s.set().Done(&tls.ConnectionState{}, err); r != ResultTimeout {
		t.Errorf("got %q (%v), want %q", r, err, ResultTimeout)
	}
}

func (s *server) dialUntrusting(t *testing.T) {
	_, err := s.dial(t, &tls.Config{ServerName: "a.example", RootCAs: x509.NewCertPool()})
	if err == nil {
		t.Error("the client trusts what it should not")
	}
}

func BenchmarkPolicyFor(b *testing.B) {
	ca := newCA(b)
	m, _ := newManager(b, nil)
	set := open(b, m, twoPolicies(ca))
	host := []byte("mtls.example:8443")
	b.ReportAllocs()
	for b.Loop() {
		set.PolicyFor(host)
	}
}

// What of a handshake is ours.
func BenchmarkChooseCertificate(b *testing.B) {
	ca := newCA(b)
	m, _ := newManager(b, nil)
	set := open(b, m, twoPolicies(ca))
	hello := &tls.ClientHelloInfo{ServerName: "mtls.example"}
	b.ReportAllocs()
	for b.Loop() {
		cfg, _ := set.ServerConfig().GetConfigForClient(hello)
		cfg.GetCertificate(hello)
	}
}

func BenchmarkHandshake(b *testing.B) {
	ca := newCA(b)
	m, _ := newManager(b, nil)
	s := serve(b, open(b, m, Options{Policy: Policy{Certificates: []Pair{ca.pair("a.example")}}}))
	cfg := &tls.Config{ServerName: "a.example", RootCAs: ca.pool()}
	for b.Loop() {
		if _, err := s.dial(b, cfg); err != nil {
			b.Fatal(err)
		}
	}
}
