package units

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// cases are those of testdata: a directory each.
var cases = map[string]Options{
	"none": {Version: "1.0", HangUp: true, Drain: 30 * time.Second, Listeners: []Listener{
		{Name: "web", Addresses: []string{"0.0.0.0:8080", "unix:/srv/app/web.sock"}, MPTCP: true},
	}},
	"two": {
		Version: "1.0", Drain: 20*time.Second + 500*time.Millisecond, Keys: []string{"/etc/ssl/private/a.key"},
		Listeners: []Listener{
			{Name: "http", Systemd: "http", Addresses: []string{":80"}, MPTCP: true},
			{Name: "https", Systemd: "https", Addresses: []string{"192.0.2.7:443", "[2001:db8::7]:443"}, MPTCP: true, Require: true, Interface: "eth0"},
			{Name: "local", Systemd: "local", Addresses: []string{"unix:/run/mpgate/web.sock"}, Mode: 0o666},
		},
	},
	"pair": {Version: "1.0", Pair: true, Drain: 30 * time.Second, Listeners: []Listener{
		{Name: "web", Systemd: "web", Addresses: []string{":80", "[2001:db8::7]:81", "unix:/run/mpgate/web.sock"}, MPTCP: true},
		{Name: "plain", Systemd: "plain", Addresses: []string{":8080"}},
	}},
	"paths": {
		Program: "/opt/mpgate", Config: "/srv/gate.toml", Drain: 0, NetAdmin: `mptcp.manage = "sync"`, Writes: []string{"/data/log/access.log", "/var/log/mpgate/x.log"},
		Listeners: []Listener{
			{Name: "all", Systemd: "all", Addresses: []string{":80", "[::1]:81", "unix:/run/mpgate/a.sock"}},
			{Name: "own", Addresses: []string{"0.0.0.0:443"}},
		},
	},
}

func TestGenerate(t *testing.T) {
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			files, err := Generate(o)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join("testdata", name)
			if *update {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range files {
				golden := filepath.Join(dir, f.Name)
				if *update {
					if err := os.WriteFile(golden, []byte(f.Text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if f.Text != string(want) {
					t.Errorf("%s is\n%s\nwant\n%s", f.Name, f.Text, want)
				}
			}
			if list, err := os.ReadDir(dir); err != nil || len(list) != len(files) {
				t.Errorf("%d units, and %d golden files (%v)", len(files), len(list), err)
			}
		})
	}
}

// TestLowPorts: in a user namespace of its own the service could not have the capability that the
// unit tells of.
func TestLowPorts(t *testing.T) {
	for _, c := range []struct {
		listener Listener
		advised  bool
	}{
		{Listener{Name: "web", Addresses: []string{":80"}}, true},
		{Listener{Name: "web", Addresses: []string{":80"}, Systemd: "web"}, false},
		{Listener{Name: "web", Addresses: []string{":8080"}}, false},
	} {
		files, err := Generate(Options{Listeners: []Listener{c.listener}})
		if err != nil {
			t.Fatal(err)
		}
		text := files[len(files)-1].Text
		if advised := strings.Contains(text, "or add CAP_NET_BIND_SERVICE to the next two lines.\nCapabilityBoundingSet=\n"); advised != c.advised {
			t.Errorf("%+v: advised %t, want %t", c.listener, advised, c.advised)
		}
		if private := strings.Contains(text, "\nPrivateUsers=yes\n"); private == c.advised {
			t.Errorf("%+v: PrivateUsers=yes is there: %t", c.listener, private)
		}
	}
}

func TestWarnings(t *testing.T) {
	o := Options{
		Program: "/usr/bin/mpgate", Config: "/root/gate.toml", Keys: []string{"/home/x/k.pem", "/etc/k.pem"}, Reads: []string{"/home/x/k.pem", "/var/tmp/c.pem", "/homes/c.pem"},
		Writes: []string{"/run/user/1000/admin.sock"},
		Listeners: []Listener{
			{Name: "own", Addresses: []string{"unix:/tmp/a.sock", "unix:@tmp"}},
			{Name: "passed", Systemd: "passed", Addresses: []string{"unix:/tmp/b.sock"}},
		},
	}
	want := []string{
		"/root/gate.toml, /home/x/k.pem, /run/user/1000/admin.sock: /home, /root, /run/user are not accessible to the service (ProtectHome=yes); " +
			"move it elsewhere, or set ProtectHome=no (systemctl edit mpgate) and see that the user mpgate can reach it",
		"/var/tmp/c.pem, /tmp/a.sock: /tmp, /var/tmp are the service's own, and empty at its start (PrivateTmp=yes); " +
			"move it elsewhere, or set PrivateTmp=no (systemctl edit mpgate) and see that the user mpgate can reach it",
	}
	if got := o.Warnings(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := (&Options{Config: "/etc/mpgate/mpgate.toml", Keys: []string{"/etc/k.pem"}}).Warnings(); got != nil {
		t.Errorf("%q, though all is where the service sees it", got)
	}
}

func TestGenerateErrors(t *testing.T) {
	for _, c := range []struct {
		listener Listener
		want     string
	}{
		{Listener{Name: "web", Systemd: "web"}, `listener "web" has systemd = "web" and no address, so there is no value for ListenStream=; give it the address of its socket`},
		{Listener{Name: "web", Systemd: "web", Addresses: []string{"localhost:80"}}, `listener "web": ListenStream= takes no names (got "localhost"); write the IP address`},
		{Listener{Name: "web", Systemd: "web", Addresses: []string{"80"}}, `listener "web": address (got "80"); host:port or unix:/path`},
	} {
		if _, err := Generate(Options{Listeners: []Listener{c.listener}}); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// TestComments: systemd takes a comment only at the beginning of a line.
func TestComments(t *testing.T) {
	for name, o := range cases {
		files, err := Generate(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			for _, l := range strings.Split(f.Text, "\n") {
				if strings.Contains(l, " #") && !strings.HasPrefix(l, "#") {
					t.Errorf("%s: %s: %q", name, f.Name, l)
				}
			}
		}
	}
}
