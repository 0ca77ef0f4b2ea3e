package paths

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"mpgate/mptcp"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func testHost() *host {
	return &host{
		links: []link{
			{index: 1, name: "lo", admin: true, carrier: true, loopback: true},
			{index: 2, name: "eth0", admin: true, carrier: true},
			{index: 3, name: "wwan0", admin: true},
			{index: 4, name: "eth1"},
			{index: 5, name: "eth2", admin: true, carrier: true},
		},
		addrs: []address{
			{ip("127.0.0.1"), 1, true, false},
			{ip("192.0.2.1"), 2, true, true},
			{ip("2001:db8::1"), 2, true, true},
			{ip("2001:db8::dead"), 2, true, false}, // temporary
			{ip("2001:db8::2"), 2, false, true},    // tentative
			{ip("198.51.100.1"), 3, true, true},
			{ip("fe80::1"), 5, true, false},
		},
	}
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		path   Path
		addrs  string
		device string
		why    string
	}{
		{Path{Interface: "eth0"}, "192.0.2.1 2001:db8::1", "eth0", ""},
		{Path{Address: ip("192.0.2.1")}, "192.0.2.1", "eth0", ""},
		{Path{Address: ip("2001:db8::dead")}, "2001:db8::dead", "eth0", ""}, // named: it is meant
		{Path{Address: ip("2001:db8::2")}, "", "", "no interface has the address 2001:db8::2"},
		{Path{Interface: "wwan0"}, "198.51.100.1", "wwan0", "interface wwan0 has no carrier"},
		{Path{Interface: "eth1"}, "", "eth1", "interface eth1 is down"},
		{Path{Interface: "eth2"}, "", "eth2", "interface eth2 has no address of global scope"},
		{Path{Interface: "eth9"}, "", "eth9", "there is no interface eth9"},
		{Path{Address: ip("192.0.2.1"), Interface: "wwan0"}, "", "wwan0", "interface wwan0 has no address 192.0.2.1"},
		{Path{Address: ip("203.0.113.1"), Announce: true}, "203.0.113.1", "", ""},
		{Path{Address: ip("203.0.113.1"), Announce: true, Port: 1}, "", "",
			"no interface has the address 203.0.113.1, and it can be announced with a port only if one has"},
	} {
		r := resolve([]Path{c.path}, testHost(), true)[0]
		var got []string
		for _, a := range r.addrs {
			got = append(got, a.String())
		}
		if s := strings.Join(got, " "); s != c.addrs || r.device != c.device || r.why != c.why || !r.declared {
			t.Errorf("%+v: %q %q %q, want %q %q %q", c.path, s, r.device, r.why, c.addrs, c.device, c.why)
		}
	}
	var names []string
	for _, r := range resolve(nil, testHost(), true) {
		names = append(names, r.Name+" "+r.why)
	}
	if want := []string{"eth0 ", "wwan0 interface wwan0 has no carrier"}; !reflect.DeepEqual(names, want) {
		t.Errorf("implied: %q", names)
	}
	if r := resolve(nil, testHost(), false); r != nil {
		t.Errorf("nothing declared: %v", r)
	}
}

func TestEndpoints(t *testing.T) {
	const sig, sub, bak, full = mptcp.FlagSignal, mptcp.FlagSubflow, mptcp.FlagBackup, mptcp.FlagFullmesh
	for _, c := range []struct {
		path     Path
		fullmesh bool
		want     []mptcp.Endpoint
	}{
		{Path{}, false, []mptcp.Endpoint{{Flags: sig | sub, Interface: 2}}},
		{Path{}, true, []mptcp.Endpoint{{Flags: sig | sub, Interface: 2}}},
		{Path{Role: ForListeners, Backup: true}, true, []mptcp.Endpoint{{Flags: sig | bak, Interface: 2}}},
		{Path{Role: ForBackends}, true, []mptcp.Endpoint{{Flags: sub | full, Interface: 2}}},
		{Path{Port: 8443}, true, []mptcp.Endpoint{{Flags: sig, Port: 8443, Interface: 2}, {Flags: sub | full, Interface: 2}}},
		{Path{Port: 8443, Announce: true}, false, []mptcp.Endpoint{{Flags: sig, Port: 8443, Interface: 2}}},
	} {
		c.path.Address = ip("192.0.2.1")
		for i := range c.want {
			c.want[i].Addr = c.path.Address
		}
		r := resolve([]Path{c.path}, testHost(), false)[0]
		if got := r.endpoints(c.fullmesh); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %+v, want %+v", c.path, got, c.want)
		}
	}
}

func TestOptionsCheck(t *testing.T) {
	o := Options{
		Limits: &mptcp.Limits{Subflows: 9},
		Paths: []Path{
			{Interface: "eth0"},
			{Name: "a"},
			{Name: "b", Interface: "x", Role: ForBackends, Port: 1},
			{Name: "b", Interface: "x", Announce: true},
		},
	}
	want := `path 1 has no name
path 2 ("a") has neither interface nor address
path 3 ("b") is announced to clients, and its role is "backend"; the role "listener" or "both" would be right
path 4 ("b"): the name is used twice
path 4 ("b"): announce needs an address
limits are above 8 (got 9 subflows, 0 addresses accepted)`
	if err := o.check(); err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	if err := (&Options{}).check(); err != nil {
		t.Error(err)
	}
}

func TestPlan(t *testing.T) {
	e := func(addr string, f mptcp.EndpointFlags, id uint8) mptcp.Endpoint {
		return mptcp.Endpoint{Addr: ip(addr), Flags: f, ID: id, Interface: 2}
	}
	const sig, sub, bak = mptcp.FlagSignal, mptcp.FlagSubflow, mptcp.FlagBackup
	type ends []mptcp.Endpoint
	for _, c := range []struct {
		name           string
		wanted         ends
		have           ends
		ours           ends // as stored
		adopt          bool
		contested      string
		changes        string
		difference     string
		fresh, foreign int
	}{
		{name: "add", wanted: ends{e("192.0.2.1", sub, 0)}, changes: "add subflow", difference: "is missing"},
		{name: "there, ours", wanted: ends{e("192.0.2.1", sub, 0)}, have: ends{e("192.0.2.1", sub, 1)}, ours: ends{e("192.0.2.1", sub, 1)}},
		{name: "there, another's", wanted: ends{e("192.0.2.1", sub, 0)}, have: ends{e("192.0.2.1", sub, 1)}},
		{name: "no longer needed", have: ends{e("192.0.2.1", sub, 1)}, ours: ends{e("192.0.2.1", sub, 1)},
			changes: "del 1", difference: "is not needed any more"},
		{name: "another's", have: ends{e("192.0.2.1", sub, 1)}},
		{name: "ours, to be backup", wanted: ends{e("192.0.2.1", sub|bak, 0)}, have: ends{e("192.0.2.1", sub, 1)}, ours: ends{e("192.0.2.1", sub, 1)},
			changes: "set 1 subflow,backup", difference: "has flags subflow, subflow,backup would be right"},
		{name: "ours, another role", wanted: ends{e("192.0.2.1", sig, 0)}, have: ends{e("192.0.2.1", sub, 1)}, ours: ends{e("192.0.2.1", sub, 1)},
			changes: "del 1 add signal", difference: "has flags subflow, signal would be right"},
		{name: "ours, and another changed it", wanted: ends{e("192.0.2.1", sub, 0)}, have: ends{e("192.0.2.1", sub|bak, 1)}, ours: ends{e("192.0.2.1", sub, 1)},
			difference: "another program changed it (flags subflow,backup, subflow would be right)", fresh: 1},
		{name: "ours, and another removed it", wanted: ends{e("192.0.2.1", sub, 0)}, ours: ends{e("192.0.2.1", sub, 1)},
			difference: "another program removed it", fresh: 1},
		{name: "known for that", wanted: ends{e("192.0.2.1", sub, 0)}, ours: ends{e("192.0.2.1", sub, 1)}, contested: "said before", difference: "said before"},
		{name: "another's, otherwise", wanted: ends{e("192.0.2.1", sig, 0)}, have: ends{e("192.0.2.1", sub, 1)},
			difference: "was made by another program with flags subflow, and the path needs signal; adopt = true would change it"},
		{name: "adopted", wanted: ends{e("192.0.2.1", sig, 0)}, have: ends{e("192.0.2.1", sub, 1)}, adopt: true,
			changes: "del 1 add signal", difference: "has flags subflow, signal would be right"},
		{name: "the kernel's own", wanted: ends{e("192.0.2.1", sig, 0)}, have: ends{e("192.0.2.1", sub|mptcp.FlagImplicit, 1)},
			changes: "add signal", difference: "is missing"},
		{name: "not needed, and another's by now", have: ends{e("192.0.2.1", bak, 1)}, ours: ends{e("192.0.2.1", sub, 1)}, foreign: 1},
		{name: "not needed, and gone", ours: ends{e("192.0.2.1", sub, 1)}, foreign: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var wanted []want
			for _, w := range c.wanted {
				wanted = append(wanted, want{w, "p"})
			}
			owned, contested := map[key]ownedEndpoint{}, map[key]string{}
			for _, o := range c.ours {
				asked := o
				asked.ID = 0
				owned[keyOf(o)] = ownedEndpoint{requested: asked, stored: o, path: "p"}
			}
			if c.contested != "" {
				contested[keyOf(c.wanted[0])] = c.contested
			}
			p := makePlan(wanted, c.have, owned, contested, c.adopt)
			var did []string
			for _, ch := range p.changes {
				if ch.del != nil {
					did = append(did, "del "+string('0'+rune(ch.del.ID)))
				}
				if ch.set != nil {
					did = append(did, "set "+string('0'+rune(ch.set.ID))+" "+ch.set.Flags.String())
				} else if ch.add != nil {
					did = append(did, "add "+ch.add.Flags.String())
				}
			}
			if got := strings.Join(did, " "); got != c.changes {
				t.Errorf("changes %q, want %q", got, c.changes)
			}
			var diff string
			for _, s := range p.statuses {
				diff += s.Difference
			}
			if diff != c.difference || len(p.fresh) != c.fresh || len(p.foreign) != c.foreign {
				t.Errorf("difference %q fresh %v foreign %v", diff, p.fresh, p.foreign)
			}
		})
	}
}
