package gateway

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/preread"
)

// told is a server behind PROXY headers: it answers with the version and the client of the one that
// it got, and the head of the request.
func told(t *testing.T) string {
	return proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		h, err := proxytest.ReadProxyHeader(c.R)
		if err != nil {
			return
		}
		for r := c.Request(); r != nil; r = c.Request() {
			c.Send(proxytest.Response("200 OK", fmt.Sprintf("v%d %s for\n%s", h.Version, h.Source.Addr(), r.Head)))
		}
	}).Address()
}

func TestProxyHeadersByConfiguration(t *testing.T) {
	t.Parallel()
	without, with := sees(t), told(t)
	version2 := preread.Proxy{Version: 2, Source: netip.MustParseAddrPort("192.0.2.8:1"), Destination: netip.MustParseAddrPort("192.0.2.1:443")}
	const (
		nothing = ""
		one     = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"
		ours    = "proxy_protocol_from = [\"127.0.0.0/8\"]\n"
		others  = "proxy_protocol_from = [\"198.51.100.0/24\"]\n"
	)
	two := string(version2.Append(nil))
	r := startRig(t, head+listenerTable("web", "127.0.0.1:0", "")+routeTable("all", "", "app")+backendTable("app", without, ""), nil)
	for _, tt := range []struct {
		listener, header, send string
		want                   string // in the answer; "": the connection is closed without one
	}{
		{"", nothing, "off", "X-Forwarded-For: 127.0.0.1\r\n"},
		{"", nothing, "v1", "v1 127.0.0.1 for"},
		{"", nothing, "v2", "v2 127.0.0.1 for"},
		{"proxy_protocol = \"required\"\n" + ours, one, "off", "X-Forwarded-For: 192.0.2.7\r\n"},
		{"proxy_protocol = \"required\"\n" + ours, two, "v1", "v1 192.0.2.8 for"},
		{"proxy_protocol = \"required\"\n" + ours, one, "v2", "v2 192.0.2.7 for"},
		{"proxy_protocol = \"required\"\n" + ours, nothing, "off", ""},
		{"proxy_protocol = \"required\"\n" + others, one, "off", ""},
		{"proxy_protocol = \"optional\"\n" + ours, nothing, "v2", "v2 127.0.0.1 for"},
		{"proxy_protocol = \"optional\"\n" + ours, two, "v2", "v2 192.0.2.8 for"},
		// A header from an untrusted peer is an invalid request.
		{"proxy_protocol = \"optional\"\n" + others, one, "off", "400 Bad Request"},
		{"proxy_protocol = \"off\"\n", one, "off", "400 Bad Request"},
	} {
		server := with
		if tt.send == "off" {
			server = without
		}
		r.swap(head + listenerTable("web", "127.0.0.1:0", tt.listener) + routeTable("all", "", "app") +
			backendTable("app", server, fmt.Sprintf("send_proxy = %q", tt.send)))
		c := proxytest.Dial(t, r.address("web"), mptcp.Off)
		c.Send(tt.header + "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if tt.want == "" {
			c.WantClosed()
			continue
		}
		if a := c.Answer(); !strings.Contains(a.Head+a.Body, tt.want) {
			t.Errorf("%q, header %q, send_proxy %q: the answer is %q, want %q in it", tt.listener, tt.header, tt.send, a.Head+a.Body, tt.want)
		}
		c.Close()
	}
}

// One address serves names of its own by TLS, and passes others through encrypted.
func TestPassedThroughByConfiguration(t *testing.T) {
	t.Parallel()
	ca := acmetest.NewCA(t)
	cert, key := ca.PairIn(t.TempDir(), &x509.Certificate{DNSNames: []string{"mail.example", "deep.pass.example"}})
	theirs, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	mail := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		h, err := proxytest.ReadProxyHeader(c.R)
		if err != nil {
			return
		}
		s := tls.Server(heard{c.Conn, c.R}, &tls.Config{Certificates: []tls.Certificate{theirs}})
		if s.Handshake() != nil {
			return
		}
		in := &proxytest.Conn{Conn: s, R: bufio.NewReader(s)}
		for in.Request() != nil {
			in.Send(proxytest.Response("200 OK", "mail of "+h.Source.Addr().String()))
		}
	}).Address()
	own := pair(ca, t, &x509.Certificate{DNSNames: []string{"own.example", "pass.example", "too.deep.pass.example"}})
	r := startRig(t, head+tlsTable(pairs(own))+listenerTable("only", "127.0.0.1:0", "")+listenerTable("redirects", "127.0.0.1:0", "redirect_https = true")+
		routeTable("own", `listener = "secure"`, "own")+backendTable("own", named(t, "own"), "")+
		routeTable("mail", `sni = "mail.example"`, "mail")+routeTable("wild", `sni = "*.pass.example", listener = "secure"`, "mail")+
		backendTable("mail", mail, "send_proxy = \"v2\""), nil)
	for _, tt := range []struct {
		listener, name string
		want           string
	}{
		{"secure", "own.example", "own"},
		{"secure", "mail.example", "mail of 127.0.0.1"},
		{"secure", "deep.pass.example", "mail of 127.0.0.1"},
		{"secure", "pass.example", "own"},          // the wildcard is for one label
		{"secure", "too.deep.pass.example", "own"}, // and not for two
		{"only", "mail.example", "mail of 127.0.0.1"},
	} {
		a, err := asks(t, r.address(tt.listener), &tls.Config{ServerName: tt.name, RootCAs: ca.Pool()}, tt.name, "")
		if err != nil || a.Body != tt.want {
			t.Errorf("%s at %s: %v, %+v; want %q", tt.name, tt.listener, err, a, tt.want)
		}
	}
	// Where nothing is opened, other names are no HTTP; and where all is redirected, nobody looks
	// for a name.
	for listener, name := range map[string]string{"only": "deep.pass.example", "redirects": "mail.example"} {
		if _, err := tls.Dial("tcp", r.address(listener), &tls.Config{ServerName: name, RootCAs: ca.Pool()}); err == nil {
			t.Errorf("%s was served at the listener %s", name, listener)
		}
	}
	if got := fetch(t, "http://"+r.address("only")+"/"); !strings.HasPrefix(got, "404 ") {
		t.Errorf("plain HTTP beside names that are passed: %q", got)
	}
}

// heard is a connection of which the beginning was read.
type heard struct {
	net.Conn
	r *bufio.Reader
}

func (h heard) Read(p []byte) (int, error) { return h.r.Read(p) }
