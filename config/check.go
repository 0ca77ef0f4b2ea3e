package config

import (
	"strings"

	"mpgate/mptcp/paths"
)

// checkTables sets defaults that depend on other keys, and reports keys of a table that are valid
// alone but not together.
func (l *loader) checkTables(c *Config, root *node) {
	c.Include, c.Filters, c.Defaults = nil, nil, Defaults{}
	for i := range c.Routes {
		c.Routes[i].Use = nil
	}
	if c.StateDir == "" {
		c.StateDir = l.user.stateDir()
	}
	l.checkLog(&c.Log, root.get("log"))
	l.checkAdmin(&c.Admin, root.get("admin").get("address"))
	l.checkMPTCP(&c.MPTCP, root.get("mptcp"))
	for i, n := range root.get("listener").entries() {
		l.checkListener(&c.Listeners[i], n)
	}
	for i, n := range root.get("route").entries() {
		l.checkMatch(&c.Routes[i].Match, n.get("match"))
		l.checkRoute(&c.Routes[i], n)
	}
	for i, n := range root.get("backend").entries() {
		l.checkBackend(&c.Backends[i], n)
	}
}

func (l *loader) checkAdmin(a *Admin, n *node) {
	a.Written = n.at.written
	a.Off = n.text() == "off"
	if !a.Written {
		n.leaf = l.user.adminAddress()
		var problem string
		if a.Address, problem = listened(n.text(), n.at.dir); problem != "" {
			l.wrong(n, problem)
		}
	}
}

func (l *loader) checkMPTCP(m *MPTCP, n *node) {
	entries := n.get("paths").entries()
	names := map[string]*place{}
	for i, pn := range entries {
		p := &m.Paths[i]
		l.checkPath(p, pn)
		at := pn.at
		if name := pn.keys["name"]; name != nil {
			at = name.at
		}
		if first := names[p.Name]; first != nil && p.Name != "" {
			l.fault(at, "is the second path named %q (the first: %s:%d); give one of them another name", p.Name, first.file, first.line)
		} else {
			names[p.Name] = at
		}
	}
	if len(entries) > 8 {
		l.fault(entries[8].at, "is path 9 of %d; the kernel takes at most 8", len(entries))
	}
}

func (l *loader) checkPath(p *Path, n *node) {
	switch {
	case p.Name != "":
	case p.Interface != "":
		p.Name = p.Interface
	case p.Address.IsValid():
		p.Name = p.Address.String()
	}
	if !n.has("interface") && !n.has("address") && !n.unset("interface", "address") {
		l.fault(n.at, `has neither interface nor address; name the one that the path uses, for example { interface = "eth0" }`)
	}
	if a := p.Address; a.IsValid() && (a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast()) {
		l.wrong(n.get("address"), "is not an address that other hosts can reach; must be one of global scope")
	}
	if p.Role == paths.ForBackends {
		if p.Announce {
			l.fault(n.get("announce").at, `needs a role with listeners (the role is "backend"): only clients are told of addresses; leave one of the two out`)
		}
		if p.Port != 0 {
			l.fault(n.get("port").at, `needs a role with listeners (the role is "backend"): only an announced address has a port; leave one of the two out`)
		}
	}
}

func (l *loader) checkMatch(m *Match, n *node) {
	for i, p := range m.Paths {
		if body, ok := strings.CutSuffix(p, "*"); ok && !strings.Contains(body, "*") && !strings.HasSuffix(body, "/") {
			item := n.get("path").item(i)
			l.warn(item.at, `ends in a * within its last segment%s, so that nothing below that matches; write %q for that path and everything below it`, item.got(), body+"/*")
		}
		if strings.Contains(p, ";") {
			item := n.get("path").item(i)
			l.warn(item.at, `has a ";"%s, where parameters begin for some servers: a request is answered with 400 unless its path without them leads to the same route`, item.got())
		}
	}
	if !n.has("sni") {
		return
	}
	for _, key := range []string{"host", "path", "path_regex", "method", "header", "query", "cookie", "client"} {
		if n.written(key) {
			l.fault(n.get(key).at, "is set together with sni%s, whose connections are passed through encrypted, so that it is never compared; leave one of the two out", n.get(key).got())
		}
	}
}

// compact removes the values that were not valid.
func compact[T comparable](values []T) []T {
	var zero T
	out := values[:0]
	for _, v := range values {
		if v != zero {
			out = append(out, v)
		}
	}
	return out
}
