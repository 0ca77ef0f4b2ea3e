package certs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFaults(t *testing.T) {
	ca := newCA(t)
	good, other := ca.pair("a.example"), ca.pair("b.example")
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	empty, broken := file("empty.pem", ""), file("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	missing := filepath.Join(dir, "missing.pem")
	with := func(p Policy) Options { p.Certificates = []Pair{good}; return Options{Policy: p} }
	acme := func(a ACME) Options { return Options{Policy: Policy{ACME: &a}} }
	dns := func(d DNS) Options { return acme(ACME{Domains: []string{"a.example"}, DNS: &d}) }
	for name, c := range map[string]struct {
		o    Options
		want string // lines; DIR is dir
	}{
		"nothing":           {Options{}, "tls: no certificate; set certificates, acme or local"},
		"good":              {with(Policy{}), ""},
		"unreadable":        {Options{Policy: Policy{Certificates: []Pair{{missing, good.Key}}}}, "tls.certificates[0]: certificate DIR/missing.pem with key GOODKEY: open DIR/missing.pem: no such file or directory"},
		"mismatch":          {Options{Policy: Policy{Certificates: []Pair{good, {good.Cert, other.Key}}}}, "tls.certificates[1]: certificate GOODCERT with key OTHERKEY: tls: private key does not match public key"},
		"half a pair":       {Options{Policy: Policy{Certificates: []Pair{{good.Cert, ""}}}}, `tls.certificates[0]: a certificate needs both files (got cert = "GOODCERT", key = "")`},
		"version":           {with(Policy{MinVersion: "1.1"}), `tls.min_version: unknown version (got "1.1"); "1.2" or "1.3"`},
		"protocol":          {Options{Protocols: []string{"h3"}, Policy: with(Policy{}).Policy}, `protocols: unknown protocol (got "h3"); one of "h1", "h2", "h2c", "tcp"`},
		"auth":              {with(Policy{ClientAuth: "yes"}), `tls.client_auth: unknown value (got "yes"); one of "off", "request", "verify_if_given", "require"`},
		"no CA":             {with(Policy{ClientAuth: "require"}), "tls.client_ca: missing; client certificates are to be verified"},
		"CA missing":        {with(Policy{ClientAuth: "require", ClientCA: missing}), "tls.client_ca: cannot read the CA file: open DIR/missing.pem: no such file or directory"},
		"CA empty":          {with(Policy{ClientAuth: "verify_if_given", ClientCA: empty}), "tls.client_ca: DIR/empty.pem: contains no PEM certificate"},
		"CA broken":         {with(Policy{ClientAuth: "require", ClientCA: broken}), "tls.client_ca: DIR/broken.pem: cannot parse certificate 1: x509: malformed certificate"},
		"CA without auth":   {with(Policy{ClientCA: ca.file}), `tls.client_auth: client_ca and client_san have no effect while client_auth is "off"; set "require" or "verify_if_given"`},
		"CA with request":   {with(Policy{ClientAuth: "request", ClientCA: ca.file}), `tls.client_auth: "request" verifies nothing, so client_ca and client_san have no effect; use "verify_if_given"`},
		"SAN":               {with(Policy{ClientAuth: "require", ClientCA: ca.file, ClientSAN: []string{"spiffe://*/x"}}), `tls.client_san: bad name pattern: not a URI; a "/*" at its end matches everything below it (got "spiffe://*/x")`},
		"policy":            {Options{Policy: with(Policy{}).Policy, Policies: []Policy{{}, {Hosts: []string{"A.example."}}, {Hosts: []string{"a.example", "1.2.3.4"}}}}, "tls.policy[0].hosts: missing; name the hosts that the policy is for\ntls.policy[2].hosts: must be a DNS name, not an address (got \"1.2.3.4\"); TLS clients send no name for an address, so the listener's own keys apply to it\ntls.policy[2].hosts: \"a.example\" is already in policy[1]"},
		"policy CA":         {Options{Policy: with(Policy{}).Policy, Policies: []Policy{{Hosts: []string{"a.example"}, ClientAuth: "require", ClientCA: missing}}}, "tls.policy[0].client_ca: cannot read the CA file: open DIR/missing.pem: no such file or directory"},
		"domains":           {acme(ACME{}), "tls.acme.domains: missing; name the domains to get certificates for"},
		"wildcard":          {acme(ACME{Domains: []string{"*.a.example"}}), `tls.acme.domains: a wildcard needs dns-01 (got "*.a.example")`},
		"challenge":         {acme(ACME{Domains: []string{"a.example"}, Challenges: []string{"http"}}), `tls.acme.challenges: unknown challenge (got "http"); one of "http-01", "tls-alpn-01", "dns-01"`},
		"dns-01 alone":      {acme(ACME{Domains: []string{"a.example"}, Challenges: []string{DNS01}}), "tls.acme.challenges: dns-01 and the dns table belong together"},
		"CA URL":            {acme(ACME{Domains: []string{"a.example"}, CA: "http://ca/"}), `tls.acme.ca: not the https URL of an ACME directory (got "http://ca/")`},
		"CA root":           {acme(ACME{Domains: []string{"a.example"}, CARoot: missing}), "tls.acme: ca_root: cannot read the CA file: open DIR/missing.pem: no such file or directory"},
		"EAB":               {acme(ACME{Domains: []string{"a.example"}, EABKeyID: "k"}), "tls.acme.eab_key_id: eab_key_id and eab_key belong together"},
		"key type":          {acme(ACME{Domains: []string{"a.example"}, KeyType: "dsa"}), `tls.acme: unknown key_type (got "dsa"); one of "p256", "p384", "rsa2048", "rsa4096"`},
		"two solvers":       {dns(DNS{Server: "127.0.0.1:53", Webhook: "https://x"}), "tls.acme.dns: exactly one of server, exec and webhook must be set (got 2)"},
		"server":            {dns(DNS{Server: "127.0.0.1"}), `tls.acme.dns: not host:port (got "127.0.0.1"): address 127.0.0.1: missing port in address`},
		"no TSIG":           {dns(DNS{Server: "127.0.0.1:53"}), "tls.acme.dns: server needs key_name and key: updates are signed (TSIG)"},
		"TSIG key":          {dns(DNS{Server: "127.0.0.1:53", KeyName: "k", Key: "%"}), "tls.acme.dns: key is not base64, as tsig-keygen prints it"},
		"TSIG algorithm":    {dns(DNS{Server: "127.0.0.1:53", KeyName: "k", Key: "AAAA", KeyAlgorithm: "md5"}), `tls.acme.dns: unknown key_algorithm (got "md5"); one of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512`},
		"program":           {dns(DNS{Exec: []string{missing}}), `tls.acme.dns: exec: exec: "DIR/missing.pem": stat DIR/missing.pem: no such file or directory`},
		"webhook":           {dns(DNS{Webhook: "ftp://x"}), `tls.acme.dns: webhook is not an http or https URL (got "ftp://x")`},
		"several at once":   {Options{Policy: Policy{MinVersion: "2", ClientAuth: "require"}}, "tls.min_version: unknown version (got \"2\"); \"1.2\" or \"1.3\"\ntls: no certificate; set certificates, acme or local\ntls.client_ca: missing; client certificates are to be verified"},
		"hosts of no one":   {with(Policy{Hosts: []string{"x"}}), `tls.hosts: only a policy has hosts (got ["x"])`},
		"off in a policy":   {Options{Policy: Policy{Certificates: []Pair{good}, ClientAuth: "require", ClientCA: ca.file}, Policies: []Policy{{Hosts: []string{"a.example"}, ClientAuth: "off"}}}, ""},
		"h2c beside TLS":    {Options{Protocols: []string{"h1", "h2c"}, Policy: with(Policy{}).Policy}, ""},
		"everything of DNS": {dns(DNS{Server: "127.0.0.1:53", KeyName: "k", Key: "AAAA", KeyAlgorithm: "hmac-sha512."}), ""},
	} {
		want := strings.NewReplacer("DIR", dir, "GOODKEY", good.Key, "GOODCERT", good.Cert, "OTHERKEY", other.Key).Replace(c.want)
		if got := errText(Check(c.o)); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		// Open says the same, and keeps nothing.
		if want != "" {
			m := NewManager(ManagerOptions{Dir: dir})
			if _, err := m.Open(c.o); errText(err) != want {
				t.Errorf("%s: Open says %v", name, err)
			}
			if len(m.pairs)+len(m.policies) > 0 {
				t.Errorf("%s: Open keeps parts", name)
			}
			m.Close()
		}
	}
}

func TestInherit(t *testing.T) {
	a := &ACME{Domains: []string{"x"}}
	from := Policy{MinVersion: "1.3", ACME: a, ClientAuth: "require", ClientCA: "ca", ClientSAN: []string{"me"}}
	p := inherit(Policy{Hosts: []string{"h"}}, from)
	if p.MinVersion != "1.3" || p.ACME != a || p.ClientAuth != "require" || p.ClientCA != "ca" || len(p.ClientSAN) != 1 {
		t.Errorf("not all is taken over: %+v", p)
	}
	p = inherit(Policy{Local: true, ClientAuth: "off"}, from)
	if p.ACME != nil || !p.Local || p.ClientAuth != "off" || p.ClientCA != "" {
		t.Errorf("own sources, and off, do not win: %+v", p)
	}
	p = inherit(Policy{ClientSAN: []string{}, ClientCA: "mine"}, from)
	if len(p.ClientSAN) != 0 || p.ClientCA != "mine" || p.ClientAuth != "require" {
		t.Errorf("an empty list does not allow all: %+v", p)
	}
}
