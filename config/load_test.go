package config

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
	"mpgate/proxy/limits"
	"mpgate/proxy/preread"
	"mpgate/telemetry"
)

const rest = `
[[listener]]
name = "web"
address = ":8080"
[[route]]
name = "all"
backend = "app"
[[backend]]
name = "app"
servers = [{ address = "127.0.0.1:9000" }]
`

// write makes a directory with files and gives the path of main.toml in it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "main.toml")
}

// faults loads and gives all faults, a line each, without the directory.
func faults(main string, o Options) string {
	_, fs := Check(main, o)
	return strings.ReplaceAll(Errors(fs).Error(), filepath.Dir(main)+"/", "")
}

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func mustLoad(t *testing.T, main string) *Config {
	t.Helper()
	c, err := Load(main, Options{Lookup: noEnv})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDefault holds the defaults to the page on which operators rely.
func TestDefault(t *testing.T) {
	c := Default()
	want := &Config{
		StateDir: c.StateDir, // of who runs the test
		Log:      Log{Level: slog.LevelInfo, Format: telemetry.FormatJSON, Access: AccessStdout},
		Admin:    Admin{Address: c.Admin.Address},
		Shutdown: Shutdown{Drain: 30 * time.Second},
		Limits: limits.Limits{
			HeaderBytes: 32 << 10, HeaderFields: 100, HeaderTime: 10 * time.Second, IdleTime: 60 * time.Second, MinRate: 256,
		},
		MPTCP: MPTCP{Enabled: true, Manage: paths.ManageOff, Failover: paths.FailoverOff, Limits: MPTCPLimits{Subflows: 4, AddAddrAccepted: 4}},
	}
	if !c.Equal(want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if !filepath.IsAbs(c.StateDir) || !c.Admin.Address.IsUnix() {
		t.Errorf("state_dir %q, admin.address %q", c.StateDir, c.Admin.Address)
	}

	c = mustLoad(t, write(t, map[string]string{"main.toml": rest}))
	wantListener := Listener{
		Name: "web", Addresses: []Address{{Port: 8080}}, Mode: 0o660, MPTCP: mptcp.Prefer, Protocols: []Protocol{H1}, ProxyProtocol: preread.ProxyOff,
	}
	if !reflect.DeepEqual(c.Listeners[0], wantListener) {
		t.Errorf("got  %+v\nwant %+v", c.Listeners[0], wantListener)
	}
	wantRoute := Route{Name: "all", Backends: map[string]int{"app": 1}, EncodedSlash: Reject, DuplicateSlashes: Merge, UnsafeHeaderNames: Drop}
	if !reflect.DeepEqual(c.Routes[0], wantRoute) {
		t.Errorf("got  %+v\nwant %+v", c.Routes[0], wantRoute)
	}
	wantBackend := Backend{
		Name: "app", Balance: RoundRobin, Protocol: H1, MPTCP: mptcp.Prefer, SendProxy: preread.ProxyVersion(0),
		ConnectTimeout: 5 * time.Second, ResponseTimeout: 60 * time.Second, IdleTimeout: 60 * time.Second,
		Retry:   Retry{Tries: 3, On: []RetryCause{RetryConnect, RetryReset}, Methods: RetryIdempotent, Body: 64 << 10, Budget: 20},
		Keep:    KeepConns{Idle: 64},
		Servers: []Server{{Address: Address{Host: "127.0.0.1", Port: 9000}, Weight: 1, MPTCP: mptcp.Prefer}},
	}
	if !reflect.DeepEqual(c.Backends[0], wantBackend) {
		t.Errorf("got  %+v\nwant %+v", c.Backends[0], wantBackend)
	}
}

// TestForms looks at the values of a file that is written in less usual ways.
func TestForms(t *testing.T) {
	c := mustLoad(t, "testdata/forms.good.toml")
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Admin.Off || c.Log.Level != slog.LevelDebug || c.Limits.HeaderBytes != 64<<10 || c.Limits.MinRate != 0 || c.MPTCP.Limits.Subflows != 2 {
		t.Errorf("%+v", c)
	}
	if got, want := c.MPTCP.Paths, []Path{
		{Name: "eth0", Interface: "eth0", Role: paths.Both},
		{Name: "lte", Interface: "wwan0", Role: paths.Both, Backup: true},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("paths %+v", got)
	}
	web := c.Listeners[0]
	if got, want := web.Addresses, []Address{
		{Host: "0.0.0.0", Port: 80}, {Host: "::", Port: 80}, {Path: filepath.Join(dir, "web.sock")}, {Path: "@abstract"},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("addresses %+v", got)
	}
	if got, want := Prefixes(web.TrustedProxies), []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("fe80::/10"),
	}; !reflect.DeepEqual(got, want) || !web.TrustsUnix() || c.Listeners[1].TrustsUnix() {
		t.Errorf("trusted_proxies %v, unix %v", got, web.TrustsUnix())
	}
	if c.Routes[0].DuplicateSlashes != Merge || c.Routes[1].DuplicateSlashes != Keep {
		t.Errorf("duplicate_slashes %q, %q", c.Routes[0].DuplicateSlashes, c.Routes[1].DuplicateSlashes)
	}
	if web.Mode != 0o600 || !web.Accepts(H2C) || web.Accepts(H2) {
		t.Errorf("%+v", web)
	}
	for i, want := range []Match{
		{Hosts: []string{"example.org"}, Paths: []string{"/api/*"}}, {Hosts: []string{"*.example.org"}, Listener: "web"}, {Hosts: []string{"[2001:db8::1]"}}, {Paths: []string{"/*"}}, {},
	} {
		if !reflect.DeepEqual(c.Routes[i].Match, want) {
			t.Errorf("match %+v, want %+v", c.Routes[i].Match, want)
		}
	}
	source := netip.MustParseAddr("192.0.2.1")
	if got, want := c.Backends[0].Servers, []Server{
		{Address: Address{Host: "app.internal", Port: 9000}, Weight: 3, MPTCP: mptcp.Require, Source: source},
		{Address: Address{Path: "/run/app.sock"}, Weight: 1, MPTCP: mptcp.Off},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("servers %+v", got)
	}
}

// TestPolicies looks at what a policy takes from its listener.
func TestPolicies(t *testing.T) {
	c := mustLoad(t, "testdata/tls.good.toml")
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if c.StateDir != filepath.Join(dir, "state") {
		t.Errorf("state_dir %q", c.StateDir)
	}
	tl := c.Listeners[1].TLS
	pair := []KeyPair{{Cert: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.key")}}
	ca := filepath.Join(dir, "ca.pem")
	base := TLSPolicy{
		Certificates: pair, MinVersion: 0x304, HSTS: "max-age=31536000; includeSubDomains",
		ClientAuth: ClientAuthVerifyIfGiven, ClientCA: ca, ClientSAN: []string{"a.example.org"},
	}
	if !reflect.DeepEqual(tl.TLSPolicy, base) || !tl.RefuseUnknown {
		t.Errorf("got  %+v\nwant %+v", tl.TLSPolicy, base)
	}
	for i, change := range []func(p *TLSPolicy){
		func(p *TLSPolicy) {
			p.Hosts, p.ClientAuth, p.ClientSAN = []string{"internal.example.org"}, ClientAuthRequire, []string{}
			p.ClientHeaders.Subject = "X-Client-Subject"
		},
		func(p *TLSPolicy) {
			p.Hosts, p.ClientAuth, p.ClientCA, p.ClientSAN = []string{"open.example.org", "*.open.example.org"}, ClientAuthOff, "", []string{}
			p.Certificates = nil
			p.ACME = &ACME{
				Domains: p.Hosts, Email: "admin@example.org", CA: "https://ca.internal/directory", CARoot: filepath.Join(dir, "ca-root.pem"),
				Challenges: []Challenge{DNS01}, KeyType: P256, EAB: &EAB{KID: "k", Key: "c2VjcmV0"},
				DNS: &DNS{Timeout: 2 * time.Minute, RFC2136: &RFC2136{
					Server: Address{Host: "ns.internal", Port: 53}, KeyName: "mpgate.", KeyAlg: "hmac-sha256", KeySecret: "c2VjcmV0",
				}},
			}
		},
		func(p *TLSPolicy) {
			p.Hosts, p.Certificates, p.Local, p.LocalNames = []string{"dev.example.org"}, nil, true, []string{"127.0.0.2"}
			p.ClientAuth, p.ClientCA, p.ClientSAN = ClientAuthRequest, "", []string{}
		},
	} {
		want := base
		change(&want)
		if got := tl.Policies[i]; !reflect.DeepEqual(got, want) {
			t.Errorf("policy %d: got\n%+v\nwant\n%+v", i, got, want)
		}
	}
	if got := c.Listeners[1].Protocols; !reflect.DeepEqual(got, []Protocol{H1, H2}) {
		t.Errorf("protocols with tls: %v", got)
	}
}

// TestUser looks at the defaults that depend on who runs mpgate.
func TestUser(t *testing.T) {
	for _, tt := range []struct {
		uid          int
		vars         map[string]string
		admin, state string
	}{
		{0, nil, "unix:/run/mpgate/admin.sock", "/var/lib/mpgate"},
		{0, map[string]string{"HOME": "/root", "XDG_RUNTIME_DIR": "/run/user/0"}, "unix:/run/mpgate/admin.sock", "/var/lib/mpgate"},
		{0, map[string]string{"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "unix:/run/mpgate/admin.sock", "/var/lib/a"},
		{1000, map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1000"}, "unix:/run/user/1000/mpgate/admin.sock", "/home/u/.local/state/mpgate"},
		{1000, map[string]string{"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "relative"}, "unix:/run/user/1000/mpgate/admin.sock", "/s/mpgate"},
		{996, map[string]string{"STATE_DIRECTORY": "/var/lib/mpgate", "RUNTIME_DIRECTORY": "/run/mpgate:/run/b"}, "unix:/run/mpgate/admin.sock", "/var/lib/mpgate"},
		{1000, nil, "unix:/run/user/1000/mpgate/admin.sock", "/var/lib/mpgate"},
	} {
		u := user{uid: tt.uid, lookup: env(tt.vars)}
		if got := u.adminAddress(); got != tt.admin {
			t.Errorf("%v: admin.address %q, want %q", tt.vars, got, tt.admin)
		}
		if got := u.stateDir(); got != tt.state {
			t.Errorf("%v: state_dir %q, want %q", tt.vars, got, tt.state)
		}
	}
}

func TestEqual(t *testing.T) {
	a := mustLoad(t, write(t, map[string]string{"main.toml": rest}))
	b := mustLoad(t, write(t, map[string]string{"main.toml": "# moved\n\n" + rest}))
	c := mustLoad(t, write(t, map[string]string{"main.toml": rest + "[log]\nlevel = \"warn\"\n"}))
	if !a.Equal(b) || a.Equal(c) {
		t.Errorf("moved: %v, changed: %v", a.Equal(b), a.Equal(c))
	}
}

func TestFaultJSON(t *testing.T) {
	_, fs := Check("testdata/twice.bad.toml", Options{})
	got, err := json.Marshal(fs)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"file":"testdata/twice.bad.toml","line":3,"message":"is not TOML: Key 'log.level' has already been defined, at line 2; keep one of them","severity":"error"}]`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
}
