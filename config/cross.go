package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mpgate/mptcp/paths"
)

// cross checks conditions that involve more than one table. The checks take places from the tree
// and values from c; the entries of both are in the same order.
func (l *loader) cross(c *Config, root *node) {
	t := tables{root: root, listeners: root.get("listener").entries(), routes: root.get("route").entries(), backends: root.get("backend").entries()}
	listeners := l.unique("listener", "listener", t.listeners)
	l.unique("route", "route", t.routes)
	backends := l.unique("backend", "backend", t.backends)

	l.references(c, t, listeners, backends)
	l.matches(c, t)
	l.overlaps(c, t)
	l.sni(c, t, listeners, backends)
	l.tcp(c, t, listeners, backends)
	l.balance(c, t, backends)
	l.retries(c, t, backends)
	l.paths(c, t)
	l.loops(c, t)
	l.unused(c, t, listeners)
	l.accel(c, t)
	l.http01(c, t)
	l.domains(c, t)
}

// tables are the root of the tree and the entries of its large arrays.
type tables struct {
	root                        *node
	listeners, routes, backends []*node
}

// names are the names of the entries of an array of tables.
type names struct {
	what, table string // what an entry is, and the name of the array
	// within are the tables in entries, such as [backend.app2], that look like entries of their
	// own.
	within map[string]bool
	at     map[string]int
	all    []string
	open   bool // the name of an entry is not known, because of a variable that is not set
}

// unique reports names that two entries have.
func (l *loader) unique(what, table string, entries []*node) names {
	n := names{what: what, table: table, at: make(map[string]int, len(entries)), within: map[string]bool{}}
	for i, e := range entries {
		for key, child := range e.keys {
			n.within[key] = n.within[key] || child.isTable()
		}
		name := e.get("name")
		s := name.text()
		n.open = n.open || name.at.unset
		if s == "" {
			continue
		}
		if j, ok := n.at[s]; ok {
			first := entries[j].get("name").at
			l.fault(name.at, "is the second %s named %q (the first: %s:%d); give one of them another name", what, s, first.file, first.line)
			continue
		}
		n.at[s] = i
		n.all = append(n.all, s)
	}
	return n
}

// missing reports a reference to an entry that does not exist: s, at a node.
func (n names) missing(l *loader, ref *node, s string) {
	if s == "" || n.open || n.within[s] {
		return
	}
	if _, ok := n.at[s]; ok {
		return
	}
	what := fmt.Sprintf("names no %s (got %q)", n.what, s)
	switch near := nearest(s, n.all); {
	case strings.ContainsAny(s, ":/") && n.table == "backend":
		l.fault(ref.at, "is an address (got %q); write the name of a [[backend]] whose servers have it", s)
	case near != "":
		l.fault(ref.at, "%s; did you mean %q?", what, near)
	case len(n.all) == 0:
		l.fault(ref.at, "%s; there is none: add a [[%s]]", what, n.table)
	case len(n.all) > 10:
		l.fault(ref.at, "%s; add a [[%s]] of that name", what, n.table)
	default:
		l.fault(ref.at, "%s; must be %s", what, orList(n.all))
	}
}

func (l *loader) references(c *Config, t tables, listeners, backends names) {
	for _, r := range t.routes {
		for _, name := range r.get("backend").sorted() {
			backends.missing(l, r.get("backend").keys[name], name)
		}
		if backend := r.get("mirror").keys["backend"]; backend != nil {
			backends.missing(l, backend, backend.text())
		}
		if files := r.keys["files"]; files != nil {
			fallback := files.get("fallback").get("backend")
			backends.missing(l, fallback, fallback.text())
		}
		if backend := r.get("forward_auth").keys["backend"]; backend != nil {
			backends.missing(l, backend, backend.text())
		}
		if listener := r.get("match").keys["listener"]; listener != nil {
			listeners.missing(l, listener, listener.text())
		}
	}
	faulty := slices.ContainsFunc(l.faults, func(f Fault) bool { return f.Key == "listener" })
	if len(t.listeners) == 0 && !faulty && c.MPTCP.Manage == paths.ManageOff && !t.root.get("mptcp").unset("manage") {
		l.fault(t.root.at, "the file has no listener; add a [[listener]]")
	}
}

// bound is an address that is listened on.
type bound struct {
	Address
	ip     netip.Addr // see hostIP
	device string
	owner  string
	at     *place
}

// overlaps reports addresses that cannot both be bound.
func (l *loader) overlaps(c *Config, t tables) {
	var all []bound
	if c.Admin.Written && !c.Admin.Off {
		all = append(all, bound{Address: c.Admin.Address, ip: hostIP(c.Admin.Address.Host), owner: "the admin address", at: t.root.get("admin").get("address").at})
	}
	fds := map[string]*place{}
	for i, ln := range c.Listeners {
		n := t.listeners[i]
		for j, a := range ln.Addresses {
			all = append(all, bound{Address: a, ip: hostIP(a.Host), device: ln.Interface, owner: "the listener " + quote(ln.Name), at: n.get("address").item(j).at})
		}
		if ln.Systemd == "" {
			continue
		}
		if first := fds[ln.Systemd]; first != nil {
			l.fault(n.get("systemd").at, "is already taken by another listener%s, at %s:%d; give each its own FileDescriptorName", n.get("systemd").got(), first.file, first.line)
			continue
		}
		fds[ln.Systemd] = n.get("systemd").at
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

// overlaps reports whether the kernel refuses the second of two addresses. why is a reason that is
// not obvious.
func (a bound) overlaps(b bound) (why string, hit bool) {
	if a.Address == (Address{}) || b.Address == (Address{}) {
		return "", false // invalid, or a port that the kernel chooses
	}
	if a.IsUnix() || b.IsUnix() {
		return "", a.Path == b.Path
	}
	if !a.has(b.Port) && !b.has(a.Port) || a.Port == 0 || a.device != "" && b.device != "" && a.device != b.device {
		return "", false
	}
	if a.Host == b.Host {
		return "", true
	}
	for _, all := range []string{a.Host, b.Host} {
		switch {
		case all == "":
			return ", because without a host all addresses are meant", true
		case all == "0.0.0.0" && a.ip.Is4() && b.ip.Is4():
			return ", because 0.0.0.0 means all IPv4 addresses", true
		case all == "::" && a.ip.Is6() && b.ip.Is6():
			return ", because [::] means all IPv6 addresses", true
		}
	}
	return "", false
}

// hostIP returns the IP address of a host, and an invalid one for a name. 0.0.0.0 is IPv4 only and
// :: is IPv6 only, so that both can be listed.
func hostIP(h string) netip.Addr {
	if h == "localhost" {
		h = "127.0.0.1"
	}
	return Address{Host: h}.IP()
}

// sni checks routes that pass TLS through.
func (l *loader) sni(c *Config, t tables, listeners, backends names) {
	for i, r := range c.Routes {
		if r.Match.SNI == "" {
			continue
		}
		n := t.routes[i]
		match := n.get("match")
		for _, name := range r.BackendNames() {
			if j, ok := backends.at[name]; ok && c.Backends[j].TLS != nil {
				l.fault(n.get("backend").keys[name].at, "uses TLS itself (got %q), but an sni route passes the client's own TLS through; name a backend without tls", name)
			}
		}
		if r.Match.SNI == AnySNI {
			l.sealed(c, r.Match.Listener, match.get("sni"))
		}
		if j, ok := listeners.at[r.Match.Listener]; ok {
			if why := noTLS(&c.Listeners[j]); why != "" {
				l.fault(match.get("listener").at, "names a listener that gets no TLS handshakes: it %s%s; name one that does", why, match.get("listener").got())
			}
		} else if r.Match.Listener == "" && len(c.Listeners) > 0 && !slices.ContainsFunc(c.Listeners, func(ln Listener) bool { return noTLS(&ln) == "" }) {
			l.fault(match.get("sni").at, "can never match%s: no listener gets TLS handshakes; add one", match.get("sni").got())
		}
	}
}

// sealed warns of a listener whose own TLS is never used, because every connection is passed
// through.
func (l *loader) sealed(c *Config, listener string, sni *node) {
	for i := range c.Listeners {
		if ln := &c.Listeners[i]; ln.TLS != nil && (listener == "" || listener == ln.Name) && ln.TakesTLS() {
			l.warn(sni.at, "is every TLS connection%s: the tls of the listener %q is never used; name the server names that are passed through", sni.got(), ln.Name)
		}
	}
}

// TakesTLS reports whether a listener accepts TLS handshakes: its own, and those of sni routes.
func (ln *Listener) TakesTLS() bool { return noTLS(ln) == "" }

// noTLS says why a listener accepts no TLS handshakes; "" if it does.
func noTLS(ln *Listener) string {
	switch {
	case ln.RedirectHTTPS:
		return "redirects to https"
	case ln.AcceptsTCP():
		return "accepts only tcp"
	case ln.TLS == nil && !ln.Accepts(H1):
		return "accepts only h2c"
	}
	return ""
}

// unused warns of entries that no request can reach.
func (l *loader) unused(c *Config, t tables, listeners names) {
	used := map[string]bool{}
	open := map[string]bool{} // listeners that a route names
	all := false              // whether a route is for all listeners
	for i, r := range c.Routes {
		if t.routes[i].unset("backend") || t.routes[i].get("mirror").unset("backend") || t.routes[i].get("match").unset("listener") {
			return // any entry may be used
		}
		for _, name := range r.BackendNames() {
			used[name] = true
		}
		if r.Mirror != nil {
			used[r.Mirror.Backend] = true
		}
		if r.ForwardAuth != nil {
			used[r.ForwardAuth.Backend] = true
		}
		open[r.Match.Listener] = true
		all = all || r.Match.Listener == ""
	}
	for i, b := range c.Backends {
		if b.Name != "" && !used[b.Name] {
			l.warn(t.backends[i].at, "is used by no route; add a [[route]] with backend = %s", quote(b.Name))
		}
	}
	for i, ln := range c.Listeners {
		if ln.Name != "" && !all && !open[ln.Name] && !ln.RedirectHTTPS && !ln.AcceptsTCP() {
			l.warn(t.listeners[i].at, "has no route: every request on it is answered with 404; add a [[route]]")
		}
	}
	for i, r := range c.Routes {
		if j, ok := listeners.at[r.Match.Listener]; ok && c.Listeners[j].RedirectHTTPS && r.Match.SNI == "" {
			n := t.routes[i].get("match").get("listener")
			l.warn(n.at, "names a listener that redirects every request to https%s: the route is never used", n.got())
		}
	}
}

// http01 warns if http-01 is the only challenge and no listener can answer it.
func (l *loader) http01(c *Config, t tables) {
	if slices.ContainsFunc(c.Listeners, func(ln Listener) bool { return ln.TLS == nil && ln.Accepts(H1) }) {
		return
	}
	warn := func(a *ACME, n *node) {
		if n.written("acme") && len(a.Challenges) == 1 && a.Challenges[0] == HTTP01 {
			l.warn(n.get("acme").get("challenges").at, `is only "http-01", which is answered on plain HTTP at port 80, and no listener accepts that; add one, or "tls-alpn-01"`)
		}
	}
	for i, ln := range c.Listeners {
		if ln.TLS == nil {
			continue
		}
		n := t.listeners[i].get("tls")
		warn(ln.TLS.ACME, n)
		for j, p := range n.get("policy").entries() {
			warn(ln.TLS.Policies[j].ACME, p)
		}
	}
}
