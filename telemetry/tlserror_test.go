package telemetry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Real handshakes that fail, so that a release of Go with other texts is noticed.
func TestTLSErrorOf(t *testing.T) {
	cert := certificate(t)
	trusting := func(c *tls.Config) *tls.Config { c.InsecureSkipVerify = true; return c }
	handshake := func(c *tls.Config) func(net.Conn) {
		return func(conn net.Conn) {
			client := tls.Client(conn, c)
			if client.Handshake() == nil {
				_, _ = io.Copy(io.Discard, client) // until the server has judged our certificate
			}
		}
	}
	for _, tt := range []struct {
		name   string
		server *tls.Config
		client func(net.Conn)
		want   TLSError
	}{
		{"silence", &tls.Config{}, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }, TLSTimeout},
		{"closed", &tls.Config{}, func(c net.Conn) {}, TLSClientGone},
		{"closed within the hello", &tls.Config{}, func(c net.Conn) { _, _ = c.Write([]byte{22, 3, 1, 0, 200, 1}) }, TLSClientGone},
		{"reset", &tls.Config{}, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, TLSClientGone},
		{"HTTP", &tls.Config{}, func(c net.Conn) { _, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); _, _ = io.Copy(io.Discard, c) }, TLSNotTLS},
		{"no certificate", &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return &tls.Config{}, nil }},
			handshake(trusting(&tls.Config{})), TLSNoCertificate},
		{"version", &tls.Config{MinVersion: tls.VersionTLS13}, handshake(trusting(&tls.Config{MaxVersion: tls.VersionTLS12})), TLSNoCommonVersion},
		{"cipher", &tls.Config{CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}},
			handshake(trusting(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}})), TLSNoCommonParameters},
		{"group", &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP521}},
			handshake(trusting(&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}})), TLSNoCommonParameters},
		{"ALPN", &tls.Config{NextProtos: []string{"h2"}}, handshake(trusting(&tls.Config{NextProtos: []string{"other"}})), TLSNoCommonParameters},
		{"untrusted", &tls.Config{}, handshake(&tls.Config{ServerName: "a.example", RootCAs: x509.NewCertPool()}), TLSRejected},
		{"no client certificate", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert}, handshake(trusting(&tls.Config{})), TLSClientCertificate},
		{"unknown client certificate", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()},
			handshake(trusting(&tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }})), TLSClientCertificate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.server.GetConfigForClient == nil {
				tt.server.Certificates = []tls.Certificate{cert}
			}
			err := failedHandshake(t, tt.server, tt.client)
			if got := TLSErrorOf(err); got != tt.want {
				t.Errorf("%v is %v, want %v", err, got, tt.want)
			}
		})
	}
	if got := TLSErrorOf(errors.New("something new")); got != TLSOther || got.String() != "other" {
		t.Errorf("got %v", got)
	}
	if TLSErrorOf(nil) != TLSOther || TLSError(99).String() != "other" {
		t.Error("nil and unknown are other")
	}
}

func failedHandshake(t *testing.T, config *tls.Config, client func(net.Conn)) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	left := make(chan struct{})
	go func() {
		defer close(left)
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		client(c)
	}()
	defer func() { <-left }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if err = tls.Server(conn, config).Handshake(); err == nil {
		t.Fatal("the handshake succeeded")
	}
	return err
}
