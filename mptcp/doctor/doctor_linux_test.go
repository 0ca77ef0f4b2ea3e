package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"mpgate/internal/lab"
	"mpgate/mptcp"
	"mpgate/mptcp/paths"
)

// host is a lab with two links and the client's endpoints made by no one.
func host(t *testing.T) *lab.Lab {
	t.Helper()
	spec := lab.Pair(2, lab.Path{})
	spec.Places = []lab.PlaceSpec{{Name: "client", NoEndpoints: true}}
	return lab.Start(t, spec)
}

// examine runs the checks in the client's place.
func examine(t *testing.T, l *lab.Lab, o Options) []Finding {
	t.Helper()
	var f []Finding
	if o.Command == nil {
		o.Command = func(ctx context.Context, name string, args ...string) ([]byte, error) {
			if name == "nft" {
				return l.Place("client").Command(ctx, name, args...).Output()
			}
			return nil, exec.ErrNotFound
		}
	}
	err := l.Place("client").Do(func() error {
		f = Examine(context.Background(), o)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// want asserts that a finding is there, whole.
func want(t *testing.T, all []Finding, w Finding) {
	t.Helper()
	if !slices.Contains(all, w) {
		var s []string
		for _, f := range all {
			s = append(s, f.String())
		}
		t.Errorf("no finding\n\t%s\namong\n\t%s", w, strings.Join(s, "\n\t"))
	}
}

func has(all []Finding, check string, l Level) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Check == check && f.Level == l })
}

func declared(manage paths.Manage) paths.Options {
	return paths.Options{
		Manage: manage, Limits: &mptcp.Limits{Subflows: 4, AddrAccepted: 4},
		Paths: []paths.Path{{Name: "one", Interface: "link1", Role: paths.ForBackends}, {Name: "two", Interface: "link2", Role: paths.ForBackends}},
	}
}

func set(t *testing.T, l *lab.Lab, name, value string) {
	t.Helper()
	if err := l.Place("client").Sysctl(name, value); err != nil {
		t.Fatal(err)
	}
}

func TestHealthyHost(t *testing.T) {
	f := examine(t, host(t), Options{})
	if w := Worst(f); w != OK {
		t.Errorf("%v: %v", w, f)
	}
	for _, check := range []string{"kernel", "sysctl", "endpoints", "path managers", "firewall", "blackhole"} {
		if !has(f, check, OK) {
			t.Errorf("nothing of %s in %v", check, f)
		}
	}
}

func TestKernelWithoutMPTCP(t *testing.T) {
	l := host(t)
	set(t, l, "net.mptcp.enabled", "0")
	w := Finding{Warning, "kernel", "", "MPTCP is off in this network namespace (net.mptcp.enabled=0)", "sysctl -w net.mptcp.enabled=1"}
	want(t, examine(t, l, Options{}), w)
	w.Level = Error
	want(t, examine(t, l, Options{Listeners: []Listener{{Mode: mptcp.Require}}}), w)
	w.Level = OK
	want(t, examine(t, l, Options{Listeners: []Listener{{Mode: mptcp.Off}}}), w)
}

func TestSysctls(t *testing.T) {
	l := host(t)
	set(t, l, "net.mptcp.path_manager", "userspace")
	set(t, l, "net.mptcp.checksum_enabled", "1")
	set(t, l, "net.mptcp.allow_join_initial_addr_port", "0")
	f := examine(t, l, Options{Paths: declared(paths.ManageSync)})
	want(t, f, Finding{Error, "sysctl", "", `the path manager is "userspace": endpoints have no effect`, "sysctl -w net.mptcp.path_manager=kernel"})
	want(t, f, Finding{Warning, "sysctl", "", "DSS checksums are on: they cost CPU time for each byte, and help only if a middlebox changes payload", "sysctl -w net.mptcp.checksum_enabled=0"})
	want(t, f, Finding{Warning, "sysctl", "", "clients are told not to join at the address they connected to, and no other address is announced: they get one subflow",
		`sysctl -w net.mptcp.allow_join_initial_addr_port=1, or { address = "…", announce = true } in mptcp.paths`})
}

func TestBalancer(t *testing.T) {
	l := host(t)
	o := Options{Paths: paths.Options{Paths: []paths.Path{{Name: "far", Address: netip.MustParseAddr("198.51.100.7"), Announce: true}}}}
	want(t, examine(t, l, o), Finding{Warning, "sysctl", "", "addresses are announced as behind a balancer, but clients may still join at the address they connected to, where a join can reach another host",
		"sysctl -w net.mptcp.allow_join_initial_addr_port=0"})
	set(t, l, "net.mptcp.allow_join_initial_addr_port", "0")
	if f := examine(t, l, o); !has(f, "sysctl", OK) {
		t.Errorf("%v", f)
	}
}

func TestEndpointsAndLimits(t *testing.T) {
	l := host(t)
	if err := l.Place("client").AddEndpoint(lab.Endpoint{Addr: netip.MustParseAddr("10.77.1.1"), ID: 7, Flags: lab.Signal}); err != nil {
		t.Fatal(err)
	}
	o := Options{Paths: declared(paths.ManageWatch)}
	f := examine(t, l, o)
	want(t, f, Finding{Warning, "endpoints", "one", "10.77.1.1 was made by another program with flags signal, and the path needs subflow; adopt = true would change it",
		"adopt = true in [mptcp], or: ip mptcp endpoint delete id 7"})
	want(t, f, Finding{Warning, "endpoints", "two", "10.77.2.1 is missing", `manage = "sync" in [mptcp], or: ip mptcp endpoint add 10.77.2.1 dev link2 subflow`})
	want(t, f, Finding{Warning, "endpoints", "", "the limits are subflows 2 and add_addr_accepted 0, the configuration has 4 and 4",
		"ip mptcp limits set subflows 4 add_addr_accepted 4"})

	// The commands fix it.
	for _, args := range [][]string{{"endpoint", "delete", "id", "7"}, {"endpoint", "add", "10.77.2.1", "dev", "link2", "subflow"},
		{"endpoint", "add", "10.77.1.1", "dev", "link1", "subflow"}, {"limits", "set", "subflows", "4", "add_addr_accepted", "4"}} {
		if out, err := l.Place("client").Command(context.Background(), "ip", append([]string{"mptcp"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip mptcp %v: %v: %s", args, err, out)
		}
	}
	if f := examine(t, l, o); !has(f, "endpoints", OK) || has(f, "endpoints", Warning) {
		t.Errorf("%v", f)
	}

	if err := l.Place("client").AddEndpoint(lab.Endpoint{Addr: netip.MustParseAddr("198.51.100.1"), Flags: lab.Signal}); err != nil {
		t.Fatal(err)
	}
	if err := l.Link("link2").Down("client"); err != nil {
		t.Fatal(err)
	}
	f = examine(t, l, o)
	want(t, f, Finding{Warning, "endpoints", "", "endpoints that no path declares: 198.51.100.1 (signal)",
		"declare them in mptcp.paths, or ip mptcp endpoint delete id ID (ip mptcp endpoint show)"})
	want(t, f, Finding{Warning, "endpoints", "two", "interface link2 is down", "ip link set link2 up"})
}

func TestOtherManagers(t *testing.T) {
	e := examination{Options: Options{Paths: paths.Options{Manage: paths.ManageSync}}}
	e.reportManagers("path managers", true, false)
	e.reportManagers("path managers", false, true)
	want(t, e.findings, Finding{Error, "path managers", "mptcpd", `it is running and changes endpoints too, but manage = "sync"`, "systemctl disable --now mptcp"})
	want(t, e.findings, Finding{Warning, "path managers", "NetworkManager", `it is running and may change endpoints too, but manage = "sync"`,
		"nmcli connection modify ID connection.mptcp-flags disabled"})
	// A process of that name is found.
	l := host(t)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	name := t.TempDir() + "/mptcpd"
	b, err := os.ReadFile(sleep)
	if err == nil {
		err = os.WriteFile(name, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	want(t, examine(t, l, Options{}), Finding{Warning, "path managers", "mptcpd", "it is running and changes endpoints", "systemctl disable --now mptcp, to let mpgate do it"})
}

func TestListenersOutOfReach(t *testing.T) {
	l := host(t)
	o := Options{Paths: declared(paths.ManageWatch), Listeners: []Listener{
		{Name: "web", Addresses: []string{"10.77.1.1:8080"}}, {Name: "all", Addresses: []string{":8080"}}, {Name: "zero", Addresses: []string{"0.0.0.0:80"}},
	}}
	for i := range o.Paths.Paths {
		o.Paths.Paths[i].Role = paths.Both
	}
	f := examine(t, l, o)
	want(t, f, Finding{Warning, "listeners", "web", "it does not listen on 10.77.2.1, which is announced: joins there are refused",
		`address = "0.0.0.0:8080" (or "[::]:8080"), or port = PORT for the path`})
	for _, x := range f {
		if x.Subject == "all" || x.Subject == "zero" {
			t.Errorf("%v", x)
		}
	}
}

func TestSystemd(t *testing.T) {
	l := host(t)
	version := func(v string) func(context.Context, string, ...string) ([]byte, error) {
		return func(_ context.Context, name string, _ ...string) ([]byte, error) {
			if name == "systemctl" && v != "" {
				return []byte(v), nil
			}
			return nil, exec.ErrNotFound
		}
	}
	o := Options{Listeners: []Listener{{Name: "web", Systemd: "web"}, {Name: "must", Systemd: "must", Mode: mptcp.Require}}, Command: version("systemd 252 (252.38-1~deb12u1)\n+PAM")}
	f := examine(t, l, o)
	w := Finding{Warning, "systemd", "web", "systemd 252 does not support SocketProtocol=mptcp and passes a TCP socket", `systemd 257 or later, or let mpgate open it: address = "…" without systemd`}
	want(t, f, w)
	w.Level, w.Subject = Error, "must"
	want(t, f, w)
	o.Command = version("systemd 257.9 (257.9-1)")
	want(t, examine(t, l, o), Finding{OK, "systemd", "web", "systemd 257 supports SocketProtocol=mptcp", ""})
	o.Command = version("")
	want(t, examine(t, l, o), Finding{Warning, "systemd", "web", "its socket comes from systemd, whose version is unknown", "check systemctl --version: 257 or later supports SocketProtocol=mptcp"})
	o.Inherited = []Inherited{{"web", "[::]:80", mptcp.TCP}, {"must", "[::]:443", mptcp.MPTCP}}
	f = examine(t, l, o)
	want(t, f, Finding{Warning, "systemd", "web", "the socket that was passed ([::]:80) is TCP",
		"SocketProtocol=mptcp in the .socket unit (systemd 257 or later), then systemctl daemon-reload and restart the socket"})
	want(t, f, Finding{OK, "systemd", "must", "the socket that was passed ([::]:443) is MPTCP", ""})
	off := Options{Listeners: []Listener{{Name: "must", Systemd: "must", Mode: mptcp.Off}}, Inherited: o.Inherited}
	want(t, examine(t, l, off), Finding{Warning, "systemd", "must", "the socket that was passed ([::]:443) is MPTCP and remains so, although MPTCP is off",
		"remove SocketProtocol=mptcp from the .socket unit and restart the socket, or use the units of mpgate units --pair"})
	o.Inherited = append(o.Inherited, Inherited{"must", "[::]:443", mptcp.TCP})
	off.Inherited = o.Inherited
	if f := examine(t, l, off); has(f, "systemd", Warning) {
		t.Errorf("%v", f)
	}
	want(t, examine(t, l, o), Finding{OK, "systemd", "must", "a second, TCP socket was passed ([::]:443): it gets new connections while MPTCP is off", ""})
}

func TestRoutes(t *testing.T) {
	l := host(t)
	o := Options{Paths: declared(paths.ManageWatch), Servers: []Server{{Name: "s:80", Backend: "api", Mode: mptcp.Off, Address: netip.MustParseAddrPort("10.77.1.2:1")}}}
	f := examine(t, l, o)
	want(t, f, Finding{OK, "routes", "two", "packets from its addresses leave by link2", ""})
	set(t, l, "net/ipv4/conf/link2/rp_filter", "1")
	want(t, examine(t, l, o), Finding{Warning, "routes", "two", "rp_filter is strict on link2: subflows that arrive there for another address are dropped",
		"sysctl -w net.ipv4.conf.link2.rp_filter=2"})
	// Without the rule that the lab made, the second address leaves by the first link.
	if out, err := l.Place("client").Command(context.Background(), "ip", "rule", "del", "from", "10.77.2.1").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	f = examine(t, l, o)
	i := slices.IndexFunc(f, func(f Finding) bool {
		return f.Check == "routes" && f.Subject == "two" && strings.Contains(f.What, "leave by")
	})
	if i < 0 || f[i].What != "packets from 10.77.2.1 to 10.77.1.2 leave by link1, not by link2" || !strings.HasPrefix(f[i].Remedy, "ip route add default via GATEWAY dev link2 table ") {
		t.Errorf("%v", f)
	}
}

func TestFirewall(t *testing.T) {
	l := host(t)
	nft := l.Place("client").Command(context.Background(), "nft", "-f", "-")
	nft.Stdin = strings.NewReader("table ip t { chain c { type filter hook input priority 0; tcp flags syn tcp option mptcp exists drop; tcp dport 1 drop; }; }")
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	f := examine(t, l, Options{})
	i := slices.IndexFunc(f, func(f Finding) bool { return f.Check == "firewall" })
	if i < 0 || f[i].Level != Warning || !strings.HasPrefix(f[i].What, "nftables (ip t c) drops or removes the MPTCP option: tcp flags") || !strings.HasPrefix(f[i].Remedy, "nft delete rule ip t c handle ") {
		t.Fatalf("%v", f)
	}
	args := strings.Fields(f[i].Remedy)
	if out, err := l.Place("client").Command(context.Background(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("the remedy: %v: %s", err, out)
	}
	want(t, examine(t, l, Options{}), Finding{OK, "firewall", "", "no firewall rule of this host drops or removes the MPTCP option", ""})

	e := examination{}
	e.iptables("iptables", "*mangle\n:PREROUTING ACCEPT\n-A PREROUTING -p tcp -m tcp --tcp-option 30 -j DROP\nCOMMIT\n*filter\n-A INPUT -p tcp -j DROP\n")
	if len(e.findings) != 1 || e.findings[0] != (Finding{Warning, "firewall", "", "iptables (mangle) drops or removes the MPTCP option: PREROUTING -p tcp -m tcp --tcp-option 30 -j DROP",
		"iptables -t mangle -D PREROUTING -p tcp -m tcp --tcp-option 30 -j DROP"}) {
		t.Errorf("%v", e.findings)
	}
	denied := func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("exit status 1") }
	want(t, examine(t, l, Options{Command: denied}), Finding{OK, "firewall", "", "this user cannot read the firewall rules: not examined", ""})
}

func TestBlackhole(t *testing.T) {
	l := host(t)
	set(t, l, "net.mptcp.syn_retrans_before_tcp_fallback", "0")
	addr := serve(t, l, lab.MPTCP, "10.77.1.2:0")
	if err := l.Link("link1").SetBox(lab.DropCapable); err != nil {
		t.Fatal(err)
	}
	c, err := l.Place("client").Dial(context.Background(), lab.MPTCP, netip.Addr{}, addr.String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	f := examine(t, l, Options{})
	w := Finding{Error, "blackhole", "", "MPTCP SYNs were dropped on some path, and the kernel uses plain TCP for new connections because of that",
		`sysctl -w net.mptcp.blackhole_timeout=3600 (this ends the state); find the middlebox, or mptcp = "off" for the server behind it`}
	want(t, f, w)
	set(t, l, "net.mptcp.blackhole_timeout", "3600")
	want(t, examine(t, l, Options{}), Finding{Warning, "blackhole", "",
		"MPTCP SYNs were dropped and plain ones were not (1 time since boot): a middlebox drops the option, or a server restarted at that moment",
		`mptcp = "off" for the server behind it, if it is always the same`})
}

// serve echoes in the server's place.
func serve(t *testing.T, l *lab.Lab, proto lab.Proto, address string) netip.AddrPort {
	t.Helper()
	ln, err := l.Place("server").Listen(context.Background(), proto, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func TestServers(t *testing.T) {
	l := host(t)
	usesMPTCP := serve(t, l, lab.MPTCP, "10.77.1.2:0")
	plain := serve(t, l, lab.TCP, "10.77.1.2:0")
	o := Options{Paths: declared(paths.ManageWatch), Servers: []Server{
		{Name: "uses MPTCP", Backend: "api", Address: usesMPTCP, Probe: ProbeHTTP("x")},
		{Name: "plain", Backend: "api", Address: plain},
		{Name: "must", Backend: "api", Address: plain, Mode: mptcp.Require},
		{Name: "off", Backend: "api", Address: plain, Mode: mptcp.Off},
		{Name: "closed", Backend: "api", Address: netip.AddrPortFrom(plain.Addr(), 1)},
	}}
	pm := l.Place("client")
	for _, a := range []string{"10.77.1.1", "10.77.2.1"} {
		if err := pm.AddEndpoint(lab.Endpoint{Addr: netip.MustParseAddr(a), Flags: lab.Subflow}); err != nil {
			t.Fatal(err)
		}
	}
	f := examine(t, l, o)
	of := func(name string) Finding {
		i := slices.IndexFunc(f, func(f Finding) bool { return f.Subject == "api "+name })
		if i < 0 {
			t.Fatalf("nothing of %s in %v", name, f)
		}
		return f[i]
	}
	const without = "answers without MPTCP: the server does not support it, or a middlebox removes the option"
	for name, w := range map[string]struct {
		level Level
		what  string
	}{
		"uses MPTCP": {OK, "uses MPTCP, 2 subflows; round trip by path: one "},
		"plain":      {Warning, without + "; round trip by path: one "},
		"must":       {Error, without + "; round trip by path: one "},
		"off":        {OK, "reached by TCP, as configured; round trip by path: one "},
		"closed":     {Error, "cannot connect: dial tcp 10.77.1.2:1: connect: connection refused"},
	} {
		if got := of(name); got.Level != w.level || !strings.HasPrefix(got.What, w.what) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if what := of("uses MPTCP").What; !strings.Contains(what, ", two ") {
		t.Errorf("no second path in %q", what)
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(Finding{Error, "kernel", "", "what", "remedy"})
	if want := `{"level":"error","check":"kernel","what":"what","remedy":"remedy"}`; err != nil || string(b) != want {
		t.Errorf("%s %v", b, err)
	}
}

func TestFeatures(t *testing.T) {
	for _, c := range []struct {
		has  mptcp.Features
		what string
	}{
		{mptcp.Features{}, "this kernel cannot distinguish an MPTCP connection from a fallback (MPTCP_INFO is missing)"},
		{mptcp.Features{Info: true}, "this kernel does not return all subflows in one call (MPTCP_FULL_INFO is missing): figures are less exact"},
		{mptcp.Features{Info: true, FullInfo: true}, "this kernel reports a fallback only indirectly (TCP_IS_MPTCP is missing)"},
		{mptcp.Features{Info: true, FullInfo: true, IsMPTCP: true}, ""},
	} {
		e := examination{}
		e.features(c.has)
		if c.what == "" && len(e.findings) == 0 {
			continue
		}
		if len(e.findings) != 1 || e.findings[0].What != c.what || e.findings[0].Level != Warning || e.findings[0].Remedy == "" {
			t.Errorf("%+v: %v", c.has, e.findings)
		}
	}
}

// TestSlots: addresses for backends take up what clients' further subflows need.
func TestSlots(t *testing.T) {
	l := host(t)
	add(t, l, "10.77.3.1/24", "link1")
	o := Options{Paths: paths.Options{Manage: paths.ManageSync, Limits: &mptcp.Limits{Subflows: 2, AddrAccepted: 1}, Paths: []paths.Path{
		{Name: "dsl", Address: netip.MustParseAddr("10.77.1.1"), Role: paths.ForListeners}, {Name: "lte", Interface: "link2"},
		{Name: "back", Address: netip.MustParseAddr("10.77.3.1"), Role: paths.ForBackends},
	}}}
	want(t, examine(t, l, o), Finding{Warning, "endpoints", "", "limits.subflows is 2: on client connections attempts from 2 addresses for backends fail and count against it, which may leave too few for the additional paths of clients (1)",
		"limits = { subflows = 3, add_addr_accepted = 1 } in [mptcp]"})
	o.Paths.Limits.Subflows = 3
	if f := examine(t, l, o); slices.ContainsFunc(f, func(f Finding) bool { return strings.Contains(f.What, "take slots") }) {
		t.Errorf("%v", f)
	}
}

func add(t *testing.T, l *lab.Lab, address, dev string) {
	t.Helper()
	if out, err := l.Place("client").Command(context.Background(), "ip", "address", "add", address, "dev", dev).CombinedOutput(); err != nil {
		t.Fatalf("ip address add: %v: %s", err, out)
	}
}

func TestFailoverWithoutSync(t *testing.T) {
	l := host(t)
	o := Options{Paths: declared(paths.ManageWatch)}
	o.Paths.Failover = paths.FailoverActive
	w := Finding{Warning, "endpoints", "", `failover = "active" ends subflows on a failed path, and without manage = "sync" none is created again when the path comes back`, `manage = "sync" in [mptcp]`}
	want(t, examine(t, l, o), w)
	o.Paths.Manage = paths.ManageSync
	if slices.Contains(examine(t, l, o), w) {
		t.Error("it is said with sync, too")
	}
}

// TestLimitOfZero: with it no connection gets a second path, whatever is declared.
func TestLimitOfZero(t *testing.T) {
	l := host(t)
	if err := l.Place("client").SetLimits(0, 0); err != nil {
		t.Fatal(err)
	}
	want(t, examine(t, l, Options{}), Finding{Warning, "endpoints", "", "the limit for additional subflows is 0: every connection has only one path", "ip mptcp limits set subflows 2 add_addr_accepted 0"})
}
