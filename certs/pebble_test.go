package certs

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// unable skips a test that cannot run here, except in CI, where it must.
func unable(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("cannot run in CI: "+format, args...)
	}
	t.Skipf(format, args...)
}

// pebbleDir is where it was built, for TestMain to remove.
var pebbleDir string

// buildPebble builds the ACME server from the tools module, once.
var buildPebble = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mpgate-pebble-")
	if err != nil {
		return "", err
	}
	pebbleDir = dir
	cmd := exec.Command("go", "build", "-C", "../tools", "-buildvcs=false", "-o", filepath.Join(dir, "pebble"), "github.com/letsencrypt/pebble/v2/cmd/pebble")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build pebble (it needs the module proxy once): %w\n%s", err, out)
	}
	return filepath.Join(dir, "pebble"), nil
})

// pebbleCA is a running pebble, the names that it can reach us by, and the
// front that answers its challenges: HTTP and TLS on sockets of our own.
type pebbleCA struct {
	t      *testing.T
	dir    string // scratch
	config map[string]any
	dns    *dnsServer
	caRoot string // of its API
	addr   string
	mgmt   string
	client *http.Client

	cmd    *exec.Cmd
	out    *logBuffer
	ended  chan struct{}
	front  atomic.Pointer[Manager] // answers HTTP-01
	set    atomic.Pointer[Set]     // answers TLS, and so TLS-ALPN-01
	server *server
}

type pebbleOptions struct {
	validity int // seconds
	eab      bool
}

func newPebble(t *testing.T, o pebbleOptions) *pebbleCA {
	t.Helper()
	if testing.Short() {
		t.Skip("no pebble with -short")
	}
	if o.validity == 0 {
		o.validity = 90 * 24 * 3600
	}
	p := &pebbleCA{t: t, dir: t.TempDir(), dns: newDNS(t)}
	ca := newCA(t)
	p.caRoot = ca.file
	api := ca.pairIn(p.dir, &x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	p.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.pool()}, DisableKeepAlives: true,
	}}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m := p.front.Load(); m != nil && IsACMEChallenge([]byte(r.URL.Path)) {
			m.ACMEHandler().ServeHTTP(w, r)
			return
		}
		fmt.Fprint(w, "a route")
	})}
	var tasks sync.WaitGroup
	tasks.Go(func() { web.Serve(ln) })
	t.Cleanup(func() { web.Close(); tasks.Wait() })
	p.server = serveAny(t, p.set.Load)

	p.config = map[string]any{
		"certificate": api.Cert, "privateKey": api.Key,
		"httpPort": port(ln.Addr().String()), "tlsPort": port(p.server.addr),
		"externalAccountBindingRequired": o.eab,
		"externalAccountMACKeys":         map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"},
		"retryAfter":                     map[string]int{"authz": 1, "order": 1},
		"keyAlgorithm":                   "ecdsa",
		"profiles":                       map[string]any{"default": map[string]any{"description": "-", "validityPeriod": o.validity}},
	}
	p.start()
	t.Cleanup(p.stop)
	return p
}

func port(addr string) int {
	a, _ := net.ResolveTCPAddr("tcp", addr)
	return a.Port
}

// start runs pebble, on the ports that it had before, if any.
func (p *pebbleCA) start() {
	p.t.Helper()
	bin, err := buildPebble()
	if err != nil {
		unable(p.t, "%v", err)
	}
	again := p.addr != ""
	for range 10 {
		if !again {
			// pebble tells no port of its own choice: take free ones, and
			// others should they be gone when it comes.
			p.addr, p.mgmt = freeAddr(p.t), freeAddr(p.t)
		}
		p.config["listenAddress"], p.config["managementListenAddress"] = p.addr, p.mgmt
		if p.try(bin) {
			return
		}
	}
	p.t.Fatalf("pebble does not start:\n%s", p.out.String())
}

func freeAddr(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (p *pebbleCA) try(bin string) bool {
	data, err := json.Marshal(map[string]any{"pebble": p.config})
	if err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(p.dir, "pebble.json")
	writeFile(p.t, file, data)
	p.out, p.ended = &logBuffer{}, make(chan struct{})
	p.cmd = exec.Command(bin, "-config", file, "-dnsserver", p.dns.addr)
	p.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=5", "PEBBLE_AUTHZREUSE=0")
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		p.t.Fatal(err)
	}
	said, cmd, out, ended := make(chan struct{}), p.cmd, p.out, p.ended
	go func() {
		defer close(ended)
		once := sync.OnceFunc(func() { close(said) })
		for sc := bufio.NewScanner(r); sc.Scan(); {
			out.Write(append(sc.Bytes(), '\n'))
			if strings.Contains(sc.Text(), "ACME directory available") {
				once()
			}
		}
		r.Close()
		cmd.Wait()
	}()
	select {
	case <-said:
	case <-ended:
		return false
	case <-time.After(patience):
		p.t.Fatal("pebble says nothing")
	}
	// It says so just before it listens.
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		if c, err := net.Dial("tcp", p.addr); err == nil {
			c.Close()
			return true
		}
		select {
		case <-ended:
			return false
		default:
		}
	}
}

func (p *pebbleCA) stop() {
	if p.cmd != nil {
		p.cmd.Process.Kill()
		<-p.ended
		p.cmd = nil
	}
}

func (p *pebbleCA) acme(challenge string, domains ...string) *ACME {
	return &ACME{
		Domains: domains, CA: "https://" + p.addr + "/dir", CARoot: p.caRoot,
		Email: "x@example.test", Challenges: []string{challenge},
	}
}

func (p *pebbleCA) get(path string) []byte {
	p.t.Helper()
	resp, err := p.client.Get("https://" + p.mgmt + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		p.t.Fatalf("%s: %s %v", path, resp.Status, err)
	}
	return body
}

// roots are those that its certificates chain to.
func (p *pebbleCA) roots() *x509.CertPool {
	p.t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(p.get("/roots/0")) {
		p.t.Fatal("pebble has no root")
	}
	return pool
}

// suggest makes it say when to renew c.
func (p *pebbleCA) suggest(c *x509.Certificate, from, to time.Time) {
	p.t.Helper()
	window, _ := json.Marshal(map[string]any{"suggestedWindow": map[string]any{"start": from, "end": to}})
	body, _ := json.Marshal(map[string]string{"certificate": string(certPEM(c)), "ariResponse": string(window)})
	resp, err := p.client.Post("https://"+p.mgmt+"/set-renewal-info/", "application/json", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		p.t.Fatal(resp.Status)
	}
}

// issued counts the certificates that it has made since it was started.
func (p *pebbleCA) issued() int { return strings.Count(p.out.String(), "Issued certificate serial") }

// serve opens o with m and puts both to the front.
func (p *pebbleCA) serve(m *Manager, o Options) *Set {
	p.t.Helper()
	o.Listener = "web"
	set, err := m.Open(o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(set.Close)
	p.set.Store(set)
	p.front.Store(m)
	set.Start()
	return set
}

// leaf connects and verifies.
func (p *pebbleCA) leaf(name string, roots *x509.CertPool) *x509.Certificate {
	p.t.Helper()
	cs, err := p.server.dial(p.t, &tls.Config{ServerName: name, RootCAs: roots})
	if err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	return cs.PeerCertificates[0]
}
