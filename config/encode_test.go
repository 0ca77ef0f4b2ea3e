package config

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func encode(t *testing.T, c *Config) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEncode loads what was printed of every good fixture, of the examples and of the reference: it
// must say the same.
func TestEncode(t *testing.T) {
	var files []string
	for _, pattern := range []string{"testdata/*.good.toml", "../examples/*.toml", "reference.toml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no file %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	const secret = "c2VjcmV0"
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			vars := env(map[string]string{"EAB_KEY": secret, "TSIG_SECRET": secret, "WEBHOOK_TOKEN": secret})
			c, err := Load(file, Options{Lookup: vars})
			if err != nil {
				t.Fatal(err)
			}
			text := encode(t, c)
			if strings.Contains(text, secret) {
				t.Errorf("a secret is printed:\n%s", text)
			}
			for i := range c.Listeners {
				forSecrets(c.Listeners[i].TLS, secret)
			}
			main := write(t, map[string]string{"main.toml": strings.ReplaceAll(text, hidden, secret)})
			again, err := Load(main, Options{Lookup: noEnv})
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			// The default is written now.
			again.Admin.Written = c.Admin.Written
			if !again.Equal(c) {
				t.Errorf("got\n%s\nof\n%s", encode(t, again), text)
			}
			if second := encode(t, again); second != text {
				t.Errorf("printed again it is\n%s\nnot\n%s", second, text)
			}
		})
	}
}

// forSecrets makes every secret the same.
func forSecrets(tl *TLS, secret string) {
	if tl == nil {
		return
	}
	acmes := []*ACME{tl.ACME}
	for _, p := range tl.Policies {
		acmes = append(acmes, p.ACME)
	}
	for _, a := range acmes {
		if a == nil {
			continue
		}
		if a.EAB != nil {
			a.EAB.Key = secret
		}
		if a.DNS != nil && a.DNS.WebhookToken != "" {
			a.DNS.WebhookToken = secret
		}
		if a.DNS != nil && a.DNS.RFC2136 != nil {
			a.DNS.RFC2136.KeySecret = secret
		}
	}
}

// TestEncodeDefault prints every default.
func TestEncodeDefault(t *testing.T) {
	c := Default()
	c.StateDir = "/var/lib/mpgate"
	c.Admin.Address = Address{Path: "/run/mpgate/admin.sock"}
	want := `state_dir = "/var/lib/mpgate"

[log]
level = "info"
format = "json"
fields = []
access = "stdout"

[admin]
address = "unix:/run/mpgate/admin.sock"

[shutdown]
drain = "30s"

[limits]
header_bytes = "32KiB"
header_fields = 100
header_time = "10s"
idle_time = "1m"
min_rate = "256B"
connections = 0
connections_per_client = 0

[mptcp]
enabled = true
manage = "off"
adopt = false
keep = false
failover = "off"
fullmesh = false
limits = { subflows = 4, add_addr_accepted = 4 }
paths = []
`
	if got := encode(t, c); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEncodeHides(t *testing.T) {
	c := mustLoad(t, write(t, map[string]string{"main.toml": rest + `
[[listener]]
name = "tls"
address = ":443"
[listener.tls.acme]
domains = ["example.org"]
eab = { kid = "k", key = "c2VjcmV0" }
[listener.tls.acme.dns]
webhook = "https://user:password@dns.internal/x?key=k3y&zone=a"
webhook_token = "token"
`}))
	text := encode(t, c)
	for _, secret := range []string{"c2VjcmV0", "password", "k3y", `"token"`} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is printed:\n%s", secret, text)
		}
	}
	for _, want := range []string{`key = "(hidden)"`, `webhook_token = "(hidden)"`, `webhook = "https://user:xxxxx@dns.internal/x?key=xxxxx&zone=xxxxx"`, `kid = "k"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing:\n%s", want, text)
		}
	}
}

// TestSecretsInFaults sees that no fault quotes a secret.
func TestSecretsInFaults(t *testing.T) {
	got := faults(write(t, map[string]string{"main.toml": rest + `
[[listener]]
name = "tls"
address = ":443"
[listener.tls.acme]
domains = ["example.org"]
eab = { kid = "k", key = "pass word" }
dns = { rfc2136 = { server = "x:53", key_name = "k", key_secret = 42 }, webhook_token = 43 }
ca = "http://user:pass%word@ca.internal/"
`}), Options{Lookup: noEnv})
	want := `main.toml:17: listener.tls.tls.acme.eab.key: is not valid base64url; must be the MAC key as the CA shows it
main.toml:18: listener.tls.tls.acme.dns.rfc2136.key_secret: is a number; must be a string, for example key_secret = "${TSIG_SECRET}"
main.toml:18: listener.tls.tls.acme.dns.webhook_token: is a number; must be a string, for example webhook_token = "${WEBHOOK_TOKEN}"
main.toml:19: listener.tls.tls.acme.ca: is not a valid URL; must be for example "https://host/path"`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		`a"b\c`: `"a\"b\\c"`, "a\nb\tc\x01\x7f": `"a\nb\tc\u0001\u007F"`, "ü": `"ü"`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}
