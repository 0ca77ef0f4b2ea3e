package paths

import "net/netip"

// clearContested is what rtnetlink says of the namespace.
type host struct {
	links []link
	addrs []address
}

type link struct {
	index    int
	name     string
	admin    bool // set up by the administrator
	carrier  bool // and able to carry
	loopback bool
}

type address struct {
	addr  netip.Addr
	index int  // of its link
	ready bool // not tentative, and not a duplicate
	// chosen: a path declared by interface uses it (global scope, not temporary, not deprecated).
	chosen bool
}

func (h *host) link(name string) *link {
	for i := range h.links {
		if h.links[i].name == name {
			return &h.links[i]
		}
	}
	return nil
}

func (h *host) linkOf(index int) *link {
	for i := range h.links {
		if h.links[i].index == index {
			return &h.links[i]
		}
	}
	return nil
}

// why a link does not carry; "" if it does.
func (l *link) why() string {
	switch {
	case !l.admin:
		return "interface " + l.name + " is down"
	case !l.carrier:
		return "interface " + l.name + " has no carrier"
	}
	return ""
}
