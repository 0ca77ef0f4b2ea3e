package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"time"

	"mpgate/certs"
	"mpgate/config"
	"mpgate/proxy"
)

// openCerts makes the manager of certificates; it opens no file until a listener needs one.
func (g *Gateway) openCerts(cfg *config.Config) {
	g.certs = certs.NewManager(certs.ManagerOptions{
		Dir: cfg.StateDir, Log: g.log, UserAgent: "mpgate/" + g.options.Version,
		Hooks: certs.Hooks{
			NotAfter: g.certificateUntil,
			Error:    func(_, name string, err error) { g.metrics.SetCertificateFailing(name, err != nil) },
			Changed:  g.filesChanged,
		},
	})
}

// certificateUntil sets the metric of a certificate; a zero time removes it.
func (g *Gateway) certificateUntil(name string, t time.Time) {
	if t.IsZero() {
		g.metrics.DeleteCertificate(name)
		return
	}
	g.metrics.SetCertificate(name, t)
}

// buildTLS opens the policies of a listener; nil if it has none.
func (g *Gateway) buildTLS(cfg *config.Config, l *config.Listener) (*tlsSet, error) {
	if l.TLS == nil {
		return nil, nil
	}
	set, err := g.certs.Open(certsOptions(l))
	if err != nil {
		return nil, certsFault(cfg, l, err)
	}
	t := &tlsSet{Set: set, terms: map[certs.PolicyID]*proxy.Terms{}}
	t.addTerms(nil, &l.TLS.TLSPolicy)
	for i := range l.TLS.Policies {
		t.addTerms(l.TLS.Policies[i].Hosts, &l.TLS.Policies[i])
	}
	return t, nil
}

func certsOptions(l *config.Listener) certs.Options {
	o := certs.Options{Listener: l.Name, RefuseUnknown: l.TLS.RefuseUnknown, Policy: certsPolicy(&l.TLS.TLSPolicy)}
	for _, p := range l.Protocols {
		if p == config.H1 || p == config.H2 || p == config.TCP {
			o.Protocols = append(o.Protocols, string(p))
		}
	}
	for i := range l.TLS.Policies {
		o.Policies = append(o.Policies, certsPolicy(&l.TLS.Policies[i]))
	}
	return o
}

// certsFault gives errors of certificates their position in the file.
func certsFault(cfg *config.Config, l *config.Listener, err error) error {
	var faults certs.Faults
	if !errors.As(err, &faults) {
		return placed(cfg, "listener."+l.Name+".tls", err)
	}
	var out config.Errors
	for _, f := range faults {
		out = append(out, placed(cfg, "listener."+l.Name+"."+f.Key, f.Err)...)
	}
	return out
}

func certsPolicy(p *config.TLSPolicy) certs.Policy {
	out := certs.Policy{
		Hosts: p.Hosts, Local: p.Local, LocalNames: p.LocalNames, MinVersion: versionText(p.MinVersion),
		ClientAuth: string(p.ClientAuth), ClientCA: p.ClientCA, ClientSAN: p.ClientSAN, ACME: certsACME(p.ACME),
	}
	for _, pair := range p.Certificates {
		out.Certificates = append(out.Certificates, certs.Pair{Cert: pair.Cert, Key: pair.Key})
	}
	return out
}

func versionText(v uint16) string {
	switch v {
	case tls.VersionTLS13:
		return "1.3"
	case tls.VersionTLS12:
		return "1.2"
	}
	return ""
}

func certsACME(a *config.ACME) *certs.ACME {
	if a == nil {
		return nil
	}
	out := &certs.ACME{
		Domains: a.Domains, Email: a.Email, CA: a.CA, CARoot: a.CARoot, Profile: a.Profile, KeyType: string(a.KeyType), DNS: certsDNS(a.DNS),
	}
	for _, c := range a.Challenges {
		out.Challenges = append(out.Challenges, string(c))
	}
	if a.EAB != nil {
		out.EABKeyID, out.EABKey = a.EAB.KID, a.EAB.Key
	}
	return out
}

func certsDNS(d *config.DNS) *certs.DNS {
	if d == nil {
		return nil
	}
	out := &certs.DNS{Exec: d.Exec, Webhook: d.Webhook, WebhookToken: d.WebhookToken, Delay: d.Delay, Timeout: d.Timeout}
	for _, r := range d.Resolvers {
		out.Resolvers = append(out.Resolvers, r.String())
	}
	if r := d.RFC2136; r != nil {
		out.Server, out.KeyName, out.KeyAlgorithm, out.Key = r.Server.String(), r.KeyName, string(r.KeyAlg), r.KeySecret
	}
	return out
}

// tlsSet is a listener's policies as the data plane sees them; it is a proxy.Policies.
type tlsSet struct {
	*certs.Set
	terms map[certs.PolicyID]*proxy.Terms
}

func (t *tlsSet) Done(state *tls.ConnectionState, err error) (uint64, bool) {
	id, result := t.Set.Done(state, err)
	return uint64(id), result == certs.ResultOK
}

func (t *tlsSet) PolicyFor(host []byte) uint64 { return uint64(t.Set.PolicyFor(host)) }

func (t *tlsSet) Has(policy uint64) bool { return t.Set.Has(certs.PolicyID(policy)) }

func (t *tlsSet) Terms(policy uint64) *proxy.Terms { return t.terms[certs.PolicyID(policy)] }

// addTerms notes what the proxy does for the names of a policy.
func (t *tlsSet) addTerms(hosts []string, p *config.TLSPolicy) {
	if p.HSTS == "" && p.ClientHeaders == (config.ClientHeaders{}) {
		return
	}
	terms := &proxy.Terms{HSTS: p.HSTS}
	h := p.ClientHeaders
	if h != (config.ClientHeaders{}) {
		terms.Identity = func(state *tls.ConnectionState) []proxy.Field {
			id := certs.IdentityOf(state)
			if id == nil || !id.Verified {
				return nil // a claim that nobody checked is not passed on
			}
			return identityFields(&h, id)
		}
	}
	if hosts == nil {
		hosts = []string{""}
	}
	for _, host := range hosts {
		t.terms[t.PolicyForName(host)] = terms
	}
}

// ownNames are the fields of all listeners that tell servers who a client is. No client may
// send one, by whichever listener it comes.
func ownNames(cfg *config.Config) (names []string) {
	add := func(h *config.ClientHeaders) {
		for _, f := range identityFields(h, &certs.Identity{}) {
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	for i := range cfg.Listeners {
		if t := cfg.Listeners[i].TLS; t != nil {
			add(&t.ClientHeaders)
			for j := range t.Policies {
				add(&t.Policies[j].ClientHeaders)
			}
		}
	}
	return names
}

// identityFields are the configured header fields and their values.
func identityFields(h *config.ClientHeaders, id *certs.Identity) (fields []proxy.Field) {
	for _, f := range []proxy.Field{
		{Name: h.Subject, Value: id.Subject}, {Name: h.Issuer, Value: id.Issuer}, {Name: h.Serial, Value: id.Serial},
		{Name: h.SAN, Value: id.SANs}, {Name: h.Fingerprint, Value: id.Fingerprint}, {Name: h.Certificate, Value: id.PEM},
	} {
		if f.Name != "" {
			fields = append(fields, f)
		}
	}
	return fields
}

// challenge answers http-01 challenges of certificates that are being obtained.
func (g *Gateway) challenge(host, path []byte) (string, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return g.certs.ChallengeResponse(ctx, string(host), string(path))
}

// backendTLS returns a function that makes the TLS configuration for a server's host; nil if the
// backend does not use TLS.
func (g *Gateway) backendTLS(b *config.Backend) func(host string) (*tls.Config, error) {
	if b.TLS == nil {
		return nil
	}
	return func(host string) (*tls.Config, error) {
		o := clientOptions(b.TLS, host)
		o.ALPN, o.Log = []string{"http/1.1"}, g.log
		return certs.ClientConfig(o)
	}
}

func clientOptions(t *config.BackendTLS, host string) certs.ClientOptions {
	return certs.ClientOptions{
		CA: t.CA, ServerName: cmp.Or(t.ServerName, host), SAN: t.SAN, Cert: t.Cert, Key: t.Key, SkipVerify: !t.Verify,
	}
}
