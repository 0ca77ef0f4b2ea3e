package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
)

// overTLS is plain with TLS.
var overTLS = modes[4]

// secure connects by a server name.
func (g *gateway) secure(name string) *proxytest.Client {
	g.t.Helper()
	c := proxytest.Dial(g.t, g.addr, g.mode.mptcp)
	c.Secure(&tls.Config{ServerName: name, RootCAs: testCert(g.t).roots})
	return c
}

func TestTLSInTheAccessLog(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{mode: overTLS}, o)
	for _, tt := range []struct {
		name, version, cipher, group string
		config                       *tls.Config
	}{
		{"1.3", "TLS 1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768", &tls.Config{}},
		{"1.3 without the hybrid group", "TLS 1.3", "TLS_AES_128_GCM_SHA256", "CurveP256",
			&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP256}}},
		{"1.2", "TLS 1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "X25519",
			&tls.Config{MaxVersion: tls.VersionTLS12}},
	} {
		tt.config.ServerName, tt.config.RootCAs = testHost, testCert(t).roots
		tt.config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for _, resumed := range []bool{false, true} {
			c := proxytest.Dial(t, g.addr, g.mode.mptcp)
			if state := c.Secure(tt.config); state.DidResume != resumed {
				t.Errorf("%s: resumed is %v, want %v", tt.name, state.DidResume, resumed)
			}
			want(t, "status", c.Get("/").Status, 200)
			c.Close()
			l := g.log.Next()
			if l.TLSVersion != tt.version || l.TLSCipher != tt.cipher || l.TLSGroup != tt.group ||
				l.TLSResumed == nil || *l.TLSResumed != resumed || l.SNI != testHost || l.Scheme != "https" {
				t.Errorf("%s, resumed %v: logged %+v", tt.name, resumed, l)
			}
		}
	}
	g.waitMetric(2, "mpgate_tls_handshakes_total", "listener", "web", "version", "TLS 1.3", "resumed", "true")
	g.waitMetric(1, "mpgate_tls_handshakes_total", "listener", "web", "version", "TLS 1.2", "resumed", "false")
}

func TestTLSVersionIsAbsentFromPlainLines(t *testing.T) {
	t.Parallel()
	g := start(t, setup{}, plain.origin(t, proxytest.Echo))
	g.client().Get("/")
	if l := g.log.Next(); l.TLSVersion != "" || l.TLSResumed != nil || l.SNI != "" || l.Scheme != "http" {
		t.Errorf("logged %+v", l)
	}
}

// Case 15: what was checked for one name does not count for another.
func TestMisdirectedRequests(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	p := onePolicy(t)
	p.byHost = map[string]uint64{"b.example": 2}
	g := start(t, setup{mode: overTLS, listener: proxy.ListenerOptions{TLS: p}}, o)
	ask := func(c *proxytest.Client, path, host string) *proxytest.Answer {
		c.Send("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		return c.Answer()
	}
	for _, tt := range []struct {
		sni, host string
		status    int
	}{
		{testHost, "b.example", 421},
		{testHost, "B.EXAMPLE:8443", 421},
		{testHost, testHost, 200},
		{testHost, "c.example", 200}, // the same policy
		{"b.example", "b.example", 200},
		{"b.example", "B.Example", 200},
		{"b.example", testHost, 421},
		{"B.Example", "b.example", 200},
	} {
		c := g.secure(tt.sni)
		want(t, fmt.Sprintf("status for %s by %s", tt.host, tt.sni),
			ask(c, fmt.Sprintf("/%d", tt.status), tt.host).Status, tt.status)
		l := g.log.Next()
		want(t, "end", l.End == "misdirected", tt.status == 421)
		// The connection continues, for what it is good for.
		want(t, "status of the next", ask(c, "/next", strings.ToLower(tt.sni)).Status, 200)
		g.log.Next()
	}
	lacks(t, "what the server got", o.AllRaw(), "/421")

	// A policy that is gone, as by a reload, takes its connections with it.
	c := g.secure("b.example")
	want(t, "status", ask(c, "/x", "b.example").Status, 200)
	next := *p
	next.gone = map[uint64]bool{2: true}
	g.update(func(o *proxy.ListenerOptions) { o.TLS = &next })
	a := ask(c, "/x", "b.example")
	want(t, "status under a policy that is gone", a.Status, 421)
	want(t, "Connection", a.Header("Connection"), "close")
	c.WantClosed()

	// Plain connections of before do not pass for TLS.
	g.update(func(o *proxy.ListenerOptions) { o.TLS = nil })
	c = proxytest.Dial(t, g.addr, g.mode.mptcp)
	want(t, "status", c.Get("/x").Status, 200)
	g.update(func(o *proxy.ListenerOptions) { o.TLS = p })
	a = c.Get("/x")
	want(t, "status without TLS", a.Status, 421)
	c.WantClosed()
}

// update is a reload of the listener.
func (g *gateway) update(change func(*proxy.ListenerOptions)) {
	change(&g.options)
	g.front.Update(g.options)
}

func TestTermsOfAPolicy(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	p := onePolicy(t)
	p.config.ClientAuth = tls.RequestClientCert
	names := []string{"X-Client-Subject", "x_client_serial"}
	p.terms = map[uint64]*proxy.Terms{1: {
		HSTS: "max-age=31536000",
		Identity: func(s *tls.ConnectionState) []proxy.Field {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			return []proxy.Field{{Name: "X-Client-Subject", Value: s.PeerCertificates[0].Subject.String()}}
		},
	}}
	g := start(t, setup{mode: overTLS, listener: proxy.ListenerOptions{TLS: p, OwnNames: names}, routes: keepNames}, o)
	forged := "GET /who HTTP/1.1\r\n" + host + "x-client-subject: CN=admin\r\nX-CLIENT-SUBJECT: CN=root\r\n" +
		"X_Client_Serial: 1\r\nX-Other: stays\r\n\r\n"

	c := g.secure(testHost)
	c.Send(forged)
	a := c.Answer()
	want(t, "HSTS", a.Header("Strict-Transport-Security"), "max-age=31536000")
	seen := o.Raw()[0]
	lacks(t, "what the server got from a stranger", seen, "x-client-subject", "x_client_serial")
	contains(t, "what the server got", seen, "X-Other: stays\r\n")

	c = proxytest.Dial(t, g.addr, g.mode.mptcp)
	c.Secure(&tls.Config{ServerName: testHost, RootCAs: testCert(t).roots,
		Certificates: []tls.Certificate{testCert(t).Certificate}})
	c.Send(forged)
	c.Answer()
	seen = strings.TrimPrefix(o.AllRaw(), seen)
	want(t, "fields with the subject", strings.Count(strings.ToLower(seen), "x-client-subject"), 1)
	contains(t, "what the server got", seen, "X-Client-Subject: CN=test\r\n")

	// The gateway's own answers have HSTS as well.
	c.Send("GET / HTTP/1.1\r\n" + host + "Bad Field: x\r\n\r\n")
	a = c.Answer()
	want(t, "status", a.Status, 400)
	want(t, "HSTS", a.Header("Strict-Transport-Security"), "max-age=31536000")
}

func TestPlainHTTPOnATLSPort(t *testing.T) {
	t.Parallel()
	g := start(t, setup{mode: overTLS}, plain.origin(t, proxytest.Echo))
	for _, request := range []string{
		"GET / HTTP/1.1\r\n" + host + "\r\n", "G / HTTP/1.0\r\n\r\n", "\r\nGET / HTTP/1.1\r\n" + host + "\r\n",
		"POST / HTTP/1.1\r\n" + host + "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
	} {
		c := proxytest.Dial(t, g.addr, g.mode.mptcp)
		c.Send(request)
		a := c.Answer()
		want(t, "status", a.Status, 400)
		contains(t, "the answer", a.Body, "this port requires TLS; use https")
		want(t, "Connection", a.Header("Connection"), "close")
		c.Close()
	}
	g.waitMetric(4, "mpgate_connections_total", "listener", "web", "end", "bad_request")
	// What is neither gets no answer that it could take for one.
	c := proxytest.Dial(t, g.addr, g.mode.mptcp)
	c.Send("\x00\x01\x02\x03\x04\x05\x06\x07")
	rest, _ := c.Rest()
	lacks(t, "the answer to garbage", rest, "HTTP")
	g.bystander()
}

func TestRedirectToHTTPS(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	challenge := func(host, path []byte) (string, bool) {
		return "proof of " + string(host), string(path) == "/.well-known/acme-challenge/token"
	}
	g := start(t, setup{listener: proxy.ListenerOptions{RedirectHTTPS: true, HealthPath: "/ok",
		Challenge: challenge}}, o)
	for _, tt := range []struct{ target, host, location string }{
		{"/", "a.example", "https://a.example/"},
		{"/a/b?c=d&e", "A.Example:8080", "https://a.example/a/b?c=d&e"},
		{"/?", "a.example", "https://a.example/?"},
		{"/.well-known/acme-challenge/others", "a.example", "https://a.example/.well-known/acme-challenge/others"},
		{"http://b.example/x", "b.example", "https://b.example/x"},
		{"/x", "[::1]:80", "https://[::1]/x"},
	} {
		c := g.client()
		c.Send("GET " + tt.target + " HTTP/1.1\r\nHost: " + tt.host + "\r\n\r\n")
		a := c.Answer()
		if a.Status != 308 || !strings.EqualFold(a.Header("Location"), tt.location) {
			t.Errorf("%s of %s: got %d, %q; want %s", tt.target, tt.host, a.Status, a.Header("Location"), tt.location)
		}
		want(t, "kept connection", c.Get("/ok").Status, 200)
	}
	c := g.client()
	a := c.Get("/.well-known/acme-challenge/token")
	if a.Status != 200 || a.Body != "proof of a.example" {
		t.Errorf("the challenge got %d %q", a.Status, a.Body)
	}
	c.Send("POST /form HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello")
	want(t, "status of a POST", c.AnswerTo("POST").Status, 308)
	c.Send("GET / HTTP/1.0\r\n\r\n")
	want(t, "status without Host", c.Answer().Status, 400)
	want(t, "connections to the server", o.Connections(), 0)
	lacks(t, "an answer without TLS", a.Head, "strict-transport")
}

func TestChallengeComesBeforeRoutesAndOthersReachThem(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	ours := "/.well-known/acme-challenge/ours"
	g := start(t, setup{listener: proxy.ListenerOptions{Challenge: func(_, path []byte) (string,
		bool) {
		return "proof", string(path) == ours
	}}}, o)
	c := g.client()
	want(t, "body", c.Get(ours).Body, "proof")
	want(t, "body of another client's challenge", c.Get("/.well-known/acme-challenge/theirs").Body,
		"GET /.well-known/acme-challenge/theirs ")
	c.Send("POST " + ours + " HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n")
	want(t, "body of a POST", c.AnswerTo("POST").Body, "POST "+ours+" ")
}

// Case 18 on listeners with TLS: silence, half a ClientHello, and one that waits for the server's
// part and says no more.
func TestStalledHandshakes(t *testing.T) {
	t.Parallel()
	// The bystander must manage a handshake within it, on a busy machine.
	const limit = 3 * time.Second
	g := start(t, setup{mode: overTLS, options: proxy.Options{Limits: proxy.Limits{HeaderTime: limit}}},
		plain.origin(t, proxytest.Echo))
	hello := clientHello(t, testHost)
	var stalled sync.WaitGroup
	for name, sent := range map[string]string{
		"silence": "", "one byte": hello[:1], "half a record head": hello[:3],
		"half a ClientHello":      hello[:len(hello)/2],
		"no answer to the server": hello,
	} {
		began := time.Now()
		c := proxytest.Dial(t, g.addr, g.mode.mptcp)
		c.Send(sent)
		stalled.Go(func() {
			_, _ = c.Rest() // maybe the server's part of the handshake
			took := time.Since(began)
			if took < limit/2 || took > proxytest.Patience/2 {
				t.Errorf("%s: closed after %v, want about %v", name, took, limit)
			}
		})
	}
	stalled.Wait()
	// Bytes that trickle do not move the deadline.
	c := proxytest.Dial(t, g.addr, g.mode.mptcp)
	tick := time.NewTicker(limit / 20)
	defer tick.Stop()
	began := time.Now()
	for i := range hello {
		<-tick.C
		if _, err := c.Write([]byte{hello[i]}); err != nil {
			break
		}
		if time.Since(began) > proxytest.Patience/2 {
			t.Fatal("a ClientHello that trickles is waited for without end")
		}
	}
	g.waitMetric(6, "mpgate_connections_total", "listener", "web", "end", "timeout")
	g.bystander()
}

// clientHello is what crypto/tls sends first.
func clientHello(t testing.TB, name string) string {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(a, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(b, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(b, body); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	<-done
	return string(head) + string(body)
}

func TestFailedHandshakesAreCountedAndNamed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{mode: overTLS}, plain.origin(t, proxytest.Echo))
	for _, tt := range []struct {
		config *tls.Config
		alert  string
	}{
		{&tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, "protocol version not supported"},
		{&tls.Config{NextProtos: []string{"spdy/3"}}, "no application protocol"},
		{&tls.Config{CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}, MaxVersion: tls.VersionTLS12},
			"handshake failure"},
	} {
		tt.config.ServerName, tt.config.RootCAs = testHost, testCert(t).roots
		c := proxytest.Dial(t, g.addr, g.mode.mptcp)
		err := tls.Client(c.Conn, tt.config).Handshake()
		if err == nil || !strings.Contains(err.Error(), tt.alert) {
			t.Errorf("got %v, want the alert %q", err, tt.alert)
		}
		c.Close()
	}
	g.waitMetric(3, "mpgate_connections_total", "listener", "web", "end", "tls")
	g.bystander()
}

// 1,000 handshakes at once: all are answered, and who is served already does not notice.
func TestAThousandHandshakesAtOnce(t *testing.T) {
	t.Parallel()
	many := 1000
	if raceEnabled {
		many = 300 // each takes more than ten times as long
	}
	g := start(t, setup{mode: overTLS, noLog: true, options: proxy.Options{Limits: proxy.Limits{HeaderTime: proxytest.Patience}}},
		plain.origin(t, proxytest.Echo))
	stop := make(chan struct{})
	c := g.secure(testHost)
	worst, served := time.Duration(0), 0
	var bystander sync.WaitGroup
	bystander.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			began := time.Now()
			if a := c.Get("/innocent"); a.Body != "GET /innocent " {
				t.Errorf("the bystander got %q", a.Body)
				return
			}
			worst = max(worst, time.Since(began))
			served++
		}
	})
	var failed atomic.Int64
	var all sync.WaitGroup
	for range many {
		nc := proxytest.Dial(t, g.addr, g.mode.mptcp)
		all.Go(func() {
			tc := tls.Client(nc.Conn, &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots})
			if err := tc.Handshake(); err != nil {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	close(stop)
	bystander.Wait()
	want(t, "handshakes that failed", failed.Load(), 0)
	t.Logf("the bystander was served %d times, once after %v", served, worst)
	if served == 0 || worst > 10*time.Second {
		t.Errorf("the bystander was served %d times, once after %v", served, worst)
	}
}

func keepNames(b *backend.Backend) []proxy.Route {
	return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}, KeepUnsafeNames: true}}
}
