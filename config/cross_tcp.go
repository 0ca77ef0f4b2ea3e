package config

import (
	"reflect"
	"slices"
)

// AcceptsTCP reports whether the listener forwards the bytes of its connections unparsed.
func (ln *Listener) AcceptsTCP() bool { return ln.Accepts(TCP) }

// httpOnly are the keys of a listener that are for HTTP only, and why.
var httpOnly = []struct{ key, why string }{
	{"trusted_proxies", "there are no header fields to trust"},
	{"redirect_https", "there are no requests to redirect"},
	{"health_path", "there are no requests to answer"},
}

// checkTCP reports the keys of a listener that have no effect without HTTP.
func (l *loader) checkTCP(ln *Listener, n *node) {
	if !ln.AcceptsTCP() {
		return
	}
	for _, o := range httpOnly {
		if changes(ln, o.key) {
			l.fault(n.get(o.key).at, `is for HTTP, and protocols is "tcp": %s; leave it out`, o.why)
		}
	}
	if ln.TLS == nil {
		return
	}
	l.checkTCPPolicy(&ln.TLS.TLSPolicy, n.get("tls"))
	for i, policy := range n.get("tls").get("policy").entries() {
		l.checkTCPPolicy(&ln.TLS.Policies[i], policy)
	}
}

func (l *loader) checkTCPPolicy(p *TLSPolicy, n *node) {
	for _, key := range []string{"hsts", "client_headers"} {
		if n.written(key) && changes(p, key) {
			l.fault(n.get(key).at, `is for HTTP, and protocols of the listener is "tcp": no header field is sent; leave it out`)
		}
	}
}

// tcp checks that a listener whose bytes are forwarded unparsed has one route, which only names a
// backend.
func (l *loader) tcp(c *Config, t tables, listeners, backends names) {
	routes := map[int][]int{} // by listener
	for i, r := range c.Routes {
		if j, ok := listeners.at[r.Match.Listener]; ok && c.Listeners[j].AcceptsTCP() {
			routes[j] = append(routes[j], i)
			l.checkTCPRoute(c, &r, t.routes[i], backends)
		}
	}
	for j := range c.Listeners {
		ln, n := &c.Listeners[j], t.listeners[j]
		switch own := routes[j]; {
		case !ln.AcceptsTCP() || ln.Name == "":
		case len(own) == 0 && !l.mayMatch(t, ln.Name):
			l.fault(n.at, `has no route, and protocols is "tcp"; add a [[route]] with match = { listener = %s } and a backend`, quote(ln.Name))
		case len(own) > 1:
			first := t.routes[own[0]].at
			for _, i := range own[1:] {
				l.fault(t.routes[i].get("match").get("listener").at, `names a listener of protocol "tcp", which has a route already: %q (%s:%d); leave one of the two, their connections cannot be told apart`,
					c.Routes[own[0]].Name, first.file, first.line)
			}
		}
	}
}

// mayMatch reports whether a route may name a listener, as far as unset variables leave it open.
func (l *loader) mayMatch(t tables, listener string) bool {
	return slices.ContainsFunc(t.routes, func(r *node) bool {
		match := r.get("match")
		return match.at.unset || match.unset("listener") || match.get("listener").text() == listener
	})
}

// changes reports whether a key of a table has another value than its default.
func changes(table any, name string) bool {
	v := reflect.ValueOf(table).Elem()
	ks := keys[v.Type()]
	i := slices.IndexFunc(ks, func(k key) bool { return k.name == name })
	if i < 0 {
		return false // unknown, which is a fault of its own
	}
	value, def := ks[i].in(v), reflect.New(ks[i].in(v).Type()).Elem()
	ks[i].setDefault(def)
	isList := value.Kind() == reflect.Slice || value.Kind() == reflect.Map
	return !reflect.DeepEqual(value.Interface(), def.Interface()) && (!isList || value.Len() > 0)
}

// TCPListeners are the names of the listeners that forward the bytes of their connections unparsed.
// A route that names one of them takes its connections, and no requests.
func (c *Config) TCPListeners() map[string]bool {
	all := map[string]bool{}
	for i := range c.Listeners {
		if c.Listeners[i].AcceptsTCP() {
			all[c.Listeners[i].Name] = true
		}
	}
	return all
}

func (l *loader) checkTCPRoute(c *Config, r *Route, n *node, backends names) {
	const why = `is for HTTP, and the route is for a listener of protocol "tcp", whose bytes are forwarded unparsed; leave it out`
	for _, key := range n.sorted() {
		if key != "name" && key != "match" && key != "backend" && changes(r, key) {
			l.fault(n.get(key).at, "%s", why)
		}
	}
	match := n.get("match")
	for _, key := range match.sorted() {
		// The method sni reports a server name.
		if key != "listener" && key != "sni" && changes(&r.Match, key) {
			l.fault(match.get(key).at, "%s", why)
		}
	}
	for _, name := range r.BackendNames() {
		if j, ok := backends.at[name]; ok && c.Backends[j].TLS != nil {
			l.fault(n.get("backend").keys[name].at,
				`uses TLS to its servers (got %q), but bytes are forwarded to them as they are; name a backend without tls`, name)
		}
	}
}
