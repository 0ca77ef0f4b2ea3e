package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/listener"
	"mpgate/mptcp"
)

// TestReloadRefused: whatever is wrong, the running generation continues, and the error, the log,
// the status and the metric say what it is and where it stands.
func TestReloadRefused(t *testing.T) {
	app := named(t, "app")
	web, taken := proxytest.FreeAddress(t), proxytest.Listen(t, mptcp.Off)
	t.Cleanup(func() { taken.Close() })
	rest := routeTable("all", "", "app") + backendTable("app", app, "")
	good := head + listenerTable("web", web, "") + rest
	_, port, _ := strings.Cut(web, ":")
	const inTwo = `which is used by this gateway's listener "web": bind: address already in use; ` +
		`remedy: restart mpgate (systemctl restart mpgate), or reload twice: first without the old address of that listener, then with the new one`
	r := startRig(t, good, nil)
	line := func(file, part string) int {
		before, _, ok := strings.Cut(file, part)
		if !ok {
			t.Fatalf("no %q in the file", part)
		}
		return 1 + strings.Count(before, "\n")
	}
	dir := filepath.Dir(r.file)
	conf := filepath.Join(dir, "more.toml")
	for _, c := range []struct{ name, file, at, want string }{
		{"an unknown key", good + "colour = 1\n", "colour", `backend.app.colour: is not a known key`},
		{"a port that is taken", good + listenerTable("more", taken.Addr().String(), ""), "", `listener.more: listener "more": cannot listen on ` +
			taken.Addr().String() + `: bind: address already in use; remedy: find the program that uses it (ss -ltnp) and stop it, or use another address`},
		{"all addresses instead of one", head + listenerTable("web", ":"+port, "") + rest, "[[listener]]", "cannot listen on :" + port + ", " + inTwo},
		{"another name", head + listenerTable("other", web, "") + rest, "[[listener]]", "cannot listen on " + web + ", " + inTwo},
		{"a socket that systemd has not passed", good + "[[listener]]\nname = \"more\"\nsystemd = \"more\"\n", "",
			`no inherited socket is named "more"; no socket was inherited; remedy: FileDescriptorName=more in the .socket unit, and start mpgate by that unit; ` +
				`or give the listener an address too; systemd passes sockets only at start: start the .socket unit, then run systemctl restart mpgate, which loses no connection`},
		{"another device for an open socket", head + listenerTable("web", web, "interface = \"lo\"") + rest, "[[listener]]",
			`is open on interface "", and a reload cannot change that to "lo"; remedy: restart mpgate (systemctl restart mpgate), or open another port for it`},
		{"a state directory", strings.Replace(good, `"state"`, `"other"`, 1), "state_dir", `cannot be changed by a reload`},
		{"a certificate that is not there", head + listenerTable("web", web, "[listener.tls]\ncertificates = [ { cert = \"c.pem\", key = \"k.pem\" } ]") + rest, "certificates", "c.pem"},
		{"an access log that cannot be", strings.Replace(good, `"off"`, `"/proc/none/log"`, 1), "access", "no such file or directory"},
		{"an admin address that is taken", strings.Replace(good, `"unix:admin.sock"`, `"`+taken.Addr().String()+`"`, 1), `address = "` + taken.Addr().String(), "address already in use"},
		{"one name in two files", "include = [\"more.toml\"]\n" + good, "", `the second backend named "app" (the first: `},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(conf, []byte(backendTable("app", app, "")), 0o600); err != nil {
				t.Fatal(err)
			}
			r.write(c.file)
			err := r.Reload(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			at := filepath.Base(r.file) + ":"
			if c.at != "" {
				at += fmt.Sprintf("%d: ", line(c.file, c.at))
			}
			if strings.HasPrefix(c.file, "include") {
				at = "more.toml:2: "
			}
			if !strings.Contains(err.Error(), at) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s… %s", err, at, c.want)
			}
			if s := r.Status(); s.Generation != 1 || s.Reload.OK || s.Reload.Error != err.Error() {
				t.Errorf("status: generation %d, reload %+v", s.Generation, s.Reload)
			}
			if v := proxytest.Metric(t, r.metrics.Registry(), "mpgate_reload_success"); v != 0 {
				t.Errorf("mpgate_reload_success is %v", v)
			}
			if !strings.Contains(r.log.String(), "reload failed; the running configuration remains active") {
				t.Error("the log does not say it")
			}
			if got := fetch(t, "http://"+web+"/"); got != "200 app" {
				t.Errorf("afterwards it says %q", got)
			}
		})
	}
	r.swap(good)
	if s := r.Status(); s.Generation != 2 || !s.Reload.OK {
		t.Errorf("after a good one: generation %d, %+v", s.Generation, s.Reload)
	}
	if v := proxytest.Metric(t, r.metrics.Registry(), "mpgate_reload_success"); v != 1 {
		t.Errorf("mpgate_reload_success is %v", v)
	}
}

// TestReloadPassedSockets: a listener of sockets that systemd passed goes, and comes back by
// another reload: systemd would not pass them a second time. Switching MPTCP off is told, and does
// the rest.
func TestReloadPassedSockets(t *testing.T) {
	proxytest.NeedMPTCP(t)
	app := named(t, "app")
	l := proxytest.Listen(t, mptcp.Require)
	address := l.Addr().String()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	rest := routeTable("all", "", "app") + backendTable("app", app, "")
	web := "[[listener]]\nname = \"web\"\nsystemd = \"web\"\n"
	other := listenerTable("other", proxytest.FreeAddress(t), "")
	r := startRig(t, head+web+other+rest, func(o *Options) {
		o.Inherited = listener.NewInherited(map[string][]*os.File{"web": {f}})
	})
	get := func() { // by TCP, whatever the protocol of the socket
		t.Helper()
		if a := proxytest.Dial(t, address, mptcp.Off).Get("/"); a.Status != 200 {
			t.Errorf("got %q", a.Head)
		}
	}
	get()
	r.swap(head + other + rest)
	r.logs(`no listener accepts on a socket that systemd holds open.*socket=web address=` + regexp.QuoteMeta(address))
	waits := proxytest.Dial(t, address, mptcp.Off)
	waits.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r.swap(head + web + other + rest)
	if a := waits.Answer(); a.Status != 200 {
		t.Errorf("who waited got %q", a.Head)
	}
	get()
	r.swap(head + "[mptcp]\nenabled = false\n" + web + other + rest)
	get()
	listeners := r.Status().Listeners
	if s := listeners[0].Sockets[0]; s.Transport != "mptcp" || !strings.Contains(s.Why, "mpgate cannot change that") {
		t.Errorf("after MPTCP was switched off: %+v", s)
	}
	if s := listeners[1].Sockets[0]; s.Transport != "tcp" || s.Why != "" {
		t.Errorf("after MPTCP was switched off, a socket of our own: %+v", s)
	}
	r.logs(`level=WARN msg="listening, but not as preferred" listener=web .*remove SocketProtocol=mptcp from the .socket unit`)
}

// A backend of a file that was refused is not measured.
func TestReloadRefusedMeasuresNothing(t *testing.T) {
	taken := proxytest.Listen(t, mptcp.Off)
	t.Cleanup(func() { taken.Close() })
	good := head + listenerTable("web", "127.0.0.1:0", "") + app(t)
	r := startRig(t, good, nil)
	series := func() (n int) {
		families, err := r.metrics.Registry().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				for _, l := range m.Label {
					if l.GetName() == "backend" {
						n++
					}
				}
			}
		}
		return n
	}
	before := series()
	r.write(good + backendTable("typo", proxytest.FreeAddress(t), "") + listenerTable("more", taken.Addr().String(), ""))
	if err := r.Reload(t.Context()); err == nil {
		t.Fatal("it is not refused")
	}
	if n := series(); n != before || n == 0 {
		t.Errorf("%d series of backends, %d before", n, before)
	}
}
