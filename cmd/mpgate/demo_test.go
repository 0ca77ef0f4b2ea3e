package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"mpgate/internal/need"
	"mpgate/mptcp"
)

// demoRun is a demo on ports that the kernel chose.
type demoRun struct {
	*process
	web, tls, admin, file, ca string
}

func startDemo(t *testing.T, prepare func(*exec.Cmd), args ...string) *demoRun {
	t.Helper()
	dir := t.TempDir()
	d := &demoRun{}
	d.process = start(t, func(c *exec.Cmd) {
		c.Env = append(os.Environ(), "TMPDIR="+dir)
		if prepare != nil {
			prepare(c)
		}
	}, append([]string{"demo", "--address", "127.0.0.1:0", "--tls", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, args...)...)
	d.web = d.line(`^  (http://127\.0\.0\.1:\d+)/  the gateway, over (mptcp|tcp)$`)[1]
	d.tls = d.line(`^  (https://127\.0\.0\.1:\d+)/  the gateway with TLS`)[1]
	d.admin = d.line(`^  (http://127\.0\.0\.1:\d+)/  the live page`)[1]
	d.file = d.line(`^  (\S+)  the configuration`)[1]
	d.ca = d.line(`curl --cacert (\S+) https`)[1]
	d.line(`^The access log`)
	return d
}

// fetch asks and gives the body, which it holds to be the whole of a 200.
func fetch(t *testing.T, c *http.Client, method, url string, body io.Reader) string {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s, %v: %s", url, resp.Status, err, b)
	}
	return string(b)
}

// TestDemo tries what the demo says to try.
func TestDemo(t *testing.T) {
	d := startDemo(t, nil)
	c := &http.Client{Timeout: patience}
	defer c.CloseIdleConnections()

	toServer := "tcp"
	if mptcp.Host().Usable && !mptcp.Disabled() {
		toServer = "mptcp"
	}
	for _, s := range []string{"alpha", "beta"} {
		text := fetch(t, c, "GET", d.web+"/", nil)
		if !strings.HasPrefix(text, "hello from "+s+"\n") || !strings.Contains(text, toServer) || !strings.Contains(text, "\nX-Forwarded-For: 127.0.0.1\n") {
			t.Errorf("want %s, reached by %s, in\n%s", s, toServer, text)
		}
	}
	d.line(`^time=\S+ id=[0-9a-f]{32} listener=web route=all .* path="/" .*status=200 .*end=ok .*server_transport=` + toServer)

	var seen struct{ Server, Method, Transport, Target string }
	if err := json.Unmarshal([]byte(fetch(t, c, "GET", d.web+"/tcp/headers?a=b", nil)), &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Server != "gamma" || seen.Transport != "tcp" || seen.Target != "/tcp/headers?a=b" {
		t.Errorf("the server without MPTCP saw %+v", seen)
	}
	want := "tcp"
	if toServer == "mptcp" {
		want = "fallback"
	}
	d.line(`route=tcp .*server_transport=` + want)

	if n := len(fetch(t, c, "GET", d.web+"/large?mib=3", nil)); n != 3<<20 {
		t.Errorf("/large: %d bytes", n)
	}
	sent := make([]byte, 1<<20)
	rand.Read(sent)
	if got := fetch(t, c, "PUT", d.web+"/echo", bytes.NewReader(sent)); got != string(sent) {
		t.Errorf("/echo: %d bytes, others than the %d that were sent", len(got), len(sent))
	}
	if got := fetch(t, c, "GET", d.web+"/slow?seconds=0", nil); !strings.Contains(got, "thought about it for 0 s") {
		t.Errorf("/slow: %q", got)
	}
	resp, err := c.Get(d.web + "/slow?seconds=x")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 400 || string(body) != "invalid seconds (got \"x\"); a whole number from 0 to 3600\n" {
		t.Errorf("/slow?seconds=x: %s %q", resp.Status, body)
	}
	demoStreams(t, d, c)
	demoTLS(t, d)

	if m := fetch(t, c, "GET", d.admin+"/metrics", nil); !strings.Contains(m, "\nmpgate_mptcp_connections_total{") {
		t.Errorf("no MPTCP in the metrics:\n%s", m)
	}
	if p := fetch(t, c, "GET", d.admin+"/", nil); !strings.Contains(p, "<title>") {
		t.Errorf("no page: %s", p)
	}
	out, err := exec.Command(binary, "status", "-c", d.file).Output()
	if err != nil || !strings.Contains(string(out), "generation 1 of "+d.file) {
		t.Errorf("status: %v\n%s", err, out)
	}
	d.signal(syscall.SIGINT)
	d.exits(0)
	if _, err := os.Stat(d.file); !os.IsNotExist(err) {
		t.Errorf("it left its files: %v", err)
	}
}

func demoStreams(t *testing.T, d *demoRun, c *http.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", d.web+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	events := bufio.NewScanner(resp.Body)
	for _, want := range []string{"id: 1", "data: ", "", "id: 2"} {
		if !events.Scan() || !strings.HasPrefix(events.Text(), want) {
			t.Errorf("/events: %q, %v; want %q", events.Text(), events.Err(), want)
		}
	}
	resp.Body.Close()

	ws, _, err := websocket.Dial(ctx, strings.Replace(d.web, "http", "ws", 1)+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageText, []byte("there and back")); err != nil {
		t.Fatal(err)
	}
	if kind, b, err := ws.Read(ctx); err != nil || kind != websocket.MessageText || string(b) != "there and back" {
		t.Errorf("/ws: %v %q %v", kind, b, err)
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("/ws: %v", err)
	}
}

func demoTLS(t *testing.T, d *demoRun) {
	t.Helper()
	pem, err := os.ReadFile(d.ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate:\n%s", d.ca, pem)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: patience}
	defer c.CloseIdleConnections()
	if text := fetch(t, c, "GET", d.tls+"/", nil); !strings.Contains(text, "\nX-Forwarded-Proto: https\n") {
		t.Errorf("by TLS: %s", text)
	}
}

// TestDemoByMPTCP: curl under mptcpize uses MPTCP, and the log says so.
func TestDemoByMPTCP(t *testing.T) {
	mptcpize, curl := tool(t, "mptcpize"), tool(t, "curl")
	if !mptcp.Host().Usable {
		need.Missing(t, "no MPTCP on this host: %s", mptcp.Host().Why)
	}
	d := startDemo(t, nil)
	out, err := exec.Command(mptcpize, "run", curl, "-sS", d.web+"/").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "hello from alpha") {
		t.Fatalf("%v: %s", err, out)
	}
	d.line(`client_transport=mptcp server_transport=mptcp client_subflows=1 server_subflows=1`)
	d.signal(syscall.SIGTERM)
	d.exits(0)
}

// TestDemoWithoutMPTCP: it serves where MPTCP is switched off, and says what that means.
func TestDemoWithoutMPTCP(t *testing.T) {
	d := startDemo(t, func(c *exec.Cmd) { c.Env = append(c.Env, "GODEBUG=multipathtcp=0") }, "--format", "json")
	if !regexp.MustCompile(`(?m)^MPTCP is off|^This host does not support MPTCP`).MatchString(d.text()) {
		t.Errorf("it does not say that there is no MPTCP:\n%s", d.text())
	}
	fetch(t, http.DefaultClient, "GET", d.web+"/", nil)
	d.line(`"client_transport":"tcp","server_transport":"tcp"`)
	http.DefaultClient.CloseIdleConnections()
	d.signal(syscall.SIGTERM)
	d.exits(0)
}

// TestDemoTaken: a port that is taken is told in the words of the flag, with the remedy.
func TestDemoTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := start(t, nil, "demo", "--address", l.Addr().String())
	p.exits(1)
	want := "mpgate: " + l.Addr().String() + " is in use by another program; stop it, or choose another address: mpgate demo --address 127.0.0.1:PORT\n"
	if p.text() != want {
		t.Errorf("it says %q, want %q", p.text(), want)
	}
	p = start(t, nil, "demo", "--admin", "127.0.0.1:x")
	p.exits(1)
	p = start(t, func(c *exec.Cmd) { c.Env = append(os.Environ(), "TMPDIR=/nowhere") },
		"demo", "--address", "127.0.0.1:0", "--tls", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	p.exits(1)
	if !strings.HasPrefix(p.text(), "mpgate: cannot write the demo's configuration: ") || !strings.HasSuffix(p.text(), "; set TMPDIR to a writable directory\n") {
		t.Errorf("it says %q", p.text())
	}
}

// TestDemoLeave: a client that leaves while the server thinks is noticed; the demo ends in time
// with clients on it.
func TestDemoLeave(t *testing.T) {
	d := startDemo(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", d.web+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	d.signal(syscall.SIGINT)
	d.exits(0)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v to end, with a stream on it; its drain time is 2 s", took)
	}
	cancel()
	d.line(`path="/events" .*end=drain`)
}
