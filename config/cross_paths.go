package config

import (
	"net/netip"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
)

// paths reports contradictions between [mptcp] and the rest of the file.
func (l *loader) paths(c *Config, t tables) {
	n := t.root.get("mptcp")
	if c.MPTCP.Failover != paths.FailoverOff && c.MPTCP.Manage != paths.ManageSync && !n.unset("manage") {
		l.warn(n.get("failover").at, `closes subflows on a dead path, but without manage = "sync" none is opened again when the path returns`)
	}
	if len(c.MPTCP.Paths) > 0 && c.MPTCP.Manage == paths.ManageOff && !n.unset("manage") {
		l.warn(n.get("paths").item(0).at, `declares a path while manage is "off", so that it is only monitored; write manage = "sync" to use it, or "watch" to check its endpoints`)
	}
	if c.MPTCP.Manage == paths.ManageSync && len(c.MPTCP.Paths) == 0 {
		l.warn(n.get("manage").at, `is "sync", but no path is declared: there is nothing to keep in the kernel; add paths`)
	}
	l.pinned(c, t)
	if c.MPTCP.Enabled {
		return
	}
	for i, ln := range c.Listeners {
		if ln.MPTCP == mptcp.Require {
			l.fault(t.listeners[i].get("mptcp").at, `is "require" while mptcp.enabled is false: no connection would be accepted; change one of them`)
		}
	}
	for i, b := range c.Backends {
		for j, s := range b.Servers {
			if s.MPTCP != mptcp.Require {
				continue
			}
			n := t.backends[i].get("servers").list[j]
			if !n.written("mptcp") {
				n = t.backends[i]
			}
			l.fault(n.get("mptcp").at, `is "require" while mptcp.enabled is false: no connection would be made; change one of them`)
		}
	}
}

// pinned warns of backends and servers that are bound to a device or an address. Their connections
// use only that path, or, if other paths are declared, also paths that the binding excludes.
func (l *loader) pinned(c *Config, t tables) {
	for i := range c.Backends {
		b, n := &c.Backends[i], t.backends[i]
		if b.MPTCP != mptcp.Off {
			l.pinnedTo(&c.MPTCP, n, b.Interface, b.Source)
		}
		for j := range b.Servers {
			s, sn := &b.Servers[j], n.get("servers").list[j]
			if s.MPTCP == mptcp.Off { // unix sockets, too
				continue
			}
			device, source := s.Interface, s.Source
			if !sn.has("interface") {
				device = "" // the backend's
			}
			if !sn.has("source") {
				source = netip.Addr{}
			}
			l.pinnedTo(&c.MPTCP, sn, device, source)
		}
	}
}

func (l *loader) pinnedTo(m *MPTCP, n *node, device string, source netip.Addr) {
	if device == "" && !source.IsValid() {
		return
	}
	i, s := n.get("interface"), n.get("source")
	const instead = `write mptcp = "off" to use only this path`
	switch other := m.otherPath(device, netip.Addr{}); {
	case device == "":
	case other != "":
		l.warn(i.at, `binds only the first subflow of a connection to the device%s: manage = "sync" makes the kernel create another one on the path %q; `+instead, i.got(), other)
	default:
		l.warn(i.at, `binds every subflow of a connection to the device%s, so that no second path is used; leave it out or write mptcp = "off"`, i.got())
	}
	if source.IsValid() && device == "" {
		if other := m.otherPath("", source); other != "" {
			l.warn(s.at, `binds only the first subflow of a connection to the address%s: manage = "sync" makes the kernel create another one on the path %q; `+instead, s.got(), other)
		}
	}
}

// otherPath returns the name of a path for backends that is not the given device or address, "" if
// there is none. The addresses of an interface are not known here: one path that is an interface
// may have the address.
func (m *MPTCP) otherPath(device string, source netip.Addr) string {
	if !m.Enabled || m.Manage != paths.ManageSync || m.Limits.Subflows == 0 {
		return ""
	}
	own := false
	for _, p := range m.Paths {
		own = own || source.IsValid() && p.Address == source
	}
	for _, p := range m.Paths {
		switch {
		case p.Role == paths.ForListeners || p.Announce:
		case device != "":
			if p.Interface != "" && p.Interface != device {
				return p.Name
			}
		case p.Address == source:
		case p.Address.IsValid() || own:
			return p.Name
		default:
			own = true // this path may have the address; then no other has
		}
	}
	return ""
}
