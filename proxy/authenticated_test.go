package proxy_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/message"
)

// authenticating is a server that authenticates connections, in two steps as NTLM does: the first
// gets a challenge, the second names who it is. left gets the name when such a connection ends.
func authenticating(left chan<- string) func(*proxytest.Conn) {
	return func(c *proxytest.Conn) {
		user, challenged := "", false
		defer func() {
			if user != "" && left != nil {
				left <- user
			}
		}()
		for r := c.Request(); r != nil; r = c.Request() {
			_, token, _ := strings.Cut(r.Header("Authorization"), " ")
			name, last := strings.CutPrefix(token, "LAST-")
			if last && challenged {
				user = name
			}
			answer := proxytest.Response("200 OK", "mailbox of "+user)
			switch {
			case user != "":
			case token == "FIRST":
				challenged = true
				answer = proxytest.Response("401 Unauthorized", "", "WWW-Authenticate: NTLM CHALLENGE")
			default:
				answer = proxytest.Response("401 Unauthorized", "", "WWW-Authenticate: Basic realm=x, Negotiate",
					"WWW-Authenticate: NTLM")
			}
			if !c.Send(answer) {
				return
			}
		}
	}
}

func getAs(c *proxytest.Client, authorization string) *proxytest.Answer {
	c.Send("GET / HTTP/1.1\r\n" + host + authorization + "\r\n")
	return c.Answer()
}

// A connection to a server that a client has authenticated serves that client, through all of its
// handshake, and no other client; it ends with the client's.
func TestAuthenticatedConnectionsAreNotShared(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, scheme := range []string{"NTLM", "negotiate"} {
			left := make(chan string, 2)
			o := m.origin(t, authenticating(left))
			g := start(t, setup{mode: m, listener: proxy.ListenerOptions{H2C: true}}, o)
			stranger := func() {
				t.Helper()
				c := g.client()
				defer c.Close()
				if a := c.Get("/"); a.Status != 401 || a.Body != "" {
					t.Fatalf("a stranger got %d %q", a.Status, a.Body)
				}
			}
			stranger()
			clients := map[string]*proxytest.Client{"alice": g.client(), "bob": g.client()}
			for _, step := range []string{"", "Authorization: " + scheme + " FIRST\r\n",
				"Authorization: " + scheme + " LAST-%s\r\n"} {
				for name, c := range clients {
					if strings.Contains(step, "%s") {
						step := fmt.Sprintf(step, name)
						if a := getAs(c, step); a.Status != 200 || a.Body != "mailbox of "+name {
							t.Fatalf("%s got %d %q", name, a.Status, a.Body)
						}
					} else if a := getAs(c, step); a.Status != 401 {
						t.Fatalf("%s got %d %q for %q", name, a.Status, a.Body, step)
					}
					stranger()
				}
			}
			for range 3 {
				for name, c := range clients {
					if a := c.Get("/"); a.Status != 200 || a.Body != "mailbox of "+name {
						t.Fatalf("%s got %d %q without credentials", name, a.Status, a.Body)
					}
				}
				stranger()
			}
			for name, c := range clients {
				c.Close()
				want(t, "the connection that ends", <-left, name)
			}
		}
	})
}

// The same on a connection of HTTP/2, which is one client, whatever its streams.
func TestAuthenticatedConnectionsOfHTTP2Clients(t *testing.T) {
	t.Parallel()
	left := make(chan string, 1)
	o := plain.origin(t, authenticating(left))
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
	alice := multiplexed(t, g.addr)
	get := func(authorization string) (int, string) {
		t.Helper()
		r := &message.Request{Method: []byte("GET"), Scheme: "http", Host: []byte("h.example"), Path: []byte("/")}
		if authorization != "" {
			r.Header.AddString(message.Authorization, authorization)
		}
		s, resp := askHead(t, alice, r)
		defer s.Release()
		var body []byte
		for {
			p, err := s.Body().Next(true)
			if body = append(body, p...); err == io.EOF {
				return resp.Status, string(body)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, step := range []string{"", "NTLM FIRST", "NTLM LAST-alice", ""} {
		status, body := get(step)
		if ok := step == "" && status == 401 || step == "NTLM FIRST" && status == 401 ||
			body == "mailbox of alice"; !ok {
			t.Fatalf("%q got %d %q", step, status, body)
		}
	}
	c := g.client()
	if a := c.Get("/"); a.Status != 401 {
		t.Errorf("a stranger got %d %q", a.Status, a.Body)
	}
	if status, body := get(""); status != 200 || body != "mailbox of alice" {
		t.Errorf("alice got %d %q", status, body)
	}
	alice.Abort()
	want(t, "the connection that ends", <-left, "alice")
}

// With PROXY headers to the server, where connections are not shared, the client keeps its own.
func TestAuthenticatedConnectionsWithProxyHeader(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, func(c *proxytest.Conn) {
		if line, err := c.R.ReadString('\n'); err != nil || !strings.HasPrefix(line, "PROXY ") {
			return
		}
		authenticating(nil)(c)
	})
	g := start(t, setup{mode: plain, backend: backend.Options{SendProxy: 1}}, o)
	alice := g.client()
	getAs(alice, "Authorization: NTLM FIRST\r\n")
	if a := getAs(alice, "Authorization: NTLM LAST-alice\r\n"); a.Body != "mailbox of alice" {
		t.Errorf("alice got %d %q", a.Status, a.Body)
	}
	if a := g.client().Get("/"); a.Status != 401 {
		t.Errorf("a stranger got %d %q", a.Status, a.Body)
	}
}

// A server that says its connection is authenticated is believed.
func TestPersistentAuth(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, func(c *proxytest.Conn) {
		for c.Request() != nil && c.Send(proxytest.Response("200 OK", fmt.Sprint(c.Number), "Persistent-Auth: true")) {
		}
	})
	g := start(t, setup{mode: plain}, o)
	one, two := g.client(), g.client()
	for range 3 {
		want(t, "the first client's connection", one.Get("/").Body, "0")
		want(t, "the second client's connection", two.Get("/").Body, "1")
	}
}

// A server that uses HTTP/2 if it may, and would serve anybody as whom its connection was
// authenticated first.
func bothProtocols(t *testing.T) (addr string) {
	t.Helper()
	ln := proxytest.Listen(t, mptcp.Off)
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	var mu sync.Mutex
	users := map[string]string{}
	srv := &http.Server{
		Protocols: &p, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: serverConfig(t),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if _, name, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
				users[r.RemoteAddr] = name
			}
			if users[r.RemoteAddr] == "" {
				w.Header().Set("WWW-Authenticate", "Negotiate")
				w.WriteHeader(401)
			}
			fmt.Fprintf(w, "%s %s", r.Proto, users[r.RemoteAddr])
		}),
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String()
}

// A request that authenticates its connection goes by HTTP/1 where the server may choose the
// protocol. Where it must be HTTP/2 such a request gets a connection of its own, which ends with
// it.
func TestAuthenticatedConnectionsToHTTP2(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		protocol            backend.Protocol
		first, after, other string
	}{
		{backend.Auto, "HTTP/1.1 alice", "HTTP/1.1 alice", "HTTP/2.0 "},
		{backend.HTTP2, "HTTP/2.0 alice", "HTTP/2.0 ", "HTTP/2.0 "},
	} {
		g := startBefore(t, setup{mode: plain, backend: backend.Options{
			Protocol: c.protocol, TLS: clientTLS(testCert(t).roots, testHost),
		}}, bothProtocols(t))
		stranger, alice := g.client(), g.client()
		want(t, "a stranger's answer", stranger.Get("/").Body, c.other)
		want(t, "alice's answer", getAs(alice, "Authorization: Negotiate alice\r\n").Body, c.first)
		want(t, "a stranger's answer", stranger.Get("/").Body, c.other)
		want(t, "alice's answer without credentials", alice.Get("/").Body, c.after)
		want(t, "alice's answer", getAs(alice, "Authorization: Negotiate alice\r\n").Body, c.first)
		want(t, "a stranger's answer", stranger.Get("/").Body, c.other)
		// A shared connection remains shared after a bare challenge: no client was authenticated.
		want(t, "shared connections", g.metric("mpgate_backend_connects_total", "result", "ok"),
			map[backend.Protocol]float64{backend.Auto: 2, backend.HTTP2: 3}[c.protocol])
	}
}
