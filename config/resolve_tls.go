package config

import (
	"crypto/tls"
	"net/netip"
	"strings"
)

func (l *loader) tls(r *rawTLS) *TLS {
	out := &TLS{TLSPolicy: l.policy(&r.rawTLSKeys, nil, nil), RefuseUnknown: r.RefuseUnknown.V}
	own := len(r.Certificates) > 0 || r.ACME != nil || r.Local.V
	if !own && (len(r.Policies) == 0 || !allHaveSource(r.Policies)) && !r.Local.At.unset {
		l.fault(r.At, "has no certificate; add certificates, acme or local = true")
	}
	taken := map[string]*place{}
	for _, p := range r.Policies {
		pol := l.policy(&p.rawTLSKeys, &out.TLSPolicy, p.Hosts.V)
		pol.Hosts = l.hosts(p.Hosts)
		if len(p.Hosts.V) == 0 && !p.Hosts.At.unset {
			l.fault(p.Hosts.At, `is empty; name the hosts that the policy is for, for example hosts = [ "api.example.org" ]`)
		}
		for _, s := range p.Hosts.V {
			name := strings.ToLower(s.V)
			if first := taken[name]; first != nil {
				l.fault(s.At, "has a policy already%s, at %s:%d; a name can have one", s.got(), first.file, first.line)
				continue
			}
			taken[name] = s.At
		}
		out.Policies = append(out.Policies, pol)
	}
	return out
}

func hasSource(r *rawTLSKeys) bool { return len(r.Certificates) > 0 || r.ACME != nil || r.Local.V }

func allHaveSource(ps []*rawPolicy) bool {
	for _, p := range ps {
		if !hasSource(&p.rawTLSKeys) {
			return false
		}
	}
	return true
}

// policy resolves the keys that the listener and its policies have in common. What a policy leaves out is base's; the three sources of
// certificates count as one for that. hosts are the policy's.
func (l *loader) policy(r *rawTLSKeys, base *TLSPolicy, hosts []str) TLSPolicy {
	var out TLSPolicy
	if base != nil {
		out = *base
	}
	if base == nil || hasSource(r) {
		out.Certificates, out.ACME, out.Local = nil, nil, r.Local.V
		for _, c := range r.Certificates {
			out.Certificates = append(out.Certificates, l.keyPair(c))
		}
		if r.ACME != nil {
			out.ACME = l.acme(r.ACME, hosts)
		}
	}
	if base == nil || r.LocalNames.At.written {
		out.LocalNames = l.localNames(r.LocalNames)
	}
	take := func(at *place) bool { return base == nil || at.written }
	if take(r.MinVersion.At) {
		out.MinVersion = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[oneOf(l, r.MinVersion, "1.2", "1.3")]
	}
	if take(r.HSTS.At) {
		out.HSTS = r.HSTS.V
		if problem := hstsProblem(out.HSTS); problem != "" {
			l.wrong(r.HSTS, problem)
		}
	}
	if take(r.ClientAuth.At) {
		out.ClientAuth = oneOf(l, r.ClientAuth, ClientAuthOff, ClientAuthRequest, ClientAuthVerifyIfGiven, ClientAuthRequire)
		if out.ClientAuth == ClientAuthOff || out.ClientAuth == ClientAuthRequest { // base's are for who verifies
			out.ClientCA, out.ClientSAN, out.ClientHeaders = "", nil, ClientHeaders{}
		}
	}
	if take(r.ClientCA.At) {
		out.ClientCA = l.filePath(r.ClientCA)
	}
	if take(r.ClientSAN.At) {
		out.ClientSAN = values(r.ClientSAN)
	}
	if take(r.ClientHeaders.At) {
		out.ClientHeaders = l.clientHeaders(&r.ClientHeaders)
	}
	if base != nil && out.ClientSAN == nil {
		out.ClientSAN = []string{} // not "as above", but "any"
	}
	l.clientAuthSense(r, &out)
	return out
}

// localNames are names and addresses.
func (l *loader) localNames(r list) []string {
	var out []string
	for _, e := range r.V {
		if ip, err := netip.ParseAddr(e.V); err == nil {
			out = append(out, ip.Unmap().String())
		} else if name := l.matchHost(e, false); name != "" {
			out = append(out, name)
		} else if e.V == "" {
			l.fault(e.At, "is empty; must be a name or an address")
		}
	}
	return out
}

func values(r list) []string {
	var out []string
	for _, s := range r.V {
		out = append(out, s.V)
	}
	return out
}

// clientAuthSense sees that who asks for client certificates gets what he thinks: half of it fails open.
func (l *loader) clientAuthSense(r *rawTLSKeys, p *TLSPolicy) {
	verifies := p.ClientAuth == ClientAuthVerifyIfGiven || p.ClientAuth == ClientAuthRequire
	if verifies && p.ClientCA == "" && !r.ClientCA.At.unset {
		l.fault(r.ClientAuth.At, "is %q without client_ca; name the file of the CA that signs the clients' certificates", p.ClientAuth)
	}
	if p.ClientAuth == ClientAuthOff && r.ClientCA.V != "" {
		l.fault(r.ClientCA.At, `is set while client_auth is "off"%s; write client_auth = "require", or leave it out`, r.ClientCA.got())
	}
	if p.ClientAuth == ClientAuthRequest && r.ClientCA.V != "" {
		l.fault(r.ClientCA.At, `is set while client_auth is "request"%s, which verifies nothing; write "verify_if_given" or "require", or leave it out`, r.ClientCA.got())
	}
	if !verifies && len(r.ClientSAN.V) > 0 && p.ClientAuth != "" {
		l.fault(r.ClientSAN.At, `is set while client_auth is %q, which verifies nothing; write client_auth = "require", or leave it out`, p.ClientAuth)
	}
	if !verifies && r.ClientHeaders.At.written && p.ClientHeaders != (ClientHeaders{}) && p.ClientAuth != "" {
		l.fault(r.ClientHeaders.At, `is set while client_auth is %q, which verifies nothing; write client_auth = "require", or leave it out`, p.ClientAuth)
	}
	for _, s := range r.ClientSAN.V {
		if s.V == "" {
			l.fault(s.At, "is empty; must be a name that stands in a client's certificate")
		}
	}
}

func (l *loader) keyPair(r *rawKeyPair) KeyPair {
	if r.Cert.V == "" {
		l.fault(r.Cert.At, `is missing; a pair is { cert = "a.pem", key = "a.key" }`)
	}
	if r.Key.V == "" {
		l.fault(r.Key.At, `is missing; a pair is { cert = "a.pem", key = "a.key" }`)
	}
	return KeyPair{Cert: l.filePath(r.Cert), Key: l.filePath(r.Key)}
}

// hstsProblem checks the value of Strict-Transport-Security (RFC 6797).
func hstsProblem(s string) string {
	if s == "" {
		return ""
	}
	found := false
	for _, d := range strings.Split(s, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
		if strings.EqualFold(name, "max-age") {
			v := strings.Trim(value, `"`)
			found = v != "" && strings.Trim(v, "0123456789") == ""
		}
	}
	if !found || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return `is no value of Strict-Transport-Security; must be for example "max-age=31536000; includeSubDomains"`
	}
	return ""
}

func (l *loader) clientHeaders(r *rawClientHeaders) ClientHeaders {
	all := []str{r.Subject, r.Issuer, r.Serial, r.SAN, r.Fingerprint, r.Certificate}
	for i, s := range all {
		for _, first := range all[:i] {
			if s.V != "" && strings.EqualFold(s.V, first.V) {
				l.fault(s.At, "is the field of %s too%s; give each its own", lastKey(first.At.key()), s.got())
			}
		}
	}
	return ClientHeaders{
		Subject:     l.headerName(r.Subject),
		Issuer:      l.headerName(r.Issuer),
		Serial:      l.headerName(r.Serial),
		SAN:         l.headerName(r.SAN),
		Fingerprint: l.headerName(r.Fingerprint),
		Certificate: l.headerName(r.Certificate),
	}
}

// reserved are the fields that carry the message or the connection: nobody may put something else into them.
var reserved = []string{
	"connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
	"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id",
}

func (l *loader) headerName(s str) string {
	for i := 0; i < len(s.V); i++ {
		c := s.V[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && c != '-' || i == 0 && c == '-' {
			l.fault(s.At, `is no name of a header field%s; must be of letters, digits and -, for example "X-Client-Subject"`, s.got())
			return ""
		}
	}
	for _, r := range reserved {
		if strings.EqualFold(r, s.V) {
			l.fault(s.At, `is a field that mpgate writes itself%s; choose another, for example "X-Client-Subject"`, s.got())
			return ""
		}
	}
	return s.V
}

func (l *loader) acme(r *rawACME, hosts []str) *ACME {
	out := &ACME{
		Email:   l.email(r.Email),
		CA:      l.url(r.CA, "https"),
		CARoot:  l.filePath(r.CARoot),
		KeyType: oneOf(l, r.KeyType, P256, P384, RSA2048, RSA4096),
		Profile: r.Profile.V,
	}
	domains := r.Domains
	if !domains.At.written && len(hosts) > 0 {
		domains.V = hosts // of the policy
	} else {
		out.Domains = l.hosts(domains)
	}
	if out.Domains == nil {
		// The policy's own check has said what is wrong with its hosts.
		for _, s := range domains.V {
			out.Domains = append(out.Domains, strings.ToLower(s.V))
		}
	}
	if len(domains.V) == 0 && !domains.At.unset {
		l.fault(domains.At, `is empty; name the hosts to get certificates for, for example domains = [ "example.org" ]`)
	}
	if r.DNS != nil && !r.Challenges.At.written {
		r.Challenges.V = []str{{At: r.Challenges.At, V: string(DNS01)}}
	}
	dns := false
	for _, s := range r.Challenges.V {
		c := oneOf(l, s, HTTP01, TLSALPN01, DNS01)
		dns = dns || c == DNS01
		if c != "" {
			out.Challenges = append(out.Challenges, c)
		}
	}
	if len(r.Challenges.V) == 0 && !r.Challenges.At.unset {
		l.fault(r.Challenges.At, `is empty; name at least one of "http-01", "tls-alpn-01" and "dns-01", or leave it out`)
	}
	for _, s := range domains.V {
		if strings.HasPrefix(s.V, "*.") && !dns && !r.Challenges.At.unset {
			l.fault(s.At, `is a wildcard%s, which only the challenge "dns-01" can prove; add that to challenges, and acme.dns`, s.got())
		}
	}
	switch {
	case r.DNS == nil && dns:
		l.fault(r.Challenges.At, `has "dns-01" without acme.dns; say there who writes the records: rfc2136, exec or webhook`)
	case r.DNS != nil && !dns:
		l.fault(r.DNS.At, `is set, but challenges has no "dns-01"; add it, or leave this out`)
	}
	if r.DNS != nil {
		out.DNS = l.dns(r.DNS)
	}
	if r.EAB != nil {
		out.EAB = l.eab(r.EAB)
	}
	return out
}

func (l *loader) email(s str) string {
	local, domain, ok := strings.Cut(s.V, "@")
	if s.V != "" && (!ok || local == "" || !strings.Contains(domain, ".") || strings.ContainsAny(s.V, " \t\r\n,<>") || strings.Contains(domain, "@")) {
		l.fault(s.At, `is no e-mail address%s; must be for example "admin@example.org"`, s.got())
		return ""
	}
	return s.V
}

func (l *loader) eab(r *rawEAB) *EAB {
	if r.KID.V == "" {
		l.fault(r.KID.At, `is missing; an external account is { kid = "…", key = "…" }, both from the CA`)
	}
	if r.Key.V == "" {
		l.fault(r.Key.At, `is missing; an external account is { kid = "…", key = "…" }, both from the CA`)
	} else if !isBase64(r.Key.V, true) {
		l.fault(r.Key.At, "is no base64 (of the kind for URLs); must be the MAC key as the CA shows it")
	}
	return &EAB{KID: r.KID.V, Key: r.Key.V}
}
