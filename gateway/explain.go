package gateway

import (
	"crypto/tls"
	"net/netip"

	"mpgate/config"
	"mpgate/proxy"
	"mpgate/proxy/route"
	"mpgate/proxy/target"
)

// Explainer says what a gateway with a configuration would do with requests. It opens no file and
// no socket, and uses the routes and steps of the data plane.
type Explainer struct {
	generation *generation
	proxy      *proxy.Proxy
}

// NewExplainer makes an explainer of cfg. Its error has the positions of the faults.
func NewExplainer(cfg *config.Config) (*Explainer, error) {
	n := &generation{config: cfg, backends: map[string]*pool{}, leases: map[leaseKey]lease{}, filters: map[string]*keptFilter{}, passedAt: map[string]bool{}, ownNames: ownNames(cfg)}
	for _, b := range cfg.Backends {
		n.backends[b.Name] = new(pool)
	}
	if err := (&builder{generation: n, explain: true}).build(); err != nil {
		return nil, err
	}
	return &Explainer{n, proxy.New(proxy.Options{Limits: proxyLimits(cfg.Limits)})}, nil
}

// PassedThrough returns the route by which TLS connections for a server name are passed through at
// l, and how it was found; nil if they are not.
func (e *Explainer) PassedThrough(l *config.Listener, sni string) (*proxy.Route, route.Explanation) {
	name, err := canonical(sni)
	p := e.generation.passthroughs(l)
	if err != nil || p == nil {
		return nil, route.Explanation{}
	}
	return p.Match(name, l.Name), p.Explain(name, l.Name)
}

// TCP returns the route that takes the connections of l; nil if l accepts HTTP.
func (e *Explainer) TCP(l *config.Listener) *proxy.Route {
	if !l.AcceptsTCP() {
		return nil
	}
	return e.generation.tcp.Match(nil, l.Name)
}

// Explain explains a request over HTTP/1 at l. Over TLS, sni is the server name of the handshake.
func (e *Explainer) Explain(l *config.Listener, head []byte, peer netip.AddrPort, overTLS bool, sni string) proxy.Explanation {
	o := e.generation.view(l)
	q := proxy.Question{Head: head, Peer: peer, TLS: overTLS}
	if overTLS {
		p := newNamedPolicies(l)
		o.TLS, q.Policy = p, p.policyOf(sni)
	}
	return e.proxy.Explain(e.proxy.NewListener(l.Name, o), q)
}

func canonical(host string) ([]byte, error) {
	var scratch []byte
	name, _, err := target.Host([]byte(host), &scratch)
	return name, err
}

// namedPolicies are the TLS policies of a listener, without certificates.
type namedPolicies struct {
	table *route.Table[uint64]
	terms []*proxy.Terms // by policy
}

func newNamedPolicies(l *config.Listener) *namedPolicies {
	p := &namedPolicies{terms: []*proxy.Terms{{HSTS: l.TLS.HSTS}}}
	var rules []route.Rule[uint64]
	for i := range l.TLS.Policies {
		p.terms = append(p.terms, &proxy.Terms{HSTS: l.TLS.Policies[i].HSTS})
		for _, host := range l.TLS.Policies[i].Hosts {
			rules = append(rules, route.Rule[uint64]{Name: host, Match: route.Match{Hosts: []string{host}}, Value: uint64(i + 1)})
		}
	}
	p.table, _ = route.Build(rules) // config has refused what does not fit
	return p
}

func (p *namedPolicies) policyOf(name string) uint64 {
	host, err := canonical(name)
	if err != nil {
		return 0
	}
	return p.PolicyFor(host)
}

// PolicyFor implements proxy.Policies, as do the following.
func (p *namedPolicies) PolicyFor(host []byte) uint64 {
	policy, _ := p.table.MatchHost(host, "")
	return policy
}

func (p *namedPolicies) Has(uint64) bool                               { return true }
func (p *namedPolicies) Single() bool                                  { return false }
func (p *namedPolicies) Terms(policy uint64) *proxy.Terms              { return p.terms[policy] }
func (*namedPolicies) ServerConfig() *tls.Config                       { return nil }
func (*namedPolicies) Done(*tls.ConnectionState, error) (uint64, bool) { return 0, false }
