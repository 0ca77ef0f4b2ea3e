package config

import "slices"

// loops warns of servers that are listeners of the same file, if the route that leads there matches
// again: mpgate forwards the host and path that it matched, so the request would return. Loops over
// names and other addresses are detected at run time.
func (l *loader) loops(c *Config, t tables) {
	// Indexed by port and path, which both addresses have in common: a file may have many of each.
	at := map[Address][]*Listener{}
	for i := range c.Listeners {
		for _, a := range c.Listeners[i].Addresses {
			if a == (Address{}) {
				continue // it is not valid
			}
			for _, one := range a.Each() {
				key := Address{Port: one.Port, Path: one.Path}
				at[key] = append(at[key], &c.Listeners[i])
			}
		}
	}
	for i, b := range c.Backends {
		for j, s := range b.Servers {
			if s.SRV != "" {
				continue
			}
			for _, ln := range at[Address{Port: s.Address.Port, Path: s.Address.Path}] {
				if !ln.at(s.Address) {
					continue
				}
				if r := c.returns(&b, ln); r != nil {
					address := t.backends[i].get("servers").list[j].get("address")
					what := "a request that returns is answered with 508"
					if ln.AcceptsTCP() || r.Match.SNI != "" {
						what = "a connection that returns is closed"
					}
					l.warn(address.at, "is an address of the listener %q%s, where the route %q leads back to it: %s; name another server, or give that listener routes of its own",
						ln.Name, address.got(), r.Name, what)
					break
				}
			}
		}
	}
}

// at reports whether a connection to a reaches the listener, as far as the file tells.
func (ln *Listener) at(a Address) bool {
	for _, own := range ln.Addresses {
		switch {
		case own.IsUnix() || a.IsUnix():
			if own == a {
				return true
			}
		case !own.has(a.Port):
		case own.Host == a.Host:
			return true
		default:
			ip := a.IP()
			local := a.Host == "localhost" || ip.IsLoopback()
			if local && (own.Host == "" || own.Host == "::" || own.Host == "0.0.0.0" && !ip.Is6()) {
				return true
			}
		}
	}
	return false
}

// returns finds a route to b that also matches requests that b sends to ln. It is nil if there is
// none, or if ln has routes of its own.
func (c *Config) returns(b *Backend, ln *Listener) *Route {
	var found *Route
	for i := range c.Routes {
		r := &c.Routes[i]
		sni := r.Match.SNI != ""
		leads := slices.Contains(r.BackendNames(), b.Name)
		switch {
		case !leads:
			if r.Match.Listener == ln.Name {
				return nil
			}
		case r.Match.Listener != "" && r.Match.Listener != ln.Name:
		case ln.AcceptsTCP() && r.Match.Listener == "": // not a route of it
		case !ln.AcceptsTCP() && (sni && !ln.TakesTLS() || !sni && (ln.RedirectHTTPS || ln.TLS != nil && b.TLS == nil)):
		case found == nil:
			found = r
		}
	}
	return found
}
