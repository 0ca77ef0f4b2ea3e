package config

import (
	"net/netip"
	"slices"
)

// cross checks what needs more than one table. Its rules look at raw for places and at c for values; both have the same order.
func (l *loader) cross(c *Config, raw *rawConfig) {
	listeners := unique(l, "listener", raw.Listeners, func(r *rawListener) str { return r.Name })
	unique(l, "route", raw.Routes, func(r *rawRoute) str { return r.Name })
	backends := unique(l, "backend", raw.Backends, func(r *rawBackend) str { return r.Name })

	l.references(c, raw, listeners, backends)
	l.ties(c, raw)
	l.overlaps(c, raw)
	l.sni(c, raw, listeners, backends)
	l.paths(c, raw)
	l.loops(c, raw)
	l.unused(c, raw, listeners)
	l.http01(c, raw)
}

// names are the entries of an array of tables.
type names struct {
	at   map[string]int
	all  []string
	open bool // an entry's name has a variable that is not set: it may be any
}

// unique faults names that stand twice.
func unique[R any](l *loader, what string, rs []R, name func(R) str) names {
	n := names{at: map[string]int{}}
	for i, r := range rs {
		s := name(r)
		if s.At.unset {
			n.open = true
		}
		if s.V == "" {
			continue
		}
		if j, ok := n.at[s.V]; ok {
			first := name(rs[j]).At
			l.fault(s.At, "is the second %s of the name %q (the first: %s:%d); give one of them another name", what, s.V, first.file, first.line)
			continue
		}
		n.at[s.V] = i
		n.all = append(n.all, s.V)
	}
	return n
}

// missing faults a reference to an entry that does not exist.
func (n names) missing(l *loader, s str, what string) {
	if s.V == "" || n.open {
		return
	}
	if _, ok := n.at[s.V]; ok {
		return
	}
	switch near := nearest(s.V, n.all); {
	case near != "":
		l.fault(s.At, "names no %s%s; did you mean %q?", what, s.got(), near)
	case len(n.all) == 0:
		l.fault(s.At, "names no %s%s; there is none: add a [[%s]]", what, s.got(), what)
	case len(n.all) > 10:
		l.fault(s.At, "names no %s%s; add a [[%s]] of that name", what, s.got(), what)
	default:
		l.fault(s.At, "names no %s%s; must be %s", what, s.got(), orList(n.all))
	}
}

func (l *loader) references(c *Config, raw *rawConfig, listeners, backends names) {
	for _, r := range raw.Routes {
		backends.missing(l, r.Backend, "backend")
		listeners.missing(l, r.Match.Listener, "listener")
	}
	faulty := slices.ContainsFunc(l.faults, func(f Fault) bool { return f.Key == "listener" })
	if len(raw.Listeners) == 0 && !faulty && c.MPTCP.Manage == ManageOff {
		l.fault(raw.At, "the file has no listener; add a [[listener]]")
	}
}

// ties faults routes that match the very same requests: which of them should win nothing says.
func (l *loader) ties(c *Config, raw *rawConfig) {
	seen := map[Match]int{}
	for i, r := range c.Routes {
		rr := raw.Routes[i]
		m := r.Match // "/*" is not the same as no path: OPTIONS * has none
		if m.Path == "" && rr.Match.Path.V != "" || m.Host == "" && rr.Match.Host.V != "" || m.SNI == "" && rr.Match.SNI.V != "" {
			continue // it was faulty, which has been said
		}
		if rr.Match.Host.At.unset || rr.Match.Path.At.unset || rr.Match.Listener.At.unset || rr.Match.SNI.At.unset {
			continue
		}
		j, ok := seen[m]
		if !ok {
			seen[m] = i
			continue
		}
		first := raw.Routes[j]
		l.fault(rr.Match.At, "is the same as that of the route %q (%s:%d): neither is more specific; change one of them", c.Routes[j].Name, first.Match.At.file, first.Match.At.line)
	}
}

// bound is an address that something listens at.
type bound struct {
	Address
	ip     netip.Addr // see hostIP
	device string
	owner  string
	at     *place
}

// overlaps faults addresses that cannot be bound both.
func (l *loader) overlaps(c *Config, raw *rawConfig) {
	var all []bound
	if c.Admin.Written && !c.Admin.Off {
		all = append(all, bound{Address: c.Admin.Address, ip: hostIP(c.Admin.Address.Host), owner: "the admin address", at: raw.Admin.Address.At})
	}
	fds := map[string]*place{}
	for i, ln := range c.Listeners {
		r := raw.Listeners[i]
		for j, a := range ln.Addresses {
			all = append(all, bound{Address: a, ip: hostIP(a.Host), device: ln.Interface, owner: "the listener " + quote(ln.Name), at: r.Address.V[j].At})
		}
		if ln.Systemd == "" {
			continue
		}
		if first := fds[ln.Systemd]; first != nil {
			l.fault(r.Systemd.At, "is taken by another listener already%s, at %s:%d; give each its own FileDescriptorName", r.Systemd.got(), first.file, first.line)
			continue
		}
		fds[ln.Systemd] = r.Systemd.At
	}
	for i, b := range all {
		for _, a := range all[:i] {
			why, hit := a.overlaps(b)
			if hit {
				l.fault(b.at, "overlaps with %q of %s at %s:%d%s (got %q); change one of them", a.String(), a.owner, a.at.file, a.at.line, why, b.String())
				break
			}
		}
	}
}

// overlaps reports whether the kernel refuses the second of two addresses, and why when that is not plain to see.
func (a bound) overlaps(b bound) (why string, hit bool) {
	if a.Address == (Address{}) || b.Address == (Address{}) {
		return "", false // faulty, or a port of the kernel's choice
	}
	if a.IsUnix() || b.IsUnix() {
		return "", a.Path == b.Path
	}
	if a.Port != b.Port || a.Port == 0 || a.device != "" && b.device != "" && a.device != b.device {
		return "", false
	}
	if a.Host == b.Host {
		return "", true
	}
	for _, all := range []string{a.Host, b.Host} {
		switch {
		case all == "":
			return ", for without a host all addresses are meant", true
		case all == "0.0.0.0" && a.ip.Is4() && b.ip.Is4():
			return ", for 0.0.0.0 means all IPv4 addresses", true
		case all == "::" && a.ip.Is6() && b.ip.Is6():
			return ", for [::] means all IPv6 addresses", true
		}
	}
	return "", false
}

// hostIP is the address that a host stands for, not valid for a name. 0.0.0.0 is for IPv4 only and :: for IPv6 only, so that both can be listed.
func hostIP(h string) netip.Addr {
	if h == "localhost" {
		h = "127.0.0.1"
	}
	return Address{Host: h}.IP()
}

// sni checks routes that pass TLS on unopened.
func (l *loader) sni(c *Config, raw *rawConfig, listeners, backends names) {
	for i, r := range c.Routes {
		if r.Match.SNI == "" {
			continue
		}
		rr := raw.Routes[i]
		if j, ok := backends.at[r.Backend]; ok && c.Backends[j].TLS != nil {
			l.fault(rr.Backend.At, "speaks TLS itself%s, but an sni route passes the client's own TLS on unopened; name a backend without tls", rr.Backend.got())
		}
		if j, ok := listeners.at[r.Match.Listener]; ok {
			if why := noTLS(&c.Listeners[j]); why != "" {
				l.fault(rr.Match.Listener.At, "names a listener that gets no TLS handshakes: it %s%s; name one that does", why, rr.Match.Listener.got())
			}
		} else if r.Match.Listener == "" && len(c.Listeners) > 0 && !slices.ContainsFunc(c.Listeners, func(ln Listener) bool { return noTLS(&ln) == "" }) {
			l.fault(rr.Match.SNI.At, "can never match%s: no listener gets TLS handshakes; add one", rr.Match.SNI.got())
		}
	}
}

// TakesTLS says whether TLS handshakes are looked for on a listener: those that it answers, and those of sni routes.
func (ln *Listener) TakesTLS() bool { return noTLS(ln) == "" }

// noTLS says why no TLS handshake is looked for on a listener.
func noTLS(ln *Listener) string {
	switch {
	case ln.RedirectHTTPS:
		return "redirects to https"
	case ln.TLS == nil && !ln.Speaks(H1):
		return "speaks h2c only"
	}
	return ""
}

// unused warns of what no request can reach.
func (l *loader) unused(c *Config, raw *rawConfig, listeners names) {
	used := map[string]bool{}
	open := map[string]bool{} // listeners that a route names
	all := false              // a route is for all listeners
	for i, r := range c.Routes {
		if raw.Routes[i].Backend.At.unset || raw.Routes[i].Match.Listener.At.unset {
			return // it may be any
		}
		used[r.Backend] = true
		open[r.Match.Listener] = true
		all = all || r.Match.Listener == ""
	}
	for i, b := range c.Backends {
		if b.Name != "" && !used[b.Name] {
			l.warn(raw.Backends[i].At, "is used by no route; add a [[route]] with backend = %s", quote(b.Name))
		}
	}
	for i, ln := range c.Listeners {
		if ln.Name != "" && !all && !open[ln.Name] && !ln.RedirectHTTPS {
			l.warn(raw.Listeners[i].At, "has no route: every request on it is answered with 404; add a [[route]]")
		}
	}
	for i, r := range c.Routes {
		if j, ok := listeners.at[r.Match.Listener]; ok && c.Listeners[j].RedirectHTTPS && r.Match.SNI == "" {
			l.warn(raw.Routes[i].Match.Listener.At, "names a listener that redirects all to https%s: the route is never asked", raw.Routes[i].Match.Listener.got())
		}
	}
}

// http01 warns when the CA would ask where nobody answers.
func (l *loader) http01(c *Config, raw *rawConfig) {
	if slices.ContainsFunc(c.Listeners, func(ln Listener) bool { return ln.TLS == nil && ln.Speaks(H1) }) {
		return
	}
	warn := func(a *ACME, r *rawACME) {
		if a != nil && r != nil && len(a.Challenges) == 1 && a.Challenges[0] == HTTP01 {
			l.warn(r.Challenges.At, `is "http-01" alone, which is answered on plain HTTP at port 80, and no listener speaks that; add one, or "tls-alpn-01"`)
		}
	}
	for i, ln := range c.Listeners {
		if ln.TLS == nil {
			continue
		}
		r := raw.Listeners[i].TLS
		warn(ln.TLS.ACME, r.ACME)
		for j := range ln.TLS.Policies {
			warn(ln.TLS.Policies[j].ACME, r.Policies[j].ACME)
		}
	}
}
