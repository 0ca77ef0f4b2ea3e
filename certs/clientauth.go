package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// readRoots reads a PEM file of CA certificates. A file that holds none, or
// one that does not parse, is an error: a policy fails closed.
func readRoots(file string) (*x509.CertPool, string, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read the CA file: %w", err)
	}
	pool, n := x509.NewCertPool(), 0
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, "", fmt.Errorf("%s: cannot parse certificate %d: %w", file, n+1, err)
		}
		pool.AddCert(c)
		n++
	}
	if n == 0 {
		return nil, "", fmt.Errorf("%s: contains no PEM certificate", file)
	}
	return pool, fileSum(data), nil
}

func fileSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// clientAuth decides which clients may connect.
type clientAuth struct {
	pool *x509.CertPool
	sum  string
	sans []sanPattern
}

func readClientAuth(file string, sans []string) (*clientAuth, error) {
	patterns, err := parseSANs(sans)
	if err != nil {
		return nil, err
	}
	pool, sum, err := readRoots(file)
	if err != nil {
		return nil, err
	}
	return &clientAuth{pool, sum, patterns}, nil
}

// ClientCertError is why a verified client certificate was refused.
type ClientCertError struct{ Reason string }

func (e *ClientCertError) Error() string { return "client certificate refused: " + e.Reason }

// verify runs at the end of every handshake, resumed ones too (crypto/tls
// itself checks dates and root of a resumed chain against the current pool,
// and refuses the ticket).
func (a *clientAuth) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil // require is enforced by crypto/tls
	}
	if len(cs.VerifiedChains) == 0 {
		return &ClientCertError{"not verified"}
	}
	if len(a.sans) == 0 || matchSAN(a.sans, cs.PeerCertificates[0]) {
		return nil
	}
	return &ClientCertError{fmt.Sprintf("none of its names (%s) is in client_san", strings.Join(allSANs(cs.PeerCertificates[0]), ", "))}
}

var errSANPattern = errors.New("bad name pattern")

// sanPattern matches one subject alternative name, see parseSANs.
type sanPattern struct {
	kind   byte // 'd'ns, 'u'ri, 'e'mail, 'i'p
	value  string
	prefix bool // uri: value is followed by anything; dns: value is behind one label
}

// parseSANs reads patterns: "name", "*.name" (one label), "scheme://…" for a
// URI, with "/*" at its end for all below it, "user@name", or an address; or
// one of these behind "dns:", "uri:", "email:" or "ip:".
func parseSANs(list []string) ([]sanPattern, error) {
	var out []sanPattern
	for _, s := range list {
		p, err := parseSAN(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parseSAN(s string) (sanPattern, error) {
	bad := func(why string) (sanPattern, error) {
		return sanPattern{}, fmt.Errorf("%w: %s (got %q)", errSANPattern, why, s)
	}
	kind, v, found := strings.Cut(s, ":")
	if !found || (kind != "dns" && kind != "uri" && kind != "email" && kind != "ip") {
		v = s
		_, ipErr := netip.ParseAddr(s)
		switch {
		case ipErr == nil:
			kind = "ip"
		case strings.Contains(s, "://"):
			kind = "uri"
		case strings.Contains(s, "@"):
			kind = "email"
		default:
			kind = "dns"
		}
	}
	switch kind {
	case "ip":
		addr, err := netip.ParseAddr(v)
		if err != nil {
			return bad("not an address")
		}
		return sanPattern{kind: 'i', value: addr.Unmap().String()}, nil
	case "uri":
		base, below := strings.CutSuffix(v, "/*")
		u, err := url.Parse(base)
		if err != nil || u.Scheme == "" || strings.Contains(base, "*") {
			return bad(`not a URI; a "/*" at its end matches everything below it`)
		}
		if below {
			base += "/"
		}
		return sanPattern{kind: 'u', value: base, prefix: below}, nil
	case "email":
		user, host, ok := strings.Cut(v, "@")
		if !ok || user == "" || host == "" || strings.Contains(v, "*") {
			return bad("not an e-mail address")
		}
		return sanPattern{kind: 'e', value: user + "@" + strings.ToLower(host)}, nil
	}
	name, err := canonicalName(v)
	if err != nil {
		return bad(err.Error())
	}
	if parent, ok := strings.CutPrefix(name, "*."); ok {
		return sanPattern{kind: 'd', value: parent, prefix: true}, nil
	}
	return sanPattern{kind: 'd', value: name}, nil
}

// matchSAN reports whether one of c's names matches one of patterns. The common name is not
// considered (RFC 9525 section 2).
func matchSAN(patterns []sanPattern, c *x509.Certificate) bool {
	for _, p := range patterns {
		switch p.kind {
		case 'd':
			for _, n := range c.DNSNames {
				n = strings.ToLower(strings.TrimSuffix(n, "."))
				if n == p.value && !p.prefix || p.prefix && parentName(n) == p.value {
					return true
				}
			}
		case 'u':
			for _, u := range c.URIs {
				if s := u.String(); !p.prefix && s == p.value || p.prefix && below(s, p.value) {
					return true
				}
			}
		case 'e':
			for _, e := range c.EmailAddresses {
				if user, host, _ := strings.Cut(e, "@"); user+"@"+strings.ToLower(host) == p.value {
					return true
				}
			}
		case 'i':
			for _, ip := range c.IPAddresses {
				if a, ok := netip.AddrFromSlice(ip); ok && a.Unmap().String() == p.value {
					return true
				}
			}
		}
	}
	return false
}

// below reports whether uri is below base, which ends in "/". Dot segments could lead out of base,
// so they match nothing.
func below(uri, base string) bool {
	rest, ok := strings.CutPrefix(uri, base)
	return ok && rest != "" && !strings.Contains(rest, "./") && !strings.HasSuffix(rest, ".") && !strings.Contains(rest, "%")
}

func allSANs(c *x509.Certificate) []string {
	var out []string
	out = append(out, c.DNSNames...)
	for _, u := range c.URIs {
		out = append(out, u.String())
	}
	out = append(out, c.EmailAddresses...)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// Identity is the identity of a client from its certificate. It is made once for each connection,
// for the header fields sent to a server.
type Identity struct {
	// Verified says that the chain ends at a CA of client_ca and, where
	// client_san is set, that a name matched. Otherwise (client_auth =
	// "request") everything below is the client's own claim.
	Verified bool
	// Subject is the distinguished name by RFC 4514; what is not printable
	// ASCII is escaped (\0D), so that it can stand in a header.
	Subject string
	// Issuer is the issuer's distinguished name, likewise.
	Issuer string
	// DNS, URI and Email are the subject alternative names.
	DNS, URI, Email []string
	// SANs are all of them as "DNS:a.example,URI:spiffe://…", each value
	// query-escaped, so that a comma in one cannot pose as a second name.
	SANs string
	// Serial is the serial number in hex, Fingerprint the SHA-256 of the DER
	// form in lower-case hex.
	Serial, Fingerprint string
	// PEM is the leaf in PEM, query-escaped: one header value.
	PEM string
}

// IdentityOf returns the identity of the client, or nil if it sent no certificate.
func IdentityOf(cs *tls.ConnectionState) *Identity {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	c := cs.PeerCertificates[0]
	sum := sha256.Sum256(c.Raw)
	id := &Identity{
		Verified:    len(cs.VerifiedChains) > 0,
		Subject:     printable(c.Subject.String()),
		Issuer:      printable(c.Issuer.String()),
		DNS:         c.DNSNames,
		Email:       c.EmailAddresses,
		Serial:      c.SerialNumber.Text(16),
		Fingerprint: hex.EncodeToString(sum[:]),
		PEM:         url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))),
	}
	var sans []string
	add := func(kind, v string) { sans = append(sans, kind+":"+url.QueryEscape(v)) }
	for _, n := range c.DNSNames {
		add("DNS", n)
	}
	for _, u := range c.URIs {
		id.URI = append(id.URI, u.String())
		add("URI", u.String())
	}
	for _, e := range c.EmailAddresses {
		add("email", e)
	}
	for _, ip := range c.IPAddresses {
		add("IP", ip.String())
	}
	id.SANs = strings.Join(sans, ",")
	return id
}

// printable escapes all but printable ASCII as RFC 4514 section 2.4 allows.
func printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' {
			fmt.Fprintf(&b, `\%02X`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
