package migrate

import (
	"path/filepath"
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// tls writes the certificates of all servers of a listener, and the default server's other keys.
// Servers that differ from those get a policy.
func (t *translator) tls(g *group, tab *table) {
	var pairs []any
	var seen []string
	var origin *nginxconf.Directive
	for _, s := range append([]*server{g.def}, g.servers...) {
		if off := s.scope.one("ssl_reject_handshake"); off != nil && off.Arg(0) == "on" {
			tab.set("refuse_unknown", true, off)
		}
		for _, p := range t.pairs(s.scope) {
			if text := inline(p); !slices.Contains(seen, text) {
				seen, pairs, origin = append(seen, text), append(pairs, p), s.scope.one("ssl_certificate")
			}
		}
	}
	if len(pairs) > 0 {
		tab.set("certificates", pairs, origin)
	}
	t.policy(g.def, tab)
	base := inline(tlsKeys(tab))
	var policies []any
	for _, s := range g.servers {
		own := &table{}
		t.policy(s, own)
		if names := s.certNames(); s != g.def && inline(tlsKeys(own)) != base && len(names) > 0 {
			p := &table{}
			p.set("hosts", all(names), s.scope.first("server_name"))
			p.keys = append(p.keys, tlsKeys(own).keys...)
			policies = append(policies, p)
		}
	}
	if len(policies) > 0 {
		tab.set("policy", policies, nil)
	}
}

// tlsKeys returns the keys in which policies can differ, with their defaults.
func tlsKeys(tab *table) *table {
	out := &table{}
	for name, def := range map[string]string{"min_version": "1.2", "client_auth": "off", "client_ca": ""} {
		if v := tab.text(name); v != "" && v != def {
			out.set(name, v, tab.keys[tab.index(name)].origin)
		}
	}
	slices.SortFunc(out.keys, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	if out.get("client_auth") == nil && tab.get("client_auth") == nil {
		out.set("client_auth", "off", nil)
	}
	return out
}

// pairs returns the certificates of a server with their keys.
func (t *translator) pairs(sc *scope) (out []any) {
	certs, keys := sc.inherited("ssl_certificate"), sc.inherited("ssl_certificate_key")
	for i, c := range certs {
		if i >= len(keys) || strings.Contains(c.Arg(0)+keys[i].Arg(0), "$") || strings.HasPrefix(c.Arg(0), "data:") || strings.HasPrefix(keys[i].Arg(0), "engine:") {
			t.say(c, "left out: mpgate reads a certificate and its key from two files")
			continue
		}
		p := &table{}
		p.set("cert", t.path(c.Arg(0)), c)
		p.set("key", t.path(keys[i].Arg(0)), c)
		out = append(out, p)
	}
	return out
}

// policy writes the keys of a server other than its certificates.
func (t *translator) policy(s *server, tab *table) {
	if d := s.scope.one("ssl_protocols"); d != nil {
		switch {
		case slices.Contains(d.Args, "TLSv1") || slices.Contains(d.Args, "TLSv1.1"):
			t.say(d, "TLS 1.0 and 1.1: left out: mpgate speaks TLS 1.2 and 1.3 only")
		case !slices.Contains(d.Args, "TLSv1.2"):
			tab.set("min_version", "1.3", d)
		}
	}
	verify := s.scope.one("ssl_verify_client")
	if verify == nil || verify.Arg(0) == "off" {
		return
	}
	mode := map[string]string{"on": "require", "optional": "verify_if_given", "optional_no_ca": "request"}[verify.Arg(0)]
	tab.set("client_auth", mode, verify)
	if d := s.scope.one("ssl_client_certificate"); d != nil && mode != "request" {
		tab.set("client_ca", t.path(d.Arg(0)), d)
	}
}

// path makes a file name of nginx absolute.
func (t *translator) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(t.prefix, name)
}
