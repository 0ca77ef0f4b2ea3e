package gateway

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"

	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// greeter is a server that says its name first and returns what comes.
func greeter(t *testing.T, name string) string {
	return proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		c.Send(name + "\n")
		_, _ = io.Copy(c.Conn, c.R)
		c.CloseWrite()
	}).Address()
}

// greeting connects and reads the first line.
func greeting(t *testing.T, address string) (c net.Conn, r *bufio.Reader, line string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r = bufio.NewReader(c)
	if line, err = r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return c, r, line
}

// A listener becomes one for bytes, changes its backend and becomes one for HTTP again, while its
// sockets stay. Connections continue where their route is unchanged.
func TestTCPListenerByConfiguration(t *testing.T) {
	t.Parallel()
	const tcp = `protocols = ["tcp"]`
	one, two := greeter(t, "one"), greeter(t, "two")
	http := listenerTable("web", "127.0.0.1:0", "") + routeTable("all", "", "app") + backendTable("app", named(t, "app"), "")
	r := startRig(t, head+"[shutdown]\ndrain = \"100ms\"\n"+http, nil)
	address := r.address("web")
	bytesTo := func(server, more string) string {
		return head + "[shutdown]\ndrain = \"100ms\"\n" + more + listenerTable("web", "127.0.0.1:0", tcp) +
			routeTable("bytes", `listener = "web"`, "raw") + backendTable("raw", server, "")
	}
	r.swap(bytesTo(one, ""))
	c, in, line := greeting(t, address)
	if line != "one\n" {
		t.Errorf("got %q", line)
	}
	r.swap(bytesTo(one, "[limits]\nheader_time = \"9s\"\n")) // another generation, the same route
	_, _ = io.WriteString(c, "still here\n")
	if line, err := in.ReadString('\n'); line != "still here\n" {
		t.Errorf("after a reload the connection got %q, %v", line, err)
	}
	r.swap(bytesTo(two, ""))
	if _, _, line := greeting(t, address); line != "two\n" {
		t.Errorf("after a reload the server is %q", line)
	}
	if got, err := io.ReadAll(in); len(got) > 0 {
		t.Errorf("a connection of the old route got %q, %v; want its end", got, err)
	}
	r.swap(head + http)
	if got := fetch(t, "http://"+address+"/"); got != "200 app" {
		t.Errorf("over HTTP the answer is %q", got)
	}
}

// Two ports of a range, and TLS that ends here whatever protocol the client wants within.
func TestTCPRangeAndTLS(t *testing.T) {
	t.Parallel()
	ca := acmetest.NewCA(t)
	cert := pair(ca, t, &x509.Certificate{DNSNames: []string{"mail.example"}})
	const ports = "127.93.6.17" // of the loopback network, and nobody else's
	r := startRig(t, head+tlsTable(pairs(cert))+listenerTable("range", ports+":7001-7002", `protocols = ["tcp"]`)+
		routeTable("range", `listener = "range"`, "one")+routeTable("mail", `listener = "secure"`, "two")+
		backendTable("one", greeter(t, "one"), "")+backendTable("two", greeter(t, "two"), ""), nil)
	for _, port := range []string{"7001", "7002"} {
		if _, _, line := greeting(t, ports+":"+port); line != "one\n" {
			t.Errorf("port %s: got %q", port, line)
		}
	}
	r.swap(strings.Replace(head+tlsTable(pairs(cert)), "[listener.tls]", "protocols = [\"tcp\"]\n[listener.tls]", 1) +
		routeTable("mail", `listener = "secure"`, "two") + backendTable("two", greeter(t, "two"), ""))
	s, err := tls.Dial("tcp", r.address("secure"), &tls.Config{ServerName: "mail.example", RootCAs: ca.Pool(), NextProtos: []string{"imap"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if line, err := bufio.NewReader(s).ReadString('\n'); line != "two\n" || s.ConnectionState().NegotiatedProtocol != "" {
		t.Errorf("got %q, %v, protocol %q", line, err, s.ConnectionState().NegotiatedProtocol)
	}
	if n := len(r.Status().Listeners); n != 1 {
		t.Errorf("%d listeners after the reload, want 1", n)
	}
}

// sni = "*" takes every TLS connection that no other name takes, also one without a name.
func TestAnyServerName(t *testing.T) {
	t.Parallel()
	ca := acmetest.NewCA(t)
	own, err := tls.LoadX509KeyPair(ca.PairIn(t.TempDir(), &x509.Certificate{DNSNames: []string{"a.example", "b.example"}}))
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(name string) string {
		return proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
			s := tls.Server(heard{c.Conn, c.R}, &tls.Config{Certificates: []tls.Certificate{own}})
			_, _ = io.WriteString(s, name+"\n")
			_ = s.Close()
		}).Address()
	}
	r := startRig(t, head+listenerTable("web", "127.0.0.1:0", "")+routeTable("b", `sni = "b.example"`, "b")+routeTable("rest", `sni = "*"`, "rest")+
		routeTable("http", "", "app")+backendTable("app", named(t, "app"), "")+backendTable("b", sealed("b"), "")+backendTable("rest", sealed("rest"), ""), nil)
	for name, want := range map[string]string{"a.example": "rest", "b.example": "b", "": "rest"} {
		s, err := tls.Dial("tcp", r.address("web"), &tls.Config{ServerName: name, RootCAs: ca.Pool(), InsecureSkipVerify: name == ""})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if got, err := io.ReadAll(s); string(got) != want+"\n" {
			t.Errorf("%q: got %q, %v; want %q", name, got, err, want)
		}
		s.Close()
	}
	if got := fetch(t, "http://"+r.address("web")+"/"); got != "200 app" {
		t.Errorf("over HTTP the answer is %q", got)
	}
}
