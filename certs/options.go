package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Options describes the TLS of one listener. The zero value, with a source of
// certificates in Policy, works: TLS 1.2 and 1.3, h2 and http/1.1, no client
// certificates.
type Options struct {
	// Listener names the listener. Ticket keys are never shared between two.
	Listener string
	// Protocols are "h1" and "h2"; none means both. h2 is preferred. With "tcp" alone no protocol
	// is negotiated (ALPN).
	Protocols []string
	// Policy holds for every name that no entry of Policies covers, and for
	// clients that send none. Its Hosts must be empty.
	Policy Policy
	// Policies hold for their Hosts. What an entry leaves out it takes from
	// Policy, see Policy.
	Policies []Policy
	// RefuseUnknown refuses (alert unrecognized_name) clients that ask for a
	// name which neither Policies nor a certificate covers, and those that
	// send no name, unless a certificate holds the address that they came
	// to. Otherwise they get the first certificate of Policy.
	RefuseUnknown bool
}

// Policy is what holds for a set of names. In an entry of Options.Policies a
// field that is not set is taken from Options.Policy: MinVersion and
// ClientAuth where "", ClientCA where "", ClientSAN where nil (an empty,
// non-nil list allows any name), and the three sources of certificates
// together, where none of them is set.
type Policy struct {
	// Hosts are names or "*.name" (one label).
	Hosts []string
	// MinVersion is "1.2" (the default) or "1.3".
	MinVersion string

	// Certificates, ACME and Local may be combined: the first that covers
	// the name and suits the client is used, Certificates before ACME before
	// Local.
	Certificates []Pair
	ACME         *ACME
	// Local makes a certificate from the local CA for Hosts, localhost,
	// 127.0.0.1 and ::1.
	Local bool
	// LocalNames are further names and addresses for the local certificate.
	LocalNames []string

	// ClientAuth is "off" (the default), "request", "verify_if_given" or
	// "require". With "request" nothing is verified and Identity.Verified is
	// false.
	ClientAuth string
	// ClientCA is a PEM file of the CAs that may sign client certificates.
	// It is read when the Set is opened; a changed file makes another policy, see Hooks.Changed.
	ClientCA string
	// ClientSAN lists who may connect; see SAN patterns in the package
	// documentation.
	ClientSAN []string
}

// Pair is a certificate chain and its key in two PEM files (or twice the same).
type Pair struct {
	Cert string
	Key  string
}

// Names of ACME challenges.
const (
	HTTP01    = "http-01"
	TLSALPN01 = "tls-alpn-01"
	DNS01     = "dns-01"
)

// ACME says which certificates to get from which CA.
type ACME struct {
	Domains []string
	Email   string
	// CA is the URL of the directory; "" is Let's Encrypt.
	CA string
	// CARoot is a PEM file of the roots to trust for CA; "" is the system's.
	CARoot string
	// Challenges in any order; none means http-01 and tls-alpn-01, or dns-01
	// alone where DNS is set.
	Challenges []string
	// EABKeyID and EABKey (base64url) bind the account to one at the CA.
	EABKeyID, EABKey string
	// Profile is one that the CA's directory offers.
	Profile string
	// KeyType is p256 (the default), p384, rsa2048 or rsa4096.
	KeyType string
	// DNS solves dns-01.
	DNS *DNS
}

// LetsEncrypt is the directory that is used where ACME.CA is empty.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// DNS says how TXT records for dns-01 are made: exactly one of Server, Exec
// and Webhook.
type DNS struct {
	// Server (host:port) takes RFC 2136 updates, signed with the TSIG key
	// KeyName (RFC 8945): KeyAlgorithm is hmac-sha256 where empty, Key is in
	// base64.
	Server, KeyName, KeyAlgorithm, Key string
	// Exec is a program with its first arguments, see execSolver.
	Exec []string
	// Webhook is a URL, see webhookSolver. WebhookToken is sent as a bearer
	// token.
	Webhook, WebhookToken string

	// Resolvers (host:port) are asked for the zone and whether the record is
	// there. None: for Server the system's and then the zone's own name
	// servers; for Exec and Webhook nothing is asked, the program returns
	// when the record can be seen.
	Resolvers []string
	// Delay is waited before the first look. Timeout ends the waiting; 0 is 2m.
	Delay, Timeout time.Duration
}

// Fault is one error in Options.
type Fault struct {
	// Key is relative to the listener's table: "tls.policy[1].client_ca".
	Key string
	Err error
}

func (f Fault) Error() string { return f.Key + ": " + f.Err.Error() }
func (f Fault) Unwrap() error { return f.Err }

// Faults are all errors in Options; Open and Check return it.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

func (fs *Faults) add(key string, err error) {
	*fs = append(*fs, Fault{key, err})
}

func (fs *Faults) addf(key, format string, args ...any) { fs.add(key, fmt.Errorf(format, args...)) }

func (fs Faults) err() error {
	if len(fs) == 0 {
		return nil
	}
	return fs
}

// Check reports everything that Open would refuse, without starting or writing
// anything.
func Check(o Options) error {
	_, faults := resolve(o)
	return faults.err()
}

// resolved is a policy with everything in it checked and read. Its exported
// fields, as JSON, are the policy's identity.
type resolved struct {
	Listener string
	Protos   []string
	Policy   Policy
	// RefuseUnknown is Options.RefuseUnknown, for the listener's own policy.
	RefuseUnknown bool
	// Digests of files whose content is part of the policy.
	ClientCASum, CARootSum string

	key     string // in Faults
	minVer  uint16
	auth    tls.ClientAuthType
	clients *clientAuth
	pairs   []loadedPair
	issuer  *issuerOptions
	// files are those whose content is part of the policy; see Manager.pollFiles.
	files []*watched
}

// watch records a file before it is read.
func (r *resolved) watch(path string) {
	if path == "" {
		return
	}
	w := &watched{path: path}
	w.note()
	r.files = append(r.files, w)
}

// resolve checks o and reads its files: the listener's policy comes first.
func resolve(o Options) ([]*resolved, Faults) {
	var faults Faults
	protos := alpn(o.Protocols, &faults)
	if len(o.Policy.Hosts) > 0 {
		faults.addf("tls.hosts", "only a policy has hosts (got %q)", o.Policy.Hosts)
	}
	all := []*resolved{{Listener: o.Listener, Protos: protos, Policy: o.Policy, RefuseUnknown: o.RefuseUnknown, key: "tls"}}
	seen := map[string]int{}
	for i, p := range o.Policies {
		key := fmt.Sprintf("tls.policy[%d]", i)
		if len(p.Hosts) == 0 {
			faults.addf(key+".hosts", "missing; name the hosts that the policy is for")
		}
		p = inherit(p, o.Policy)
		p.Hosts = canonicalNames(p.Hosts, key+".hosts", &faults)
		for _, h := range p.Hosts {
			if j, dup := seen[h]; dup {
				faults.addf(key+".hosts", "%q is already in policy[%d]", h, j)
			}
			seen[h] = i
		}
		all = append(all, &resolved{Listener: o.Listener, Protos: protos, Policy: p, key: key})
	}
	for _, r := range all {
		r.check(&faults)
	}
	return all, faults
}

func inherit(p, from Policy) Policy {
	if p.MinVersion == "" {
		p.MinVersion = from.MinVersion
	}
	if len(p.Certificates) == 0 && p.ACME == nil && !p.Local {
		p.Certificates, p.ACME, p.Local = from.Certificates, from.ACME, from.Local
		p.LocalNames = append(slices.Clone(p.LocalNames), from.LocalNames...)
	}
	if p.ClientAuth == "" {
		p.ClientAuth = from.ClientAuth
	}
	if p.ClientAuth == "off" {
		return p
	}
	if p.ClientCA == "" {
		p.ClientCA = from.ClientCA
	}
	if p.ClientSAN == nil {
		p.ClientSAN = from.ClientSAN
	}
	return p
}

var alpnRank = map[string]int{"h2": 0, "http/1.1": 1, "http/1.0": 2}

func alpn(protocols []string, faults *Faults) []string {
	if len(protocols) == 0 {
		protocols = []string{"h1", "h2"}
	}
	var out []string
	for _, p := range protocols {
		switch p {
		case "h1":
			// Some clients that are told to use HTTP/1.0 offer nothing else (curl -0). It is the
			// same codec.
			out = append(out, "http/1.1", "http/1.0")
		case "h2":
			out = append(out, "h2")
		case "h2c", "tcp": // not negotiated
		default:
			faults.addf("protocols", `unknown protocol (got %q); one of "h1", "h2", "h2c", "tcp"`, p)
		}
	}
	// The server's order decides in crypto/tls: h2, http/1.1, http/1.0.
	slices.SortFunc(out, func(a, b string) int { return alpnRank[a] - alpnRank[b] })
	return slices.Compact(out)
}

func canonicalNames(names []string, key string, faults *Faults) []string {
	var out []string
	for _, n := range names {
		c, err := canonicalName(n)
		if err != nil {
			faults.add(key, err)
			continue
		}
		out = append(out, c)
	}
	return out
}

func (r *resolved) check(faults *Faults) {
	p := &r.Policy
	switch p.MinVersion {
	case "", "1.2":
		r.minVer, p.MinVersion = tls.VersionTLS12, "1.2"
	case "1.3":
		r.minVer = tls.VersionTLS13
	default:
		faults.addf(r.key+".min_version", `unknown version (got %q); "1.2" or "1.3"`, p.MinVersion)
	}
	if len(p.Certificates) == 0 && p.ACME == nil && !p.Local {
		faults.addf(r.key, "no certificate; set certificates, acme or local")
	}
	for i, pair := range p.Certificates {
		lp, err := readPair(pair)
		if err != nil {
			faults.add(fmt.Sprintf("%s.certificates[%d]", r.key, i), err)
			continue
		}
		r.pairs = append(r.pairs, lp)
	}
	if p.ACME != nil {
		r.checkACME(faults)
	}
	if p.Local {
		if _, err := localNamesOf(*p); err != nil {
			faults.add(r.key+".local_names", err)
		}
	}
	r.checkClientAuth(faults)
}

func (r *resolved) checkACME(faults *Faults) {
	a, key := *r.Policy.ACME, r.key+".acme"
	r.Policy.ACME = &a // a copy: o is the caller's
	if len(a.Domains) == 0 {
		faults.addf(key+".domains", "missing; name the domains to get certificates for")
	}
	a.Domains = canonicalNames(a.Domains, key+".domains", faults)
	if a.CA == "" {
		a.CA = LetsEncrypt
	}
	if u, err := url.Parse(a.CA); err != nil || u.Scheme != "https" || u.Host == "" {
		faults.addf(key+".ca", "not the https URL of an ACME directory (got %q)", a.CA)
	}
	if (a.EABKeyID == "") != (a.EABKey == "") {
		faults.addf(key+".eab_key_id", "eab_key_id and eab_key belong together")
	}
	switch {
	case len(a.Challenges) > 0:
		a.Challenges = slices.Sorted(slices.Values(a.Challenges))
	case a.DNS != nil:
		a.Challenges = []string{DNS01}
	default:
		a.Challenges = []string{HTTP01, TLSALPN01}
	}
	for _, c := range a.Challenges {
		if c != HTTP01 && c != TLSALPN01 && c != DNS01 {
			faults.addf(key+".challenges", `unknown challenge (got %q); one of "http-01", "tls-alpn-01", "dns-01"`, c)
		}
	}
	viaDNS := slices.Contains(a.Challenges, DNS01)
	for _, d := range a.Domains {
		if strings.HasPrefix(d, "*.") && !viaDNS {
			faults.addf(key+".domains", "a wildcard needs dns-01 (got %q)", d)
		}
	}
	if viaDNS != (a.DNS != nil) {
		faults.addf(key+".challenges", "dns-01 and the dns table belong together")
	}
	if a.DNS != nil {
		if err := checkDNS(a.DNS); err != nil {
			faults.add(key+".dns", err)
		}
	}
	r.watch(a.CARoot)
	io, err := newIssuerOptions(a)
	if err != nil {
		faults.add(key, err)
		return
	}
	r.issuer, r.CARootSum = io, io.rootSum
}

func (r *resolved) checkClientAuth(faults *Faults) {
	p := &r.Policy
	switch p.ClientAuth {
	case "", "off":
		p.ClientAuth = "off"
		if r.key == "tls" && (p.ClientCA != "" || len(p.ClientSAN) > 0) {
			faults.addf(r.key+".client_auth", `client_ca and client_san have no effect while client_auth is "off"; set "require" or "verify_if_given"`)
		}
		p.ClientCA, p.ClientSAN = "", nil
		return
	case "request":
		r.auth = tls.RequestClientCert
		if p.ClientCA != "" || len(p.ClientSAN) > 0 {
			faults.addf(r.key+".client_auth", `"request" verifies nothing, so client_ca and client_san have no effect; use "verify_if_given"`)
		}
		return
	case "verify_if_given":
		r.auth = tls.VerifyClientCertIfGiven
	case "require":
		r.auth = tls.RequireAndVerifyClientCert
	default:
		faults.addf(r.key+".client_auth", `unknown value (got %q); one of "off", "request", "verify_if_given", "require"`, p.ClientAuth)
		return
	}
	if p.ClientCA == "" {
		faults.add(r.key+".client_ca", errors.New("missing; client certificates are to be verified"))
		return
	}
	r.watch(p.ClientCA)
	ca, err := readClientAuth(p.ClientCA, p.ClientSAN)
	if err != nil {
		key := ".client_ca"
		if errors.Is(err, errSANPattern) {
			key = ".client_san"
		}
		faults.add(r.key+key, err)
		return
	}
	r.clients, r.ClientCASum = ca, ca.sum
}
