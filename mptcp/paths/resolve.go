package paths

import (
	"fmt"
	"net/netip"

	"mpgate/mptcp"
)

// resolved is a path with its present addresses on the host.
type resolved struct {
	Path
	declared bool
	device   string
	index    int
	addrs    []netip.Addr
	why      string // "" when it is up
}

func (r *resolved) up() bool { return r.why == "" }

// resolve finds the addresses of the declared paths. With none declared and implied
// set, every interface with an address is a path.
func resolve(declared []Path, h *host, implied bool) []resolved {
	var out []resolved
	for _, p := range declared {
		r := resolved{Path: p, declared: true}
		if p.Address.IsValid() {
			r.byAddress(h)
		} else {
			r.byInterface(h)
		}
		out = append(out, r)
	}
	if len(declared) > 0 || !implied {
		return out
	}
	for _, l := range h.links {
		r := resolved{Path: Path{Name: l.name, Interface: l.name}}
		if r.byInterface(h); !l.loopback && len(r.addrs) > 0 {
			out = append(out, r)
		}
	}
	return out
}

func (r *resolved) byInterface(h *host) {
	r.device = r.Interface
	l := h.link(r.Interface)
	if l == nil {
		r.why = "there is no interface " + r.Interface
		return
	}
	r.index = l.index
	for _, a := range h.addrs {
		if a.index == l.index && a.chosen && a.ready {
			r.addrs = append(r.addrs, a.addr)
		}
	}
	if r.why = l.why(); r.why == "" && len(r.addrs) == 0 {
		r.why = "interface " + r.Interface + " has no address of global scope"
	}
}

func (r *resolved) byAddress(h *host) {
	r.device = r.Interface
	for _, a := range h.addrs {
		l := h.linkOf(a.index)
		if a.addr != r.Address || !a.ready || l == nil || r.Interface != "" && l.name != r.Interface {
			continue
		}
		r.device, r.index, r.addrs, r.why = l.name, l.index, []netip.Addr{a.addr}, l.why()
		return
	}
	switch {
	case r.Announce && r.Interface == "" && r.Port != 0:
		// The kernel opens a listening socket for a port.
		r.why = fmt.Sprintf("no interface has the address %s, and it can be announced with a port only if one has", r.Address)
	case r.Announce && r.Interface == "":
		r.addrs = []netip.Addr{r.Address} // translated on the way
	case r.Interface == "":
		r.why = fmt.Sprintf("no interface has the address %s", r.Address)
	default:
		r.why = fmt.Sprintf("interface %s has no address %s", r.Interface, r.Address)
	}
}

// endpoints are those that the path needs in the kernel.
func (r *resolved) endpoints(fullmesh bool) []mptcp.Endpoint {
	var common mptcp.EndpointFlags
	if r.Backup {
		common = mptcp.FlagBackup
	}
	signal, subflow := common|mptcp.FlagSignal, common|mptcp.FlagSubflow
	var out []mptcp.Endpoint
	for _, a := range r.addrs {
		announced := r.Role != ForBackends
		dialled := r.Role != ForListeners && !r.Announce
		switch {
		case announced && dialled && r.Port == 0:
			// The kernel refuses fullmesh beside signal.
			out = append(out, mptcp.Endpoint{Addr: a, Flags: signal | subflow, Interface: r.index})
			continue
		case announced:
			out = append(out, mptcp.Endpoint{Addr: a, Flags: signal, Port: r.Port, Interface: r.index})
		}
		if dialled {
			e := mptcp.Endpoint{Addr: a, Flags: subflow, Interface: r.index}
			if fullmesh {
				e.Flags |= mptcp.FlagFullmesh
			}
			out = append(out, e)
		}
	}
	return out
}
