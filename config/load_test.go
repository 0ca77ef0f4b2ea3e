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
		Log:      Log{Level: slog.LevelInfo, Format: LogJSON, Access: AccessStdout},
		Admin:    Admin{Address: c.Admin.Address},
		Shutdown: Shutdown{Drain: 30 * time.Second},
		Limits: Limits{
			HeaderBytes: 32 << 10, HeaderFields: 100, HeaderTime: 10 * time.Second, IdleTime: 60 * time.Second, MinRate: 256,
		},
		MPTCP: MPTCP{Enabled: true, Manage: ManageOff, Failover: FailoverOff, Limits: MPTCPLimits{Subflows: 4, AddAddrAccepted: 4}},
	}
	if !c.Equal(want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if !filepath.IsAbs(c.StateDir) || !c.Admin.Address.IsUnix() {
		t.Errorf("state_dir %q, admin.address %q", c.StateDir, c.Admin.Address)
	}

	c = mustLoad(t, write(t, map[string]string{"main.toml": rest}))
	wantListener := Listener{
		Name: "web", Addresses: []Address{{Port: 8080}}, Mode: 0o660, MPTCP: MPTCPPrefer, Protocols: []Protocol{H1}, ProxyProtocol: ProxyOff,
	}
	if !reflect.DeepEqual(c.Listeners[0], wantListener) {
		t.Errorf("got  %+v\nwant %+v", c.Listeners[0], wantListener)
	}
	wantRoute := Route{Name: "all", Backend: "app", EncodedSlash: Reject, UnsafeHeaderNames: Drop}
	if c.Routes[0] != wantRoute {
		t.Errorf("got  %+v\nwant %+v", c.Routes[0], wantRoute)
	}
	wantBackend := Backend{
		Name: "app", Balance: RoundRobin, Protocol: H1, MPTCP: MPTCPPrefer, SendProxy: SendProxyOff,
		ConnectTimeout: 5 * time.Second, ResponseTimeout: 60 * time.Second, IdleTimeout: 60 * time.Second,
		Servers: []Server{{Address: Address{Host: "127.0.0.1", Port: 9000}, Weight: 1, MPTCP: MPTCPPrefer}},
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
		{Name: "eth0", Interface: "eth0", Role: RoleBoth},
		{Name: "lte", Interface: "wwan0", Role: RoleBoth, Backup: true},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("paths %+v", got)
	}
	web := c.Listeners[0]
	if got, want := web.Addresses, []Address{
		{Host: "0.0.0.0", Port: 80}, {Host: "::", Port: 80}, {Path: filepath.Join(dir, "web.sock")}, {Path: "@abstract"},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("addresses %+v", got)
	}
	if got, want := web.TrustedProxies, []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32"),
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("trusted_proxies %v", got)
	}
	if web.Mode != 0o600 || !web.Speaks(H2C) || web.Speaks(H2) {
		t.Errorf("%+v", web)
	}
	for i, want := range []Match{
		{Host: "example.org", Path: "/api/*"}, {Host: "*.example.org", Listener: "web"}, {Host: "[2001:db8::1]"}, {Path: "/*"}, {},
	} {
		if c.Routes[i].Match != want {
			t.Errorf("match %+v, want %+v", c.Routes[i].Match, want)
		}
	}
	source := netip.MustParseAddr("192.0.2.1")
	if got, want := c.Backends[0].Servers, []Server{
		{Address: Address{Host: "app.internal", Port: 9000}, Weight: 3, MPTCP: MPTCPRequire, Source: source},
		{Address: Address{Path: "/run/app.sock"}, Weight: 1, MPTCP: MPTCPOff},
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

func TestInclude(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"globs and names", map[string]string{
			"main.toml": `include = ["conf.d/*.toml", "none/*.toml", "more.toml", "conf.d/b.toml"]` + rest + "[log]\nlevel = \"debug\"\n",
			"conf.d/a.toml": `[log]
format = "text"
[[backend]]
name = "a"
servers = [{ address = "unix:a.sock" }]
[[route]]
name = "a"
backend = "a"
match.path = "/a"`,
			"conf.d/b.toml": "shutdown.drain = \"1s\"\n", "conf.d/.b.toml": "nonsense", "more.toml": "",
		}, ""},
		{"a name that does not exist", map[string]string{"main.toml": `include = ["x.toml"]` + rest},
			`main.toml:1: include[0]: names a file that cannot be read (got "x.toml"): no such file or directory; a pattern such as "conf.d/*.toml" may match nothing`},
		{"no pattern", map[string]string{"main.toml": `include = ["[x"]` + rest},
			`main.toml:1: include[0]: is not a pattern (got "[x"): syntax error in pattern; write for example "conf.d/*.toml"`},
		{"itself", map[string]string{"main.toml": `include = ["main.toml"]` + rest},
			`main.toml:1: include[0]: is the file that includes (got "main.toml"); name other files`},
		{"itself by a pattern", map[string]string{"main.toml": `include = ["*.toml"]` + rest}, ""},
		{"nested", map[string]string{"main.toml": `include = ["a.toml"]` + rest, "a.toml": "\ninclude = [\"b.toml\"]"},
			`a.toml:2: include: is only for the main file (main.toml); include these files there`},
		{"a key twice", map[string]string{"main.toml": `include = ["a.toml"]` + rest + "[log]\nlevel = \"info\"\n", "a.toml": "log.level = \"info\""},
			`a.toml:1: log.level: is set twice, here and at main.toml:12; keep one of them`},
		{"a table of two kinds", map[string]string{"main.toml": `include = ["a.toml"]` + rest, "a.toml": "[listener]\nname = \"x\""},
			`a.toml:1: listener: is set twice, here and at main.toml:2; keep one of them`},
		{"a name twice", map[string]string{"main.toml": `include = ["a.toml"]` + rest,
			"a.toml": "[[backend]]\nname = \"app\"\nservers = [{ address = \"127.0.0.1:1\" }]\n"},
			`a.toml:2: backend.app.name: is the second backend of the name "app" (the first: main.toml:9); give one of them another name`},
		{"a tie over two files", map[string]string{"main.toml": `include = ["a.toml"]` + rest, "a.toml": "[[route]]\nname = \"b\"\nbackend = \"app\"\n"},
			`a.toml:1: route.b.match: is the same as that of the route "all" (main.toml:5): neither is more specific; change one of them`},
		{"a fault in each", map[string]string{"main.toml": `include = ["*.toml"]` + rest + "[log]\nlevel = 1\n", "a.toml": "x = 1", "b.toml": "= 1"},
			"main.toml:12: log.level: is a number (got 1); must be a string, for example level = \"info\"\n" +
				"a.toml:1: x: is not a known key; known here: include, state_dir, log, admin, shutdown, limits, mptcp, listener, route, backend\n" +
				"b.toml:1: is not TOML: unexpected '=': key name appears blank"},
		{"a faulty file hides what others refer to", map[string]string{"main.toml": `include = ["*.toml"]` + strings.Replace(rest, `"app"`, `"else"`, 1), "b.toml": "[[backend]]\nname = \"else"},
			"b.toml:2: is not TOML: unexpected EOF; expected '\"'"},
		{"a directory", map[string]string{"main.toml": `include = ["d"]` + rest, "d/x": ""}, "d:1: cannot be read: is a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := faults(write(t, tt.files), Options{Lookup: noEnv}); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestIncludeValues(t *testing.T) {
	main := write(t, map[string]string{
		"main.toml":   `include = ["${DIR}/*.toml"]` + rest,
		"sub/b.toml":  "[log]\nformat = \"text\"\n",
		"sub/a.toml":  "[[backend]]\nname = \"a\"\nservers = [{ address = \"unix:a.sock\" }]\n[[route]]\nname = \"a\"\nbackend = \"a\"\nmatch.path = \"/a\"\n",
		"sub/c.other": "nonsense",
	})
	c, err := Load(main, Options{Lookup: env(map[string]string{"DIR": "sub"})})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(main)
	if want := []string{main, dir + "/sub/a.toml", dir + "/sub/b.toml"}; !reflect.DeepEqual(c.Files, want) {
		t.Errorf("files %v, want %v", c.Files, want)
	}
	if c.Log.Format != LogText || len(c.Backends) != 2 || c.Backends[1].Servers[0].Address.Path != dir+"/sub/a.sock" {
		t.Errorf("%+v", c)
	}
	for _, tt := range []struct {
		path string
		file string
		line int
	}{
		{"backend.a.servers[0].address", "sub/a.toml", 3},
		{"backend[1].servers[0].address", "sub/a.toml", 3},
		{"backend[1].servers[0].weight", "sub/a.toml", 3},
		{"backend.a.mptcp", "sub/a.toml", 1},
		{"route.a.match.path", "sub/a.toml", 7},
		{"route.a", "sub/a.toml", 4},
		{"listener.web", "main.toml", 2},
		{"listener[0].address", "main.toml", 4},
		{"log.format", "sub/b.toml", 2},
		{"log.level", "sub/b.toml", 1},
		{"limits.header_time", "main.toml", 1},
		{"listener[7].x", "main.toml", 2},
		{"no.such[key", "main.toml", 1},
		{"", "main.toml", 1},
	} {
		if file, line := c.Position(tt.path); file != filepath.Join(dir, tt.file) || line != tt.line {
			t.Errorf("Position(%q) = %s:%d, want %s:%d", tt.path, file, line, tt.file, tt.line)
		}
	}
}

func TestMissingFile(t *testing.T) {
	main := filepath.Join(t.TempDir(), "main.toml")
	if got, want := faults(main, Options{}), "main.toml:1: cannot be read: no such file or directory"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTwiceInOneFile(t *testing.T) {
	main := write(t, map[string]string{"main.toml": "[log]\nlevel = \"info\"\n[admin]\n[log]\n"})
	if got, want := faults(main, Options{}), "main.toml:4: is not TOML: Key 'log' has already been defined, at line 1; keep one of them"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestVariables loads the same file with and without what it refers to.
func TestVariables(t *testing.T) {
	main := write(t, map[string]string{"main.toml": `
[log]
access = "${LOG}/access$${x}.log"
[admin]
address = "${ADMIN:-127.0.0.1:9080}"
[[listener]]
name = "web"
address = ":8080"
[[route]]
name = "all"
backend = "${NAME}"
[[backend]]
name = "${NAME}"
servers = [{ address = "${HOST}:9000" }]
`})
	vars := map[string]string{"LOG": "/var/log", "HOST": "app", "NAME": "b1", "ADMIN": ""}
	c, err := Load(main, Options{Lookup: env(vars)})
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Access != "/var/log/access${x}.log" || c.Admin.Address.String() != "127.0.0.1:9080" || !c.Admin.Written ||
		c.Routes[0].Backend != "b1" || c.Backends[0].Servers[0].Address.Host != "app" {
		t.Errorf("%+v", c)
	}
	if _, line := c.Position("backend.b1.servers"); line != 14 {
		t.Errorf("backend.b1.servers is in line %d", line)
	}

	want := []string{
		`main.toml:3: log.access: needs the variable LOG, which is not set (got "${LOG}/access$${x}.log"); set it, or write ${LOG:-default}`,
		`main.toml:11: route.all.backend: needs the variable NAME, which is not set (got "${NAME}"); set it, or write ${NAME:-default}`,
		`main.toml:13: backend[0].name: needs the variable NAME, which is not set (got "${NAME}"); set it, or write ${NAME:-default}`,
		`main.toml:14: backend[0].servers[0].address: needs the variable HOST, which is not set (got "${HOST}:9000"); set it, or write ${HOST:-default}`,
	}
	c, fs := Check(main, Options{Lookup: noEnv, Check: true})
	if c == nil {
		t.Fatalf("check has errors:\n%v", Errors(fs))
	}
	for _, f := range fs {
		if f.Severity != Warning {
			t.Errorf("%v is an error", f)
		}
	}
	if got := faults(main, Options{Lookup: noEnv, Check: true}); got != strings.Join(want, "\n") {
		t.Errorf("check: got\n%s", got)
	}
	if got := faults(main, Options{Lookup: noEnv}); got != strings.Join(want, "\n") {
		t.Errorf("run: got\n%s", got)
	}
	if _, err := Load(main, Options{Lookup: noEnv}); err == nil {
		t.Error("run takes a file with variables that are not set")
	}
}

func TestExpand(t *testing.T) {
	vars := env(map[string]string{"A": "1", "B": "${A}", "EMPTY": ""})
	for _, tt := range []struct{ in, want, unset, err string }{
		{in: "", want: ""},
		{in: "plain $A $$ $", want: "plain $A $$ $"},
		{in: "${A}", want: "1"},
		{in: "x${A}y${A}z", want: "x1y1z"},
		{in: "${B}", want: "${A}"}, // once
		{in: "$${A}", want: "${A}"},
		{in: "$$${A}", want: "$${A}"},
		{in: "$${", want: "${"},
		{in: "${EMPTY}", want: ""},
		{in: "${EMPTY:-d}", want: "d"},
		{in: "${NO:-}", want: ""},
		{in: "${NO:-a:-b}", want: "a:-b"},
		{in: "a${NO}b${NOT}", want: "ab", unset: "NO NOT"},
		{in: "${A", err: `has ${ without } (got "${A"); write $${ for a literal ${`},
		{in: "${}", err: `"" is no name of a variable; write ${NAME}, ${NAME:-default}, or $${ for a literal ${`},
		{in: "${1A}", err: `"1A" is no name of a variable; write ${NAME}, ${NAME:-default}, or $${ for a literal ${`},
		{in: "${A-b}", err: `"A-b" is no name of a variable; write ${NAME}, ${NAME:-default}, or $${ for a literal ${`},
	} {
		got, unset, err := expand(tt.in, vars)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != tt.want || strings.Join(unset, " ") != tt.unset || text != tt.err {
			t.Errorf("expand(%q) = %q, %v, %v", tt.in, got, unset, err)
		}
		if err == nil && unset == nil {
			if again, _, err := expand(escape(got), vars); err != nil || again != got {
				t.Errorf("expand(escape(%q)) = %q, %v", got, again, err)
			}
		}
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
