package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// maxIdleTLS is what an idle connection with TLS may cost.
const maxIdleTLS = 24 << 10

// TestIdleTLSMemory opens connections that have had one answer, and looks what the program holds
// for each.
func TestIdleTLSMemory(t *testing.T) {
	const warm, idle = 200, 1000
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer backend.Close()
	file := write(t, "mpgate.toml", fmt.Sprintf(`
state_dir = "state"
[log]
access = "off"
[admin]
address = "off"
[[listener]]
name = "web"
address = "127.0.0.1:0"
tls = { local = true }
[[route]]
name = "all"
backend = "app"
[[backend]]
name = "app"
servers = [ { address = %q } ]
`, strings.TrimPrefix(backend.URL, "http://")))
	p := start(t, nil, "run", "-c", file)
	address := p.ready("web")[0]
	pem, err := os.ReadFile(filepath.Join(filepath.Dir(file), "state", "local", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	open := func(n int) {
		for range n {
			c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "localhost"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			_ = resp.Body.Close()
		}
	}
	open(warm)
	before := resident(t, p.cmd.Process.Pid)
	open(idle)
	each := (resident(t, p.cmd.Process.Pid) - before) / idle
	t.Logf("an idle TLS connection costs %d bytes (%d KiB before)", each, before>>10)
	if each > maxIdleTLS {
		t.Errorf("an idle TLS connection costs %d bytes, want at most %d", each, maxIdleTLS)
	}
}

// resident is the memory that a process has to itself, in bytes.
func resident(t *testing.T, pid int) (n int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &n); err == nil {
			return n << 10
		}
	}
	t.Fatalf("no RssAnon in %s", text)
	return 0
}
