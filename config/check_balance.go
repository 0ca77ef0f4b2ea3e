package config

import (
	"slices"

	"mpgate/proxy/template"
)

// cookieName is the name of a cookie, a token (RFC 6265 section 4.1.1).
func cookieName(s, _ string) (string, string) {
	if s == "" {
		return "", `is empty; must be a name, for example "srv"`
	}
	if _, problem := fieldName(s, ""); problem != "" {
		return "", `is not a valid name of a cookie; must be for example "srv"`
	}
	return s, ""
}

// byClient is the value of hash if it is left out.
var byClient = func() template.Template {
	t, err := template.Parse("{client}")
	if err != nil {
		panic(err)
	}
	return t
}()

// checkBalance checks how a backend chooses servers.
func (l *loader) checkBalance(b *Backend, n *node) {
	hash := n.get("hash")
	switch {
	case n.unset("hash", "balance"):
	case b.Balance != Hash && n.has("hash"):
		l.fault(hash.at, `is for balance = "hash"%s, and balance is %s; leave one of them out`, hash.got(), quote(string(b.Balance)))
	case b.Balance == Hash && !n.has("hash"):
		b.Hash = byClient
	case b.Balance == Hash:
		l.checkHash(&b.Hash, hash)
	}
	weighs := func(s Server) bool { return s.Weight > 0 }
	if servers := n.get("servers"); len(b.Servers) > 0 && b.Sticky == nil && !slices.ContainsFunc(b.Servers, weighs) {
		l.fault(servers.at, "have no weight above 0, so no request could be answered; leave out the weight of one of them")
	}
}

func (l *loader) checkHash(t *template.Template, n *node) {
	if _, literal := t.Literal(); literal && len(t.Parts()) > 0 { // without parts it is not valid
		l.fault(n.at, `has no variable%s, so all requests would go to the same server; must be for example "{client}"`, n.got())
		return
	}
	for _, kind := range beforeServer {
		if t.Uses(kind) {
			l.fault(n.at, `uses {%s}, which has no value before a server is chosen%s; must be for example "{client}"`, kind, n.got())
			return
		}
	}
	if t.Captures() > 0 {
		l.fault(n.at, `uses {%d}, which has a value only on a route%s; must be for example "{path}"`, t.Captures(), n.got())
	}
}

// ofConnections are the variables that have a value for a connection whose bytes are forwarded
// unparsed.
var ofConnections = []template.Kind{
	template.Literal, template.Client, template.ID, template.Listener, template.Route, template.SNI, template.ClientTransport,
}

// balance warns of keys of a backend that have no effect on a route whose bytes are forwarded
// unparsed.
func (l *loader) balance(c *Config, t tables, backends names) {
	isTCP := c.TCPListeners()
	for i := range c.Routes {
		r := &c.Routes[i]
		if r.Match.SNI == "" && !isTCP[r.Match.Listener] {
			continue
		}
		for _, name := range r.BackendNames() {
			j, ok := backends.at[name]
			if !ok {
				continue
			}
			b, n := &c.Backends[j], t.backends[j]
			if sticky := n.get("sticky"); b.Sticky != nil {
				l.warn(sticky.at, "is for HTTP, and has no effect on the route %q, whose bytes are forwarded unparsed; leave it out, or give that route a backend of its own", r.Name)
			}
			for _, p := range b.Hash.Parts() {
				if !slices.Contains(ofConnections, p.Kind) {
					hash := n.get("hash")
					l.warn(hash.at, `uses {%s}%s, which has no value on the route %q, whose bytes are forwarded unparsed; must be for example "{client}" or "{sni}"`, p.Kind, hash.got(), r.Name)
					break
				}
			}
		}
	}
}
