package acmetest

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
	"testing"
	"time"

	"mpgate/internal/need"
)

// patience ends a wait for something that does not come.
const patience = 30 * time.Second

// build builds the ACME server from the tools module, in the go command's cache, and gives its
// path.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tools", "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no tools module above the tests")
		}
		dir = filepath.Dir(dir)
	}
	cmd := exec.Command("go", "tool", "-n", "pebble")
	cmd.Dir = filepath.Join(dir, "tools")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot build pebble (it needs the module proxy once): %w\n%s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
})

// program is pebble. A test skips where it cannot be built, except in CI, where it must be.
func program(t testing.TB) string {
	t.Helper()
	bin, err := build()
	if err != nil {
		need.Missing(t, "%v", err)
	}
	return bin
}

// Options of a Pebble.
type Options struct {
	Validity int  // of certificates, in seconds; 0 is 90 days
	EAB      bool // accounts must be bound to one at the CA: kid-1 with EABKey
	// HTTPPort and TLSPort are where it looks for answers to its challenges, on 127.0.0.1.
	HTTPPort, TLSPort int
}

// EABKey is the key of the external account kid-1.
const EABKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

// Pebble is a running pebble.
type Pebble struct {
	Addr   string // of its API
	CARoot string // the file of who signed for the API
	DNS    *DNS   // whom it asks for names
	Config map[string]any

	t      testing.TB
	dir    string // scratch
	mgmt   string
	client *http.Client
	cmd    *exec.Cmd
	out    *buffer
	ended  chan struct{}
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *buffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *buffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// New starts one, until the test ends.
func New(t testing.TB, o Options) *Pebble {
	t.Helper()
	if testing.Short() {
		t.Skip("no pebble with -short")
	}
	if o.Validity == 0 {
		o.Validity = 90 * 24 * 3600
	}
	p := &Pebble{t: t, dir: t.TempDir(), DNS: NewDNS(t)}
	ca := NewCA(t)
	p.CARoot = ca.File
	cert, key := ca.PairIn(p.dir, &x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	p.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, DisableKeepAlives: true,
	}}
	p.Config = map[string]any{
		"certificate": cert, "privateKey": key,
		"httpPort": o.HTTPPort, "tlsPort": o.TLSPort,
		"externalAccountBindingRequired": o.EAB,
		"externalAccountMACKeys":         map[string]string{"kid-1": EABKey},
		"retryAfter":                     map[string]int{"authz": 1, "order": 1},
		"keyAlgorithm":                   "ecdsa",
		"profiles":                       map[string]any{"default": map[string]any{"description": "-", "validityPeriod": o.Validity}},
	}
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

// Directory is the URL of its directory.
func (p *Pebble) Directory() string { return "https://" + p.Addr + "/dir" }

// Start runs pebble, on the ports that it had before, if any.
func (p *Pebble) Start() {
	p.t.Helper()
	bin := program(p.t)
	again := p.Addr != ""
	for range 10 {
		if !again {
			// pebble tells no port of its own choice: take free ones, and
			// others should they be gone when it comes.
			p.Addr, p.mgmt = freeAddr(p.t), freeAddr(p.t)
		}
		p.Config["listenAddress"], p.Config["managementListenAddress"] = p.Addr, p.mgmt
		if p.try(bin) {
			return
		}
	}
	p.t.Fatalf("pebble does not start:\n%s", p.out.String())
}

func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (p *Pebble) try(bin string) bool {
	data, err := json.Marshal(map[string]any{"pebble": p.Config})
	if err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(p.dir, "pebble.json")
	Replace(p.t, file, data)
	p.out, p.ended = &buffer{}, make(chan struct{})
	p.cmd = exec.Command(bin, "-config", file, "-dnsserver", p.DNS.Addr)
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
	// It says so just before it listens, on either port.
	return p.listens(p.Addr) && p.listens(p.mgmt)
}

// listens waits until pebble does; false: it has ended.
func (p *Pebble) listens(addr string) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return true
		}
		select {
		case <-p.ended:
			return false
		case <-tick.C:
		}
	}
}

// Stop kills it.
func (p *Pebble) Stop() {
	if p.cmd != nil {
		p.cmd.Process.Kill()
		<-p.ended
		p.cmd = nil
	}
}

func (p *Pebble) get(path string) []byte {
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

// Roots are those that its certificates chain to.
func (p *Pebble) Roots() *x509.CertPool {
	p.t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(p.get("/roots/0")) {
		p.t.Fatal("pebble has no root")
	}
	return pool
}

// Suggest makes it say when to renew c.
func (p *Pebble) Suggest(c *x509.Certificate, from, to time.Time) {
	p.t.Helper()
	window, _ := json.Marshal(map[string]any{"suggestedWindow": map[string]any{"start": from, "end": to}})
	body, _ := json.Marshal(map[string]string{"certificate": string(CertPEM(c)), "ariResponse": string(window)})
	resp, err := p.client.Post("https://"+p.mgmt+"/set-renewal-info/", "application/json", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		p.t.Fatal(resp.Status)
	}
}

// Issued counts the certificates that it has made since it was started.
func (p *Pebble) Issued() int { return strings.Count(p.out.String(), "Issued certificate serial") }
