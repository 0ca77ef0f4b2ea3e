package config

import (
	"reflect"
	"strings"
)

func (l *loader) checkTLS(t *TLS, n *node) {
	policies := n.get("policy").entries()
	all := len(policies) > 0 // every policy has a source of certificates
	for i := range policies {
		all = all && t.Policies[i].hasSource()
	}
	if !t.hasSource() && !all && !n.unset("local", "certificates") {
		l.fault(n.at, "has no certificate; add certificates, acme or local = true")
	}
	l.checkPolicy(&t.TLSPolicy, n, nil)
	taken := map[string]*place{}
	for i, pn := range policies {
		p, hosts := &t.Policies[i], pn.get("hosts")
		l.checkPolicy(p, pn, &t.TLSPolicy)
		for j := range p.Hosts {
			host := hosts.item(j)
			name := p.Hosts[j]
			if first := taken[name]; first != nil && name != "" {
				l.fault(host.at, "already has a policy%s, at %s:%d; a name can have one", host.got(), first.file, first.line)
				continue
			}
			taken[name] = host.at
		}
		p.Hosts = compact(p.Hosts)
	}
}

// hasSource reports whether the policy has a source of certificates.
func (p *TLSPolicy) hasSource() bool { return len(p.Certificates) > 0 || p.ACME != nil || p.Local }

// checkPolicy checks the keys that a listener's table tls and its policies have in common. base is
// nil for the listener itself, and the listener's policy for the others.
func (l *loader) checkPolicy(p *TLSPolicy, n *node, base *TLSPolicy) {
	if p.ACME != nil {
		l.checkACME(p.ACME, n.get("acme"), p.Hosts, n.get("hosts"))
	}
	p.LocalNames = compact(p.LocalNames)
	if base != nil {
		p.inherit(*base, n)
	}
	l.checkClientAuth(p, n)
	if h := n.get("client_headers"); h.at.written {
		l.checkClientHeaders(h)
	}
}

// inherit copies the keys that a policy does not set from base. The three sources of certificates
// count as one key.
func (p *TLSPolicy) inherit(base TLSPolicy, n *node) {
	if n.written("client_auth") && (p.ClientAuth == ClientAuthOff || p.ClientAuth == ClientAuthRequest) {
		// These keys of base need verification.
		base.ClientCA, base.ClientSAN, base.ClientHeaders = "", nil, ClientHeaders{}
	}
	own := p.hasSource()
	to, from := reflect.ValueOf(p).Elem(), reflect.ValueOf(&base).Elem()
	for _, k := range keys[to.Type()] {
		written := n.written(k.name)
		switch k.name {
		case "hosts":
			continue
		case "certificates", "local", "acme":
			written = own
		}
		if !written {
			k.in(to).Set(k.in(from))
		}
	}
	if p.ClientSAN == nil {
		p.ClientSAN = []string{} // not "as above", but "any"
	}
}

// checkClientAuth reports keys that suggest that client certificates are verified while they are
// not. Such a configuration would accept every client.
func (l *loader) checkClientAuth(p *TLSPolicy, n *node) {
	verifies := p.ClientAuth == ClientAuthVerifyIfGiven || p.ClientAuth == ClientAuthRequire
	ca, san := n.get("client_ca"), n.get("client_san")
	if verifies && p.ClientCA == "" && !ca.at.unset {
		l.fault(n.get("client_auth").at, "is %q without client_ca; name the file of the CA that signs the clients' certificates", p.ClientAuth)
	}
	if p.ClientAuth == ClientAuthOff && ca.text() != "" {
		l.wrong(ca, `is set while client_auth is "off"; write client_auth = "require", or leave it out`)
	}
	if p.ClientAuth == ClientAuthRequest && ca.text() != "" {
		l.fault(ca.at, `is set while client_auth is "request"%s, which verifies nothing; write "verify_if_given" or "require", or leave it out`, ca.got())
	}
	if !verifies && len(san.list) > 0 && p.ClientAuth != "" {
		l.fault(san.at, `is set while client_auth is %q, which verifies nothing; write client_auth = "require", or leave it out`, p.ClientAuth)
	}
	if !verifies && n.written("client_headers") && p.ClientHeaders != (ClientHeaders{}) && p.ClientAuth != "" {
		l.fault(n.get("client_headers").at, `is set while client_auth is %q, which verifies nothing; write client_auth = "require", or leave it out`, p.ClientAuth)
	}
}

// checkClientHeaders reports names that are used twice.
func (l *loader) checkClientHeaders(n *node) {
	ks := keys[reflect.TypeFor[ClientHeaders]()]
	for i, k := range ks {
		if !n.has(k.name) {
			continue
		}
		for _, first := range ks[:i] {
			if n.has(first.name) && strings.EqualFold(n.get(k.name).text(), n.get(first.name).text()) {
				l.wrong(n.get(k.name), "is the field of "+first.name+" too; give each its own")
			}
		}
	}
}
