package peers

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mpgate/bench/result"
	"mpgate/internal/need"
)

func setup(t *testing.T, transport result.Transport, log, tls bool, body int64) Setup {
	s := Setup{
		Dir: t.TempDir(), Listen: "127.0.0.1:1", Backend: "127.0.0.1:2", Transport: transport,
		Workers: 3, Connections: 64, Body: body, Mptcpize: "/usr/bin/mptcpize",
	}
	if log {
		s.LogFile = filepath.Join(s.Dir, "access.log")
	}
	if tls {
		s.Cert, s.Key = "/c", "/k"
	}
	return s
}

func fake(name string, native bool) *Peer {
	plans := map[string]func(*Peer, Setup) (Plan, error){
		"nginx": planNginx, "haproxy": planHAProxy, "caddy": planCaddy, "stdlib": planStdlib, "mpgate": planMpgate,
	}
	return &Peer{Name: name, Program: "/bin/" + name, plan: plans[name], native: native}
}

func whole(pl Plan) string {
	text := strings.Join(pl.Env, " ") + " " + strings.Join(pl.Args, " ") + "\n" + pl.Stdout
	for _, f := range pl.Files {
		text += "\n" + f.Text
	}
	return text
}

// What is the same for all stands in each plan; what a case adds stands only where it is asked for.
func TestPlansAreAlike(t *testing.T) {
	for name, want := range map[string]struct{ workers, logged, tls string }{
		"nginx":   {"worker_processes 3;", "access.log combined", "ssl_certificate /c;"},
		"haproxy": {"nbthread 3\n", "option httplog", "ssl crt /c.pem"},
		"caddy":   {"GOMAXPROCS=3", "access.log", "tls /c /k"},
		"stdlib":  {"GOMAXPROCS=3", "--log ", "--cert /c --key /k"},
		"mpgate":  {"GOMAXPROCS=3", "access.log", `cert = "/c", key = "/k"`},
	} {
		p := fake(name, false)
		plain, err := p.Plan(setup(t, result.TCP, false, false, 1024))
		if err != nil {
			t.Fatal(err)
		}
		text := whole(plain)
		for _, each := range []string{want.workers, "127.0.0.1:1", "127.0.0.1:2"} {
			if !strings.Contains(text, each) {
				t.Errorf("%s: %q is missing in\n%s", name, each, text)
			}
		}
		for _, never := range []string{want.logged, want.tls, "mptcpize", "multipathtcp=1"} {
			if strings.Contains(text, never) {
				t.Errorf("%s: a plain case has %q in\n%s", name, never, text)
			}
		}
		full, err := p.Plan(setup(t, result.TCP, true, true, 100<<10))
		if err != nil {
			t.Fatal(err)
		}
		for _, each := range []string{want.logged, want.tls} {
			if !strings.Contains(whole(full), each) {
				t.Errorf("%s: %q is missing with log and TLS in\n%s", name, each, whole(full))
			}
		}
	}
}

func TestMPTCP(t *testing.T) {
	for _, c := range []struct {
		name      string
		native    bool
		transport result.Transport
		has, not  string
	}{
		{"nginx", false, result.MPTCPFront, "/usr/bin/mptcpize run /bin/nginx", "multipath"},
		{"nginx", true, result.MPTCPFront, "listen 127.0.0.1:1 backlog=4096 multipath;", "mptcpize"},
		{"nginx", true, result.MPTCPBoth, "/usr/bin/mptcpize run /bin/nginx", "multipath;"},
		{"haproxy", false, result.MPTCPBoth, "/usr/bin/mptcpize run /bin/haproxy", "mptcp4@"},
		{"haproxy", true, result.MPTCPFront, "bind mptcp4@127.0.0.1:1", "server origin mptcp4@"},
		{"haproxy", true, result.MPTCPBoth, "server origin mptcp4@127.0.0.1:2", "mptcpize"},
		{"caddy", false, result.MPTCPFront, "GODEBUG=multipathtcp=2", "mptcpize"},
		{"caddy", false, result.MPTCPBoth, "GODEBUG=multipathtcp=1", "mptcpize"},
		{"stdlib", false, result.MPTCPFront, "--mptcp-front", "--mptcp-back"},
		{"stdlib", false, result.MPTCPBoth, "--mptcp-front --mptcp-back", "mptcpize"},
		{"mpgate", false, result.MPTCPFront, "mptcp = \"prefer\"\n\n[[route]]", "mptcp = \"prefer\"\nservers"},
		{"mpgate", false, result.MPTCPBoth, "mptcp = \"prefer\"\nservers", "enabled = false"},
	} {
		pl, err := fake(c.name, c.native).Plan(setup(t, c.transport, false, false, 1024))
		if err != nil {
			t.Fatal(err)
		}
		if text := whole(pl); !strings.Contains(text, c.has) || strings.Contains(text, c.not) {
			t.Errorf("%s, native %v, %s: want %q and not %q in\n%s", c.name, c.native, c.transport, c.has, c.not, text)
		}
	}
	s := setup(t, result.MPTCPBoth, false, false, 1024)
	s.Mptcpize = ""
	for _, name := range []string{"nginx", "haproxy"} {
		_, err := fake(name, false).Plan(s)
		want := "this version does not support MPTCP itself, and mptcpize is not installed (Debian and Ubuntu: apt install mptcpize)"
		if err == nil || err.Error() != want {
			t.Errorf("%s without mptcpize: %v", name, err)
		}
	}
}

func TestSlowedAndBeside(t *testing.T) {
	s := setup(t, result.TCP, false, false, 1024)
	pl, err := Slowed("slow", "/self", 5*time.Microsecond).Plan(s)
	if err != nil || !strings.HasSuffix(strings.Join(pl.Args, " "), "--burn 5µs") {
		t.Errorf("Slowed: %v, %v", pl.Args, err)
	}
	b := Beside(fake("nginx", false), "/self", 0.25)
	pl, err = b.Plan(s)
	want := "/self child beside --share 0.25 -- /bin/nginx -p"
	if got := strings.Join(pl.Args, " "); err != nil || b.Name != "nginx+burner" || !strings.HasPrefix(got, want) {
		t.Errorf("Beside: %s %q, %v; want %q…", b.Name, got, err, want)
	}
}

func TestHTTP2(t *testing.T) {
	for name, want := range map[string]string{
		"nginx": "ssl http2;", "haproxy": "alpn h2,http/1.1 ", "caddy": "protocols h1 h2", "stdlib": "--h2", "mpgate": `protocols = ["h1", "h2"]`,
	} {
		s := setup(t, result.TCP, false, true, 1024)
		for _, on := range []bool{false, true} {
			s.H2 = on
			pl, err := fake(name, false).Plan(s)
			if err != nil {
				t.Fatal(err)
			}
			if text := whole(pl); strings.Contains(text, want) != on {
				t.Errorf("%s, h2 %v: %q in\n%s", name, on, want, text)
			}
		}
	}
	for version, old := range map[string]bool{"1.22.1": true, "1.25.0": true, "1.25.1": false, "1.31.0": false, "2.0": false} {
		if nginxOldHTTP2(version) != old {
			t.Errorf("nginx %s: old %v", version, !old)
		}
	}
}

func TestGrow(t *testing.T) {
	s := setup(t, result.TCP, false, false, 1024)
	pl, err := Grow(fake("mpgate", false), "big", Grown{Clients: 5000, Hosts: 2, Paths: 1, Servers: 251, Listeners: 9}).Plan(s)
	if err != nil {
		t.Fatal(err)
	}
	text := whole(pl)
	for _, want := range []string{
		"connections = 6024\n", `match = { host = "r1.example", path = "/*" }`, `match = { path = "/r0/*" }`, `{ address = "127.1.1.1:2" },`,
		"name = \"l8\"\naddress = \"127.11.0.9:18080\"",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	pl, err = Grow(fake("mpgate", false), "wide", Grown{Hosts: 3, Backends: 2}).Plan(s)
	if err != nil {
		t.Fatal(err)
	}
	text = whole(pl)
	for _, want := range []string{
		"name = \"r2\"\nmatch = { host = \"r2.example\", path = \"/*\" }\nbackend = \"b0\"", "name = \"b1\"", `{ address = "127.1.0.8:18081" },`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	s.Backend = "nowhere"
	if _, err := Grow(fake("mpgate", false), "big", Grown{Servers: 1}).Plan(s); err == nil || err.Error() != "address nowhere: missing port in address" {
		t.Errorf("a backend without a port: %v", err)
	}
}

func TestVary(t *testing.T) {
	s := setup(t, result.TCP, false, false, 1024)
	s.Root = "/srv/www"
	pl, err := Vary(fake("mpgate", false), Variant{Name: "+x", Route: "allow = []\n", Backend: "balance = \"least\"\n", Servers: 2, Files: []File{{"users", "a:b"}}}).Plan(s)
	if err != nil {
		t.Fatal(err)
	}
	text := whole(pl)
	for _, want := range []string{
		"match = { path = \"/*\" }\nallow = []\nbackend = \"origin\"\n", "protocol = \"h1\"\nbalance = \"least\"\n",
		"servers = [\n  { address = \"127.1.0.1:2\" },\n  { address = \"127.1.0.2:2\" },\n]", "a:b",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if got, want := strings.Join(pl.Check, " "), "/bin/mpgate check -c "+s.Dir+"/mpgate.toml"; got != want {
		t.Errorf("checked by %q, want %q", got, want)
	}
	p := Vary(fake("mpgate", false), Variant{Root: true})
	if pl, err = p.Plan(s); err != nil || p.Name != "mpgate" || !strings.Contains(whole(pl), "files = \"/srv/www\"\n") {
		t.Errorf("%s: %v\n%s", p.Name, err, whole(pl))
	}
	for p, want := range map[*Peer]string{
		NginxGzip(fake("nginx", false), 7):      "gzip on;\n  gzip_types text/plain;\n  gzip_min_length 1024;\n  gzip_comp_level 7;",
		NginxFiles(fake("nginx", false), false): "      root /srv/www;\n      types { text/html html; }\n      sendfile on;\n      tcp_nopush on;\n    }\n  }\n}",
		NginxFiles(fake("nginx", false), true):  "open_file_cache_valid 1s;",
	} {
		pl, err := p.Plan(s)
		if err != nil || !strings.Contains(whole(pl), want) {
			t.Errorf("%s: %v: %q is missing in\n%s", p.Name, err, want, whole(pl))
		}
	}
	text, err = "", nil
	if edit(&err, text, "a\n", "b"); err == nil || err.Error() != `the configuration has no line "a\n"` {
		t.Errorf("a line that is not there: %v", err)
	}
}

func TestFind(t *testing.T) {
	_, err := find("/does/not/exist", "nginx")
	if err == nil || !strings.HasPrefix(err.Error(), `--nginx: exec: "/does/not/exist"`) {
		t.Errorf("a program that is not there: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	_, err = find("", "no-such-proxy")
	want := "not found in PATH; --no-such-proxy PATH names it (Debian and Ubuntu: apt install no-such-proxy)"
	if err == nil || err.Error() != want {
		t.Errorf("err = %v, want %s", err, want)
	}
}

// The programs that are installed accept the configurations that are written for them.
func TestConfigurationsAreAccepted(t *testing.T) {
	same := func(p *Peer) *Peer { return p }
	nginxTest := func(p *Peer, s Setup) []string {
		return []string{p.Program, "-t", "-p", s.Dir, "-c", filepath.Join(s.Dir, "nginx.conf")}
	}
	for _, c := range []struct {
		name string
		find func(ctx context.Context, given string) (*Peer, error)
		vary func(*Peer) *Peer
		args func(p *Peer, s Setup) []string
	}{
		{"nginx", Nginx, same, nginxTest},
		{"nginx gzip", Nginx, func(p *Peer) *Peer { return NginxGzip(p, 5) }, nginxTest},
		{"nginx files", Nginx, func(p *Peer) *Peer { return NginxFiles(p, true) }, nginxTest},
		{"haproxy", HAProxy, same, func(p *Peer, s Setup) []string {
			return []string{p.Program, "-c", "-f", filepath.Join(s.Dir, "haproxy.cfg")}
		}},
		{"caddy", Caddy, same, func(p *Peer, s Setup) []string {
			return []string{p.Program, "validate", "--adapter", "caddyfile", "--config", filepath.Join(s.Dir, "Caddyfile")}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := c.find(t.Context(), "")
			switch {
			case err == nil:
			case c.name == "caddy": // CI does not install it
				t.Skip(err)
			default:
				need.Missing(t, "%v", err)
			}
			if p.Version == "" {
				t.Error("no version")
			}
			p = c.vary(p)
			for _, body := range []int64{1 << 10, 100 << 10, 10 << 20} {
				s := setup(t, result.TCP, body == 1<<10, false, body)
				s.Listen, s.Root = "127.0.0.1:39", s.Dir
				pl, err := p.Plan(s)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range pl.Files {
					if err := os.WriteFile(filepath.Join(s.Dir, f.Name), []byte(f.Text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				args := c.args(p, s)
				if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil && !strings.Contains(string(out), "Permission denied") {
					t.Errorf("%d bytes: %v\n%s", body, err, out)
				}
			}
		})
	}
}
