package config

import "net/netip"

// paths finds what [mptcp] and the rest of the file do not agree on.
func (l *loader) paths(c *Config, raw *rawConfig) {
	if c.MPTCP.Failover != FailoverOff && c.MPTCP.Failover != "" && c.MPTCP.Manage != ManageSync && c.MPTCP.Manage != "" {
		l.warn(raw.MPTCP.Failover.At, `ends subflows on a dead path, but without manage = "sync" none is made anew when the path returns`)
	}
	if len(raw.MPTCP.Paths) > 0 && c.MPTCP.Manage == ManageOff {
		l.warn(raw.MPTCP.Paths[0].At, `declares a path while manage is "off": nobody looks at it; write manage = "watch" or "sync"`)
	}
	if c.MPTCP.Manage == ManageSync && len(raw.MPTCP.Paths) == 0 {
		l.warn(raw.MPTCP.Manage.At, `is "sync", but no path is declared: there is nothing to keep in the kernel; add paths`)
	}
	l.pinned(c, raw)
	if c.MPTCP.Enabled {
		return
	}
	for i, ln := range c.Listeners {
		if ln.MPTCP == MPTCPRequire {
			l.fault(raw.Listeners[i].MPTCP.At, `is "require" while mptcp.enabled is false: no connection would be taken; change one of them`)
		}
	}
	for i, b := range c.Backends {
		for j, s := range b.Servers {
			if s.MPTCP != MPTCPRequire {
				continue
			}
			at := raw.Backends[i].Servers[j].MPTCP.At
			if !at.written {
				at = raw.Backends[i].MPTCP.At
			}
			l.fault(at, `is "require" while mptcp.enabled is false: no connection would be made; change one of them`)
		}
	}
}

// pinned warns of backends and servers that are bound to a device or an address: that leaves one path, or, where paths are
// declared that are not that one, less than it says.
func (l *loader) pinned(c *Config, raw *rawConfig) {
	for i := range c.Backends {
		b, r := &c.Backends[i], raw.Backends[i]
		if b.MPTCP != MPTCPOff {
			l.pinnedTo(&c.MPTCP, r.Interface, b.Interface, r.Source, b.Source)
		}
		for j := range b.Servers {
			s, rs := &b.Servers[j], r.Servers[j]
			if s.MPTCP == MPTCPOff { // unix sockets, too
				continue
			}
			device, source := s.Interface, s.Source
			if rs.Interface.V == "" {
				device = "" // the backend's
			}
			if rs.Source.V == "" {
				source = netip.Addr{}
			}
			l.pinnedTo(&c.MPTCP, rs.Interface, device, rs.Source, source)
		}
	}
}

func (l *loader) pinnedTo(m *MPTCP, i str, device string, s str, source netip.Addr) {
	const instead = `write mptcp = "off" to keep to it`
	switch other := m.otherPath(device, netip.Addr{}); {
	case device == "":
	case other != "":
		l.warn(i.At, `binds only the first subflow of a connection to the device%s: manage = "sync" has the kernel make another on path %q; `+instead, i.got(), other)
	default:
		l.warn(i.At, `binds every subflow of a connection to the device%s, so that no second path is used; leave it out or write mptcp = "off"`, i.got())
	}
	if source.IsValid() && device == "" {
		if other := m.otherPath("", source); other != "" {
			l.warn(s.At, `is where only the first subflow of a connection starts%s: manage = "sync" has the kernel make another on path %q; `+instead, s.got(), other)
		}
	}
}

// otherPath names a path for backends that is not that device, or not that address, "" where there is none. Which
// addresses an interface has is not known here: one path that is an interface may have the address.
func (m *MPTCP) otherPath(device string, source netip.Addr) string {
	if !m.Enabled || m.Manage != ManageSync || m.Limits.Subflows == 0 {
		return ""
	}
	own := false
	for _, p := range m.Paths {
		own = own || source.IsValid() && p.Address == source
	}
	for _, p := range m.Paths {
		switch {
		case p.Role == RoleListener || p.Announce:
		case device != "":
			if p.Interface != "" && p.Interface != device {
				return p.Name
			}
		case p.Address == source:
		case p.Address.IsValid() || own:
			return p.Name
		default:
			own = true // it may be this one, and then no further one is
		}
	}
	return ""
}
