package doctor

import (
	"fmt"
	"net"
	"net/netip"

	"mpgate/mptcp/paths"
)

// anywhere stands for a distant client: an address of TEST-NET-3 and one of the
// documentation prefix go where the default route goes.
var anywhere = []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:ffff::1")}

// routes checks that packets from a path's address leave by the path's interface, and that packets
// arriving there are not dropped.
func (e *examination) routes() {
	const check = "routes"
	if len(e.Paths.Paths) == 0 {
		return
	}
	s, err := paths.Look(paths.Options{Manage: paths.ManageOff, Paths: e.Paths.Paths})
	if err != nil {
		e.add(Warning, check, "", "cannot query routes: "+err.Error(), "run mpgate doctor where rtnetlink is allowed")
		return
	}
	for _, p := range s.Paths {
		if p.State != paths.Up || p.Interface == "" {
			continue
		}
		before := len(e.findings)
		if len(s.Paths) > 1 {
			e.filter(&p)
		}
		dev, err := net.InterfaceByName(p.Interface)
		if err != nil {
			continue
		}
		for i, a := range p.Addresses {
			e.source(&p, a, dev, i)
		}
		if len(e.findings) == before {
			e.add(OK, check, p.Name, "packets from its addresses leave by "+p.Interface, "")
		}
	}
}

// filter checks rp_filter: in strict mode packets are dropped that arrive by another interface than
// the route back.
func (e *examination) filter(p *paths.PathStatus) {
	if p.Addresses[0].Is6() && len(p.Addresses) == 1 {
		return
	}
	all, own := sysctl("net.ipv4.conf.all.rp_filter"), sysctl("net/ipv4/conf/"+p.Interface+"/rp_filter")
	if max(all, own) == "1" {
		e.add(Warning, "routes", p.Name, fmt.Sprintf("rp_filter is strict on %s: subflows that arrive there for another address are dropped", p.Interface),
			"sysctl -w net.ipv4.conf."+p.Interface+".rp_filter=2")
	}
}

func (e *examination) source(p *paths.PathStatus, a netip.Addr, dev *net.Interface, n int) {
	targets := make([]netip.Addr, 0, 8)
	for _, s := range e.Servers {
		if p.Role != paths.ForListeners && s.Address.IsValid() && !s.Address.Addr().IsLoopback() {
			targets = append(targets, s.Address.Addr())
		}
	}
	if p.Role != paths.ForBackends {
		targets = append(targets, anywhere...)
	}
	for _, to := range targets {
		if to.Is4() != a.Is4() {
			continue
		}
		index, err := paths.RouteDevice(a, to)
		if err != nil || index == dev.Index {
			continue
		}
		what := fmt.Sprintf("packets from %s to %s leave by %s, not by %s", a, to, deviceName(index), dev.Name)
		if index == 0 {
			if isAnywhere(to) && !e.hasDefault(a) {
				continue // a host without a default route has no clients there
			}
			what = fmt.Sprintf("packets from %s to %s leave by no interface", a, to)
		}
		table := 100 + dev.Index
		family, full := "ip", "32"
		if a.Is6() {
			family, full = "ip -6", "128"
		}
		e.add(Warning, "routes", p.Name, what, fmt.Sprintf("%s route add default via GATEWAY dev %s table %d; %s rule add from %s/%s table %d",
			family, dev.Name, table, family, a, full, table))
		return
	}
}

func isAnywhere(a netip.Addr) bool { return a == anywhere[0] || a == anywhere[1] }

// hasDefault reports whether there is a default route.
func (e *examination) hasDefault(a netip.Addr) bool {
	to, from := anywhere[1], netip.IPv6Unspecified()
	if a.Is4() {
		to, from = anywhere[0], netip.IPv4Unspecified()
	}
	index, err := paths.RouteDevice(from, to)
	return err == nil && index != 0
}

func deviceName(index int) string {
	if index == 0 {
		return ""
	}
	dev, err := net.InterfaceByIndex(index)
	if err != nil {
		return ""
	}
	return dev.Name
}

// addressesOf returns the addresses of a path on this host.
func addressesOf(p *paths.Path) []netip.Addr {
	if p.Address.IsValid() {
		return []netip.Addr{p.Address}
	}
	s, err := paths.Look(paths.Options{Paths: []paths.Path{*p}})
	if err != nil || len(s.Paths) == 0 {
		return nil
	}
	return s.Paths[0].Addresses
}
