package config

import (
	"strings"
	"testing"
)

// TestNotYet sets keys that this version does not support: only what is not the default is refused.
func TestNotYet(t *testing.T) {
	old := notYet
	t.Cleanup(func() { notYet = old })
	notYet = map[string]string{
		"mptcp.failover":            notSupported,
		"mptcp.paths":               notSupported,
		"listener.tls.acme":         notSupported,
		"listener.proxy_protocol":   "is not supported on this system",
		"listener.protocols=h2":     notSupported,
		"backend.protocol=auto":     notSupported,
		"backend.servers.weight":    notSupported,
		"mptcp.limits":              notSupported,
		"listener.tls.policy.local": notSupported,
		"listener.tls.hsts":         notSupported,
	}
	main := write(t, map[string]string{"main.toml": `
[mptcp]
failover = "link"
paths = [{ interface = "eth0" }]
limits = { subflows = 1 }
[[listener]]
name = "a"
address = ":1"
proxy_protocol = "off"
protocols = ["h1"]
[[listener]]
name = "b"
address = ":2"
proxy_protocol = "required"
proxy_protocol_from = ["10.0.0.0/8"]
protocols = ["h1", "h2"]
[listener.tls]
local = true
acme.domains = ["example.org"]
policy = [{ hosts = ["a.org"], local = true, hsts = "max-age=1" }]
[[route]]
name = "all"
backend = "app"
[[backend]]
name = "app"
protocol = "auto"
servers = [{ address = "127.0.0.1:1", weight = 1 }, { address = "127.0.0.1:2", weight = 2 }]
`})
	var got []string
	for _, line := range strings.Split(faults(main, Options{Lookup: noEnv}), "\n") {
		if strings.Contains(line, "supported") {
			got = append(got, line)
		}
	}
	want := `main.toml:3: mptcp.failover: is not supported by this version; leave it out
main.toml:4: mptcp.paths: is not supported by this version; leave it out
main.toml:5: mptcp.limits: is not supported by this version; leave it out
main.toml:14: listener.b.proxy_protocol: is not supported on this system; leave it out
main.toml:16: listener.b.protocols[1]: is not supported by this version (got "h2"); use another value
main.toml:19: listener.b.tls.acme: is not supported by this version; leave it out
main.toml:20: listener.b.tls.policy[0].hsts: is not supported by this version; leave it out
main.toml:20: listener.b.tls.policy[0].local: is not supported by this version; leave it out
main.toml:26: backend.app.protocol: is not supported by this version (got "auto"); use another value
main.toml:27: backend.app.servers[1].weight: is not supported by this version; leave it out`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
}

// TestNotYetKeys sees that every key of the list is one that the decoder knows.
func TestNotYetKeys(t *testing.T) {
	known := map[string]bool{}
	for _, key := range knownKeys() {
		known[key] = true
		known[strings.Replace(key, "listener.tls.", "listener.tls.policy.", 1)] = true
	}
	for entry, words := range notYet {
		key, _, _ := strings.Cut(entry, "=")
		if !known[key] || words == "" {
			t.Errorf("notYet has %q (%q), which is no key", entry, words)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"header_bytes", "header_time", "idle_time", "off", "on"}
	for in, want := range map[string]string{
		"header_byte": "header_bytes", "haeder_time": "header_time", "Idle_Time": "idle_time", "idletime": "idle_time", "of": "off",
		"header": "", "xyz": "", "": "", "o": "on",
	} {
		if got := nearest(in, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "axc", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1},
	} {
		if got := distance(tt.a, tt.b, 10); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestKeyLess(t *testing.T) {
	sorted := []string{"a", "a.b", "a[0]", "a[1].x", "a[1].y", "a[2]", "a[10]", "a[11]", "b"}
	for i := range sorted {
		for j := range sorted {
			if got := keyLess(sorted[i], sorted[j]); got != (i < j) {
				t.Errorf("keyLess(%q, %q) = %v", sorted[i], sorted[j], got)
			}
		}
	}
}
