package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/need"
)

// examples are all files of ../../examples, and the test that runs each.
var examples = map[string]func(*testing.T){
	"minimal.toml":   runMinimal,
	"website.toml":   runWebsite,
	"edge.toml":      runEdge,
	"multipath.toml": runMultipath,
	"balancer.toml":  runBalancer,
	"canary.toml":    runCanary,
	"busy.toml":      runBusy,
	"site.toml":      runSite,
	"systemd.toml":   runSystemd,
	"tcp.toml":       runTCP,
	"auth.toml":      runAuth,
	"limit.toml":     runLimit,
	"mirror.toml":    runMirror,
	"log.toml":       runLog,
	"names.toml":     runNames,
	"health.toml":    runHealth,
	"downloads.toml": runDownloads,
}

// TestExamples checks each example as an operator would, and runs it: with other ports, files and
// servers, all else as it stands.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../examples/*.toml")
	if err != nil || len(files) != len(examples) {
		t.Fatalf("%d examples, and tests of %d: %v", len(files), len(examples), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(binary, "check", "--no-files", "-c", filepath.Base(file))
			cmd.Dir = filepath.Dir(file)
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != filepath.Base(file)+" is valid\n" {
				t.Fatalf("check: %v\n%s", err, out)
			}
			run := examples[filepath.Base(file)]
			if run == nil {
				t.Fatal("no test runs it")
			}
			run(t)
		})
	}
}

// example is a copy of an example with some of its text replaced; what is to be replaced must be
// there. The access log and an admin address of the test's own are added.
func example(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../examples", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s has no %s", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	if !strings.Contains(text, "[admin]") {
		text += "\n[admin]\naddress = \"unix:admin.sock\"\n"
	}
	return write(t, name, text)
}

// named is a server that says its name and what it was told of the client's certificate.
func named(t *testing.T, name string, certificate *tls.Certificate) string {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", name, r.Header.Get("X-Client-Subject"))
	}))
	if certificate != nil {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{*certificate}}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func runMinimal(t *testing.T) {
	p := start(t, nil, "run", "-c", example(t, "minimal.toml",
		`":8080"`, `"127.0.0.1:0"`, "127.0.0.1:9000", named(t, "app", nil)))
	web := p.ready("web")[0]
	if a := <-get("http://" + web + "/"); a.err != nil || a.body != "app " {
		t.Errorf("answer %+v", a)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

func runWebsite(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"index.html": "home", "app.js": "plain", "app.js.gz": "gzip"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, nil, "run", "-c", example(t, "website.toml",
		`":8080"`, `"127.0.0.1:0"`, "127.0.0.1:9000", named(t, "api", nil), "/srv/www", root))
	web := p.ready("web")[0]
	for path, body := range map[string]string{"/": "home", "/news/1": "home", "/app.js": "gzip", "/api/x": "api "} {
		r, err := http.NewRequest("GET", "http://"+web+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "gzip")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != body {
			t.Errorf("%s is %q, want %q", path, b, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

func runEdge(t *testing.T) {
	ca := newAuthority(t)
	dir := ca.dir
	ca.issue("example.org", "example.org", "internal.example.org")
	site := ca.issue("site", "site.internal")
	robot := ca.issue("robot", "robot.example.org")
	api := named(t, "api", nil)
	p := start(t, nil, "run", "-c", example(t, "edge.toml",
		`":80"`, `"127.0.0.1:0"`, `":443"`, `"127.0.0.1:0"`, "127.0.0.1:9080", "127.0.0.1:0",
		"/var/log/mpgate", dir, "/etc/mpgate/clients-ca.pem", dir+"/ca.pem", "/etc/mpgate/internal-ca.pem", dir+"/ca.pem",
		"/etc/mpgate", dir, "10.0.1.10:8080", api, "10.0.1.11:8080", named(t, "api", nil), "10.0.2.10:8443", named(t, "site", &site)))
	addresses := p.ready("http", "https")
	plain, secure := addresses[0], addresses[1]

	client := func(certificates ...tls.Certificate) *http.Client {
		c := &http.Client{
			Timeout:       patience,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				TLSClientConfig:   &tls.Config{RootCAs: ca.pool, Certificates: certificates},
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					to := plain
					if strings.HasSuffix(address, ":443") {
						to = secure
					}
					return new(net.Dialer).DialContext(ctx, network, to)
				},
			},
		}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	resp, err := client().Get("http://example.org/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 308 || resp.Header.Get("Location") != "https://example.org/a?b=c" {
		t.Errorf("plain http: %s to %q", resp.Status, resp.Header.Get("Location"))
	}
	for url, want := range map[string]string{
		"https://example.org/api/x": "api ", "https://example.org/apiary": "site ", "https://example.org/": "site ",
	} {
		if got := fetch(t, client(), "GET", url, nil); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
	if resp, err := client().Get("https://internal.example.org/"); err == nil {
		resp.Body.Close()
		t.Errorf("without a certificate: %s", resp.Status)
	}
	if got := fetch(t, client(robot), "GET", "https://internal.example.org/", nil); !strings.Contains(got, "robot") {
		t.Errorf("with a certificate: %q", got)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
	if log, err := os.ReadFile(filepath.Join(dir, "access.log")); err != nil || strings.Count(string(log), "\n") != 5 {
		t.Errorf("access log: %v\n%s", err, log)
	}
}

// runMultipath runs it in a network namespace that has the interfaces, for it may change the
// namespace's paths.
func runMultipath(t *testing.T) {
	needsLinux(t)
	need.Root(t, "a network namespace")
	unshare, nsenter, ip, curl := tool(t, "unshare"), tool(t, "nsenter"), tool(t, "ip"), tool(t, "curl")
	setup := `"$1" link set lo up; n=1; for i in eth0 wwan0; do "$1" link add $i type veth peer name far$n; "$1" addr add 10.9.$n.1/24 dev $i; "$1" link set far$n up; "$1" link set $i up; n=2; done
shift; exec "$@"`
	file := example(t, "multipath.toml")
	p := start(t, func(c *exec.Cmd) {
		c.Args = append([]string{unshare, "-n", "sh", "-ec", setup, "sh", ip, c.Path}, c.Args[1:]...)
		c.Path = unshare
	}, "run", "-c", file)
	if a := p.ready("web")[0]; a != "[::]:8080" {
		t.Errorf("it listens at %s", a)
	}
	if out, err := exec.Command(binary, "health", "-c", file).CombinedOutput(); err != nil || string(out) != "ready\n" {
		t.Errorf("health: %v, %s", err, out)
	}
	// No server is there: the gateway says so.
	out, err := exec.Command(nsenter, "-n", "-t", fmt.Sprint(p.cmd.Process.Pid), curl, "-sS", "-w", "%{http_code}", "http://10.9.2.1:8080/").CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "502") && !strings.HasSuffix(string(out), "503") {
		t.Errorf("a request: %v, %s", err, out)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// runBalancer runs it in a network namespace that has the two addresses.
func runBalancer(t *testing.T) {
	needsLinux(t)
	need.Root(t, "a network namespace")
	unshare, nsenter, ip, curl := tool(t, "unshare"), tool(t, "nsenter"), tool(t, "ip"), tool(t, "curl")
	const setup = `"$1" link set lo up; "$1" link add eth0 type veth peer name far; "$1" link set far up; "$1" link set eth0 up
for a in 192.0.2.1 192.0.2.11; do "$1" addr add $a/24 dev eth0; done; sysctl -qw net.mptcp.allow_join_initial_addr_port=0
shift; exec "$@"`
	file := example(t, "balancer.toml")
	p := start(t, func(c *exec.Cmd) {
		c.Args = append([]string{unshare, "-n", "sh", "-ec", setup, "sh", ip, c.Path}, c.Args[1:]...)
		c.Path = unshare
	}, "run", "-c", file)
	p.ready("web")
	inside := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(nsenter, append([]string{"-n", "-t", fmt.Sprint(p.cmd.Process.Pid)}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v, %s", args, err, out)
		}
		return string(out)
	}
	got := ""
	for end := time.Now().Add(patience); got == "" && time.Now().Before(end); {
		got = inside(ip, "mptcp", "endpoint", "show")
	}
	if !strings.HasPrefix(got, "192.0.2.11 id ") || !strings.Contains(got, " signal ") || strings.Contains(got, "subflow") {
		t.Errorf("the endpoints are %q", got)
	}
	if got := inside(curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://192.0.2.1:8080/healthy"); got != "200" {
		t.Errorf("the balancer's question is answered by %s", got)
	}
	// doctor has nothing to say of joins.
	// exits 1: no server is there
	out, _ := exec.Command(nsenter, "-n", "-t", fmt.Sprint(p.cmd.Process.Pid), binary, "doctor", "-c", file).CombinedOutput()
	if !strings.Contains(string(out), "ok       sysctl: ") || !strings.Contains(string(out), ", 0 warnings, ") {
		t.Errorf("doctor says\n%s", out)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// runSystemd hands the two sockets over as systemd does.
func runSystemd(t *testing.T) {
	needsLinux(t)
	dir := t.TempDir()
	app := serveUnix(t, filepath.Join(dir, "app.sock"))
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	local, err := net.Listen("unix", filepath.Join(dir, "web.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	var fds []*os.File
	for _, l := range []interface{ File() (*os.File, error) }{web.(*net.TCPListener), local.(*net.UnixListener)} {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fds = append(fds, f)
	}
	p := start(t, passing("web:local", fds...), "run", "-c", example(t, "systemd.toml",
		"/run/app/http.sock", app, "/run/mpgate/web.sock", filepath.Join(dir, "web.sock")))
	p.ready("web", "local")
	if n := strings.Count(p.text(), `"from":"systemd"`); n != 2 {
		t.Errorf("%d of 2 sockets came from systemd:\n%s", n, p.text())
	}
	if a := <-get("http://" + web.Addr().String() + "/"); a.err != nil || a.body != "by a unix socket" {
		t.Errorf("by tcp: %+v", a)
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "web.sock"))
	}}}
	defer c.CloseIdleConnections()
	if got := fetch(t, c, "GET", "http://local/", nil); got != "by a unix socket" {
		t.Errorf("by unix socket: %q", got)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

func serveUnix(t *testing.T, path string) string {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "by a unix socket")
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return path
}

// authority is a CA of a test's own.
type authority struct {
	t    *testing.T
	dir  string // ca.pem, and NAME.pem and NAME.key of each that it issued
	pool *x509.CertPool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	a.cert, a.key = a.sign("ca", &x509.Certificate{IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(name string, hosts ...string) tls.Certificate {
	a.t.Helper()
	cert, key := a.sign(name, &x509.Certificate{
		DNSNames: slices.Clone(hosts), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) sign(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter, c.BasicConstraintsValid = time.Now().Add(-time.Hour), time.Now().Add(time.Hour), true
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}
