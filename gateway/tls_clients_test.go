package gateway

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// sees is a server that answers with the head that it got.
func sees(t *testing.T) string {
	return proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			c.Send(proxytest.Response("200 OK", r.Head))
		}
	}).Address()
}

// asks sends one request on a connection of its own, and gives the answer.
func asks(t *testing.T, address string, c *tls.Config, host, fields string) (a *proxytest.Answer, err error) {
	t.Helper()
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return nil, err
	}
	client := proxytest.NewClient(t, conn)
	defer client.Close()
	client.Send("GET /who HTTP/1.1\r\nHost: " + host + "\r\n" + fields + "\r\n")
	if _, err := client.R.Peek(1); err != nil { // in TLS 1.3 a refusal shows only now
		return nil, err
	}
	return client.Answer(), nil
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca, stranger := acmetest.NewCA(t), acmetest.NewCA(t)
	server := pair(ca, t, &x509.Certificate{DNSNames: []string{"open.example", "asks.example", "given.example", "strict.example"}})
	policy := func(host, mode, more string) string {
		return fmt.Sprintf("[[listener.tls.policy]]\nhosts = [%q]\nclient_auth = %q\nclient_headers = { subject = \"X-Client-Subject\", san = \"X-Client-SAN\", fingerprint = \"X-Client-Fingerprint\", certificate = \"X-Client-Cert\", serial = \"X-Client-Serial\", issuer = \"X-Client-Issuer\" }\n%s", host, mode, more)
	}
	file := ca.File
	caLine := fmt.Sprintf("client_ca = %q\n", file)
	toml := head + tlsTable(pairs(server)+"[[listener.tls.policy]]\nhosts = [\"asks.example\"]\nclient_auth = \"request\"\n"+policy("given.example", "verify_if_given", caLine)+
		policy("strict.example", "require", caLine+"client_san = [\"robot.example\"]\n")) + routeTable("all", "", "app") + backendTable("app", sees(t), "")
	r := startRig(t, toml, nil)
	robot := ca.Client(&x509.Certificate{Subject: pkix.Name{CommonName: "robot, the \"first\""}, DNSNames: []string{"robot.example"}})
	other := ca.Client(&x509.Certificate{Subject: pkix.Name{CommonName: "other"}, DNSNames: []string{"other.example"}})
	foreign := stranger.Client(&x509.Certificate{Subject: pkix.Name{CommonName: "foreign"}, DNSNames: []string{"robot.example"}})
	forged := "X-Client-Subject: CN=admin\r\nx-client-san: DNS:admin\r\nX-CLIENT-CERT: x\r\nX-Client-Fingerprint: 1\r\nX-Client-Serial: 1\r\nX-Client-Issuer: x\r\n"
	for _, tt := range []struct {
		host   string
		client *tls.Certificate
		served bool
		says   bool // who it is
	}{
		{"open.example", nil, true, false}, {"open.example", robot, true, false},
		// An unverified certificate is not passed on.
		{"asks.example", nil, true, false}, {"asks.example", foreign, true, false},
		{"given.example", nil, true, false}, {"given.example", other, true, true}, {"given.example", foreign, false, false},
		{"strict.example", nil, false, false}, {"strict.example", robot, true, true}, {"strict.example", other, false, false}, {"strict.example", foreign, false, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c := &tls.Config{ServerName: tt.host, RootCAs: ca.Pool(), MaxVersion: version}
			name := "nobody"
			if tt.client != nil {
				name = tt.client.Leaf.Subject.CommonName
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.client, nil }
			}
			a, err := asks(t, r.address("secure"), c, tt.host, forged)
			if (err == nil && a.Status == 200) != tt.served {
				t.Errorf("%s as %s: %v, want served %v", tt.host, name, err, tt.served)
				continue
			}
			if err != nil {
				continue
			}
			seen := &proxytest.Request{Head: a.Body}
			if strings.Contains(a.Body, "CN=admin") || strings.Contains(a.Body, "DNS:admin") || seen.Header("X-Client-Cert") == "x" || seen.Header("X-Client-Serial") == "1" {
				t.Errorf("%s as %s: what the client forged went on: %q", tt.host, name, a.Body)
			}
			if seen.Has("X-Client-Subject") != tt.says {
				t.Errorf("%s as %s: %q", tt.host, name, a.Body)
			}
			if tt.says && (!strings.HasPrefix(seen.Header("X-Client-San"), "DNS:"+tt.client.Leaf.DNSNames[0]) || len(seen.Header("X-Client-Fingerprint")) != 64 ||
				seen.Header("X-Client-Serial") != tt.client.Leaf.SerialNumber.Text(16)) {
				t.Errorf("%s as %s: %q", tt.host, name, a.Body)
			}
			if tt.says {
				if text, err := url.QueryUnescape(seen.Header("X-Client-Cert")); err != nil || text != string(acmetest.CertPEM(tt.client.Leaf)) {
					t.Errorf("the certificate went on as %q, %v", text, err)
				}
			}
		}
	}
	// The name of the handshake is not the host of the request.
	for sni, host := range map[string]string{"open.example": "strict.example", "given.example": "STRICT.example:443", "strict.example": "open.example"} {
		c := &tls.Config{ServerName: sni, RootCAs: ca.Pool(), Certificates: []tls.Certificate{*robot}}
		if a, err := asks(t, r.address("secure"), c, host, ""); err != nil || a.Status != 421 {
			t.Errorf("%s by %s: %+v, %v; want 421", host, sni, a, err)
		}
	}
}

// A peer is trusted by its certificate if that is verified, and nobody else is.
func TestTrustedByCertificate(t *testing.T) {
	t.Parallel()
	ca, stranger := acmetest.NewCA(t), acmetest.NewCA(t)
	server := pair(ca, t, &x509.Certificate{DNSNames: []string{"open.example", "asks.example", "given.example"}})
	table := strings.Replace(tlsTable(pairs(server)+"[[listener.tls.policy]]\nhosts = [\"asks.example\"]\nclient_auth = \"request\"\n"+
		fmt.Sprintf("[[listener.tls.policy]]\nhosts = [\"given.example\"]\nclient_auth = \"verify_if_given\"\nclient_ca = %q\n", ca.File)),
		"[listener.tls]", "trusted_proxies = [\"certificate\"]\n[listener.tls]", 1)
	r := startRig(t, head+table+routeTable("all", "", "app")+backendTable("app", sees(t), ""), nil)
	proxy := ca.Client(&x509.Certificate{Subject: pkix.Name{CommonName: "proxy"}})
	foreign := stranger.Client(&x509.Certificate{Subject: pkix.Name{CommonName: "foreign"}})
	for _, tt := range []struct {
		host   string
		client *tls.Certificate
		want   string
	}{
		{"open.example", proxy, "127.0.0.1"}, // it is not asked for
		{"asks.example", foreign, "127.0.0.1"}, {"asks.example", proxy, "127.0.0.1"},
		{"given.example", nil, "127.0.0.1"}, {"given.example", proxy, "192.0.2.1, 127.0.0.1"},
	} {
		c := &tls.Config{ServerName: tt.host, RootCAs: ca.Pool()}
		if tt.client != nil {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.client, nil }
		}
		a, err := asks(t, r.address("secure"), c, tt.host, "X-Forwarded-For: 192.0.2.1\r\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := (&proxytest.Request{Head: a.Body}).Header("X-Forwarded-For"); got != tt.want {
			t.Errorf("%s: the server got %q, want %q", tt.host, got, tt.want)
		}
	}
}

// Case 16: a session of one policy is not resumed under another, nor after a reload that changed
// what it stands for; one that changed nothing keeps it.
func TestSessionsKeepToTheirPolicy(t *testing.T) {
	t.Parallel()
	ca := acmetest.NewCA(t)
	next := acmetest.NewCA(t)
	clients := filepath.Join(t.TempDir(), "clients.pem")
	acmetest.Replace(t, clients, acmetest.CertPEM(ca.Cert))
	server := pair(ca, t, &x509.Certificate{DNSNames: []string{"open.example", "strict.example"}})
	strict := fmt.Sprintf("[[listener.tls.policy]]\nhosts = [\"strict.example\"]\nclient_auth = \"require\"\nclient_ca = %q\n", clients)
	toml := head + tlsTable(pairs(server)+strict) + app(t)
	r := startRig(t, toml, nil)
	me := ca.Client(&x509.Certificate{DNSNames: []string{"me.example"}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		acmetest.Replace(t, clients, acmetest.CertPEM(ca.Cert))
		r.swap(toml)
		sessions := &oneSession{}
		c := &tls.Config{RootCAs: ca.Pool(), MaxVersion: version, ClientSessionCache: sessions}
		ask := func(name string, certificates ...tls.Certificate) (resumed bool, err error) {
			t.Helper()
			c := c.Clone()
			c.ServerName, c.Certificates = name, certificates
			conn, err := tls.Dial("tcp", r.address("secure"), c)
			if err != nil {
				return false, err
			}
			client := proxytest.NewClient(t, conn)
			defer client.Close()
			client.Send("GET / HTTP/1.1\r\nHost: " + name + "\r\n\r\n")
			if _, err := client.R.Peek(1); err != nil {
				return false, err
			}
			client.Answer()
			return conn.ConnectionState().DidResume, nil
		}
		if resumed, err := ask("open.example"); resumed || err != nil {
			t.Fatal(resumed, err)
		}
		if resumed, err := ask("open.example"); !resumed || err != nil {
			t.Errorf("%s: a session is not resumed: %v", tls.VersionName(version), err)
		}
		if resumed, err := ask("strict.example"); err == nil {
			t.Errorf("%s: a session of the open site opens the other one (resumed %v)", tls.VersionName(version), resumed)
		}
		sessions.forget()
		if resumed, err := ask("strict.example", *me); resumed || err != nil {
			t.Fatal(resumed, err)
		}
		r.swap(toml) // it changes nothing
		if resumed, err := ask("strict.example", *me); !resumed || err != nil {
			t.Errorf("%s: a reload that changes nothing ends sessions: %v, %v", tls.VersionName(version), resumed, err)
		}
		acmetest.Replace(t, clients, acmetest.CertPEM(next.Cert))
		r.swap(toml)
		if resumed, err := ask("strict.example", *me); err == nil {
			t.Errorf("%s: a session outlives the CA that verified it (resumed %v)", tls.VersionName(version), resumed)
		}
	}
}

// oneSession is a client's cache that offers what it has to everybody.
type oneSession struct{ s *tls.ClientSessionState }

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.s, o.s != nil }
func (o *oneSession) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		o.s = s
	}
}
func (o *oneSession) forget() { o.s = nil }

func TestVersionsGroupsAndHSTS(t *testing.T) {
	t.Parallel()
	ca := acmetest.NewCA(t)
	server := pair(ca, t, &x509.Certificate{DNSNames: []string{"a.example", "new.example"}})
	r := startRig(t, head+tlsTable(pairs(server)+"hsts = \"max-age=1\"\n[[listener.tls.policy]]\nhosts = [\"new.example\"]\nmin_version = \"1.3\"\n")+app(t), nil)
	address := r.address("secure")
	for _, tt := range []struct {
		name string
		c    *tls.Config
		err  string
	}{
		{"a.example", &tls.Config{MaxVersion: tls.VersionTLS12}, ""},
		{"a.example", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version not supported"},
		{"new.example", &tls.Config{MaxVersion: tls.VersionTLS12}, "protocol version not supported"},
		{"new.example", &tls.Config{}, ""},
		{"a.example", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, "handshake failure"},
		{"a.example", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, "handshake failure"},
		{"a.example", &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP521}}, "handshake failure"},
	} {
		tt.c.ServerName, tt.c.RootCAs = tt.name, ca.Pool()
		_, err := handshake(address, tt.c)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
	}
	for protocols, want := range map[string]string{"h2,http/1.1": "h2", "http/1.1,h2": "h2", "http/1.1": "http/1.1"} {
		s, err := handshake(address, &tls.Config{ServerName: "a.example", RootCAs: ca.Pool(), NextProtos: strings.Split(protocols, ",")})
		if err != nil || s.NegotiatedProtocol != want || s.CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s: got %s, group %s, %v", protocols, s.NegotiatedProtocol, s.CurveID, err)
		}
	}
	a, err := asks(t, address, &tls.Config{ServerName: "a.example", RootCAs: ca.Pool()}, "a.example", "")
	if err != nil || a.Header("Strict-Transport-Security") != "max-age=1" {
		t.Errorf("HSTS: %+v, %v", a, err)
	}
}

// What stands in a backend's tls table and send_proxy arrives.
func TestTLSToServersByConfiguration(t *testing.T) {
	t.Parallel()
	ca, stranger := acmetest.NewCA(t), acmetest.NewCA(t)
	serverCert, serverKey := ca.PairIn(t.TempDir(), &x509.Certificate{DNSNames: []string{"api.internal"}})
	server, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{server},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	}
	origin := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		s := tls.Server(c.Conn, config)
		if s.Handshake() != nil {
			return
		}
		in := &proxytest.Conn{Conn: s, R: bufio.NewReader(s)}
		for in.Request() != nil {
			in.Send(proxytest.Response("200 OK", s.ConnectionState().ServerName+" "+s.ConnectionState().PeerCertificates[0].DNSNames[0]))
		}
	})
	cert, key := ca.PairIn(t.TempDir(), &x509.Certificate{DNSNames: []string{"gateway.internal"}})
	// No case here is a timeout, and on a busy machine a handshake may take seconds.
	table := func(more string) string {
		return head + listenerTable("web", "127.0.0.1:0", "") + routeTable("all", "", "app") +
			backendTable("app", origin.Address(), fmt.Sprintf("connect_timeout = \"30s\"\ntls = { cert = %q, key = %q, %s }", cert, key, more))
	}
	r := startRig(t, table(fmt.Sprintf("ca = %q, server_name = \"api.internal\"", ca.File)), nil)
	for _, tt := range []struct{ more, want string }{
		{fmt.Sprintf("ca = %q, server_name = \"api.internal\"", ca.File), "200 api.internal gateway.internal"},
		{fmt.Sprintf("ca = %q, server_name = \"api.internal\", san = [\"*.internal\"]", ca.File), "200 api.internal gateway.internal"},
		{fmt.Sprintf("ca = %q, server_name = \"api.internal\", san = [\"db.internal\"]", ca.File), "502 "},
		{fmt.Sprintf("ca = %q", ca.File), "502 "}, // the address is not in the certificate
		{fmt.Sprintf("ca = %q, server_name = \"api.internal\"", stranger.File), "502 "},
		{"server_name = \"api.internal\"", "502 "}, // verified by the system's CAs
		{"server_name = \"api.internal\", verify = false", "200 api.internal gateway.internal"},
	} {
		r.swap(table(tt.more))
		if got := fetch(t, "http://"+r.address("web")); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.more, got, tt.want)
		}
	}
}
