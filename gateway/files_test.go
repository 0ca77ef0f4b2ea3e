package gateway

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/config"
	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
	"mpgate/proxy/limits"
)

func TestCheckFiles(t *testing.T) {
	t.Parallel()
	ca := acmetest.NewCA(t)
	good, other := pair(ca, t, &x509.Certificate{DNSNames: []string{"a.example"}}), pair(ca, t, &x509.Certificate{DNSNames: []string{"a.example"}})
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	text := filepath.Join(dir, "text")
	acmetest.Replace(t, text, []byte("no PEM"))
	legacy := filepath.Join(dir, "legacy.key")
	//lint:ignore SA1019 it is what older files are encrypted with
	block, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", []byte("secret"), []byte("x"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	acmetest.Replace(t, legacy, pem.EncodeToMemory(block))
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked.key")
	acmetest.Replace(t, locked, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("secret")}))

	secure := func(more string) string { return head + tlsTable(pairs(good)+more) + app(t) }
	toServers := func(more string) string {
		return head + listenerTable("web", "127.0.0.1:0", "") + routeTable("all", "", "app") + backendTable("app", "127.0.0.1:1", "tls = { "+more+" }")
	}
	logged := func(path string) string {
		return strings.Replace(head, `"off"`, fmt.Sprintf("%q", path), 1) + listenerTable("web", "127.0.0.1:0", "") + app(t)
	}
	for name, tt := range map[string]struct {
		toml string
		want []string // each a part of one fault, in order
	}{
		"nothing wrong": {secure(""), nil},
		"missing":       {head + tlsTable(pairs([2]string{gone, good[1]})) + app(t), []string{"listener.secure.tls.certificates[0]: certificate " + gone}},
		"does not fit":  {head + tlsTable(pairs(good, [2]string{good[0], other[1]})) + app(t), []string{"tls.certificates[1]: certificate " + good[0]}},
		"no PEM":        {head + tlsTable(pairs([2]string{text, good[1]})) + app(t), []string{"failed to find any PEM data"}},
		"encrypted":     {head + tlsTable(pairs([2]string{good[0], locked})) + app(t), []string{"the key is encrypted"}},
		"encrypted long ago": {
			head + tlsTable(pairs([2]string{good[0], legacy})) + app(t), []string{"the key is encrypted"},
		},
		"several at once": {
			head + tlsTable(pairs([2]string{gone, good[1]})+fmt.Sprintf("client_auth = \"require\"\nclient_ca = %q\n", text)) + app(t),
			[]string{"certificates[0]: ", "client_ca: " + text + ": contains no PEM certificate"},
		},
		"CA of servers":         {toServers(fmt.Sprintf("ca = %q", gone)), []string{"backend.app.tls.ca: cannot read the CA file: open " + gone}},
		"certificate for them":  {toServers(fmt.Sprintf("cert = %q, key = %q", gone, gone)), []string{"backend.app.tls.cert: certificate " + gone}},
		"encrypted for them":    {toServers(fmt.Sprintf("cert = %q, key = %q", good[0], locked)), []string{"backend.app.tls.cert: certificate " + good[0]}},
		"access log":            {logged(gone + "/access.log"), []string{"log.access: stat " + gone + ": no such file"}},
		"access log, directory": {logged(dir), []string{"log.access: " + dir + " is a directory; name a file"}},
		"socket":                {head + listenerTable("web", "unix:"+gone+"/web.sock", "") + app(t), []string{"listener.web.address[0]: stat " + gone + ": no such file"}},
		"socket, a file":        {head + listenerTable("web", "unix:"+text, "") + app(t), []string{"listener.web.address[0]: a file that is not a socket is there: " + text}},
		"admin socket, a directory": {
			strings.Replace(head, "unix:admin.sock", "unix:"+dir, 1) + listenerTable("web", "127.0.0.1:0", "") + app(t),
			[]string{"admin.address: a file that is not a socket is there: " + dir},
		},
		"a FIFO":   {head + tlsTable(pairs([2]string{fifo, good[1]})) + app(t), []string{"read " + fifo + ": is not a regular file"}},
		"a device": {toServers("ca = \"/dev/zero\""), []string{"read /dev/zero: is not a regular file"}},
		"state, a file": {
			fmt.Sprintf("state_dir = %q\n", text) + strings.Replace(head, "state_dir", "# state_dir", 1) + tlsTable("local = true\n") + app(t), []string{"state_dir: " + text + " is not a directory"},
		},
	} {
		file := filepath.Join(t.TempDir(), "mpgate.toml")
		acmetest.Replace(t, file, []byte(tt.toml))
		cfg, err := config.Load(file, config.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		faults := CheckFiles(cfg)
		if len(faults) != len(tt.want) {
			t.Errorf("%s: got %v, want %q", name, faults, tt.want)
			continue
		}
		for i, f := range faults {
			if !strings.Contains(f.String(), tt.want[i]) || f.Line < 1 || f.File != file {
				t.Errorf("%s: got %v, want %q", name, f, tt.want[i])
			}
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); len(left) != 1 {
			t.Errorf("%s: the check left files: %q", name, left)
		}
	}
}

// A list of client CAs that changes on disk counts from then on, on HTTP/1 and HTTP/2, for new
// connections and for sessions to resume; one that cannot be used leaves the old one.
func TestClientCAIsFollowed(t *testing.T) {
	t.Parallel()
	old, next := acmetest.NewCA(t), acmetest.NewCA(t)
	clients := filepath.Join(t.TempDir(), "clients.pem")
	acmetest.Replace(t, clients, acmetest.CertPEM(old.Cert))
	server := pair(old, t, &x509.Certificate{DNSNames: []string{"open.example", "strict.example"}})
	strict := fmt.Sprintf("[[listener.tls.policy]]\nhosts = [\"strict.example\"]\nclient_auth = \"require\"\nclient_ca = %q\n", clients)
	r := startRig(t, head+tlsTable(pairs(server)+strict)+app(t), nil)
	sessions := map[*acmetest.CA]tls.ClientSessionCache{old: tls.NewLRUClientSessionCache(8), next: tls.NewLRUClientSessionCache(8)}
	ask := func(ca *acmetest.CA, protocol string) bool {
		t.Helper()
		c, err := tls.Dial("tcp", r.address("secure"), &tls.Config{
			ServerName: "strict.example", RootCAs: old.Pool(), NextProtos: []string{protocol}, ClientSessionCache: sessions[ca],
			Certificates: []tls.Certificate{*ca.Client(&x509.Certificate{DNSNames: []string{"me.example"}})},
		})
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		// With TLS 1.3 a refused client hears of it by its first read. To HTTP/1 the request is the
		// first word.
		if protocol == "http/1.1" {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: strict.example\r\n\r\n")
		}
		_, err = c.Read(make([]byte, 1))
		return err == nil
	}
	for _, protocol := range []string{"http/1.1", "h2"} {
		if !ask(old, protocol) || ask(next, protocol) {
			t.Fatalf("%s: the first list does not hold", protocol)
		}
	}
	acmetest.Replace(t, clients, []byte("half a file"))
	r.logs(`level=ERROR msg="changed files of a TLS policy cannot be used; the old content remains active" files=\[` + clients)
	proxytest.WaitMetric(t, r.metrics.Registry(), 1, "mpgate_tls_certificate_failing", "name", clients)
	if !ask(old, "h2") {
		t.Error("a list that cannot be used has ended the one before")
	}
	acmetest.Replace(t, clients, acmetest.CertPEM(next.Cert))
	r.logs(`level=INFO msg="files of a TLS policy reloaded" files=\[` + clients)
	for _, protocol := range []string{"http/1.1", "h2"} {
		if ask(old, protocol) || !ask(next, protocol) {
			t.Errorf("%s: the new list does not hold", protocol)
		}
	}
	proxytest.WaitMetric(t, r.metrics.Registry(), 0, "mpgate_tls_certificate_failing", "name", clients)
	if err := os.Remove(clients); err != nil {
		t.Fatal(err)
	}
	r.logs(`(?s)cannot be used.*cannot be used; the old content remains active`)
	if !ask(next, "h2") {
		t.Error("a list that is gone has ended the one before")
	}
}

// A minimum rate that is written as zero is none, not the default.
func TestNoMinimumRate(t *testing.T) {
	if got := proxyLimits(limits.Limits{}).MinRate; got >= 0 {
		t.Errorf("got %d bytes a second, want none", got)
	}
}
