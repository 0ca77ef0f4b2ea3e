package gateway

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"mpgate/internal/acmetest"
	"mpgate/internal/need"
)

// What testssl finds that is not for a listener to fix: what the openssl lacks that testssl itself
// runs, and the headers of the server's own answers.
var testsslExcused = map[string]bool{"engine_problem": true, "security_headers": true}

// testsslChecks are the checks of testssl.sh that find what no other of them finds: protocols and
// ALPN, categories of ciphers, forward secrecy, headers, and attacks on an implementation
// (Heartbleed, CCS injection, Ticketbleed, ROBOT, renegotiation, compression, downgrades). The
// other attacks need a protocol or a cipher that is offered; that it is not, is found here. Left
// out are the order of ciphers, which is that of crypto/tls, and the defaults of the server, which
// are about its certificate.
var testsslChecks = []string{"-p", "-s", "-f", "-h", "-H", "-I", "-T", "-BB", "-R", "-C", "-B", "-Z"}

// testssl.sh has nothing to complain of: protocols, ciphers, forward secrecy, renegotiation, the
// known attacks, HSTS.
func TestTestssl(t *testing.T) {
	if testing.Short() {
		t.Skip("testssl takes more than a minute")
	}
	bin := need.Program(t, "testssl", "testssl.sh")
	t.Parallel()
	ca := acmetest.NewCA(t)
	server := pair(ca, t, &x509.Certificate{DNSNames: []string{"localhost"}})
	// testssl makes some handshakes in bash, which on a busy machine can take longer than the
	// default header_time: it would take a connection that is closed then for a finding.
	const limits = "[limits]\nheader_time = \"2m\"\n"
	r := startRig(t, head+limits+tlsTable(pairs(server)+"hsts = \"max-age=31536000; includeSubDomains\"\n")+app(t), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	out := filepath.Join(t.TempDir(), "testssl.json")
	args := append([]string{"--quiet", "--color", "0", "--warnings", "off", "--jsonfile", out, "--ip", "one", "--add-ca", ca.File}, testsslChecks...)
	cmd := exec.CommandContext(ctx, bin, append(args, "localhost:"+strconv.Itoa(portOf(t, r.address("secure"))))...)
	cmd.WaitDelay = 5 * time.Second
	said, err := cmd.CombinedOutput() // its exit code counts what it found
	if ctx.Err() != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var findings []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &findings); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	seen := map[string]string{}
	for _, f := range findings {
		seen[f.ID] = f.Finding
		if f.Severity != "OK" && f.Severity != "INFO" && !testsslExcused[f.ID] {
			t.Errorf("%s: %s: %s", f.Severity, f.ID, f.Finding)
		}
	}
	for _, id := range []string{"SSLv3", "TLS1_2", "TLS1_3", "ALPN_HTTP2", "cipherlist_STRONG", "PFS", "secure_renego", "secure_client_renego",
		"heartbleed", "CCS", "ticketbleed", "ROBOT", "CRIME_TLS", "fallback_SCSV", "HSTS_time"} {
		if seen[id] == "" {
			t.Errorf("it has not looked at %s", id)
		}
	}
}
