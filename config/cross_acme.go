package config

import (
	"fmt"
	"slices"
	"strings"

	"mpgate/proxy/route"
)

// domains warns of names that certificates are obtained for, and that no route answers for: the
// www. of a site, most often.
func (l *loader) domains(c *Config, t tables) {
	for i := range c.Listeners {
		ln := &c.Listeners[i]
		if ln.TLS == nil || ln.AcceptsTCP() {
			continue
		}
		answers, ok := c.hosts(t, ln.Name)
		if !ok {
			continue
		}
		warn := func(a *ACME, n *node) {
			names := n.get("acme").get("domains").list
			if names == nil {
				names = n.get("hosts").list // their default
			}
			for j, name := range names {
				if a == nil || j >= len(a.Domains) || answers(a.Domains[j]) {
					continue
				}
				right := "add it to match.host of a route"
				if site, isWWW := strings.CutPrefix(a.Domains[j], "www."); isWWW && answers(site) {
					right = fmt.Sprintf("write match = { host = [ %s, %s ] } in a route", quote(site), quote(a.Domains[j]))
				}
				l.warn(name.at, "gets a certificate, and no route is for it%s: its requests are answered with 404; %s", name.got(), right)
			}
		}
		n := t.listeners[i].get("tls")
		warn(ln.TLS.ACME, n)
		for j, p := range n.get("policy").entries() {
			if p.written("acme") {
				warn(ln.TLS.Policies[j].ACME, p)
			}
		}
	}
}

// hosts returns a function that reports whether a route at a listener is for a host, or for some
// names of a wildcard. It is not ok if that is not known.
func (c *Config) hosts(t tables, listener string) (answers func(name string) bool, ok bool) {
	var rules []route.Rule[struct{}]
	var all []string
	for i := range c.Routes {
		m := &c.Routes[i].Match
		if match := t.routes[i].get("match"); match.at.unset || match.unset("host", "listener", "sni") {
			return nil, false
		}
		if m.Listener != "" && m.Listener != listener {
			continue
		}
		hosts := m.Hosts
		if m.SNI != "" && m.SNI != AnySNI {
			hosts = []string{m.SNI}
		}
		if len(hosts) == 0 {
			return nil, false // it is for all
		}
		for _, host := range hosts {
			if host != "" && !slices.Contains(all, host) {
				all = append(all, host)
				rules = append(rules, route.Rule[struct{}]{Name: host, Match: route.Match{Hosts: []string{host}}})
			}
		}
	}
	table, err := route.Build(rules)
	if err != nil {
		return nil, false
	}
	return func(name string) bool {
		if suffix, isWildcard := strings.CutPrefix(name, "*"); isWildcard {
			return slices.ContainsFunc(all, func(host string) bool { return strings.HasSuffix(host, suffix) })
		}
		_, found := table.MatchHost([]byte(name), listener)
		return found
	}, true
}
