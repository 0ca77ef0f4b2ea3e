package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mpgate/config"
	"mpgate/gateway"
	"mpgate/proxy"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/route"
	"mpgate/proxy/target"
)

type explainCmd struct {
	configFlag
	URL      string   `arg:"" help:"URL, or a path for a request without Host."`
	Listener string   `short:"l" placeholder:"NAME" help:"Listener that receives the request (default: all with the URL's scheme)."`
	Method   string   `short:"X" default:"GET" help:"Request method (${default})."`
	Header   []string `short:"H" sep:"none" placeholder:"NAME:VALUE" help:"Header field of the request; may be repeated."`
	Client   string   `placeholder:"IP" help:"Address that the request comes from."`
	SNI      string   `name:"sni" placeholder:"NAME" help:"Server name in the TLS handshake (default: the host of the URL)."`
	JSON     bool     `help:"Print the explanation as JSON."`
}

func (explainCmd) Help() string {
	return `Reads the configuration file and does not need a running gateway. It takes the same steps as the gateway: canonical host and path, then the most specific route. It resolves the names of the servers, and does not open certificates. For tcp:// it says where the connections of TCP listeners go. The exit code is 1 if no route matches, or if the request is answered before the action of its route, such as by a filter.

    mpgate explain http://example.org/api/users
    mpgate explain https://example.org/ --listener secure --json
    mpgate explain tcp://`
}

func (c *explainCmd) Run(p *program) error {
	cfg, err := config.Load(c.Config, config.Options{Check: true})
	if err != nil {
		return err
	}
	gate, err := gateway.NewExplainer(cfg)
	if err != nil {
		return err
	}
	q, err := parseQuestion(c.Method, c.URL)
	if err != nil {
		return err
	}
	q.sni = cmp.Or(c.SNI, q.name())
	if err := q.from(c.Header, c.Client); err != nil {
		return err
	}
	listeners, err := q.listeners(cfg, gate, c.Listener)
	if err != nil {
		return err
	}
	var answers []explained
	routed := false
	notes := map[string][]string{} // by backend
	for _, l := range listeners {
		e := q.explain(cfg, gate, l)
		routed = routed || e.Route != ""
		if _, known := notes[e.Backend]; !known {
			notes[e.Backend] = addressNotes(context.Background(), cfg, e.Backend)
		}
		e.Notes = append(e.Notes, notes[e.Backend]...)
		answers = append(answers, e)
	}
	if c.JSON {
		err = printJSON(p.stdout, answers)
	} else {
		err = printExplained(p.stdout, answers)
	}
	if err == nil && !routed {
		err = exitCode(exitFailed)
	}
	return err
}

// question is a request as a client would send it.
type question struct {
	method string
	url    string
	scheme string // "" if it was not said
	host   string // as written, with the port
	target string // path and query, or "*"
	sni    string // the server name of the TLS handshake
	fields string // header fields besides Host, each with its line end
	client netip.AddrPort
}

// from takes the header fields and the address of the client.
func (q *question) from(fields []string, client string) error {
	for _, field := range fields {
		name, value, ok := strings.Cut(field, ":")
		if !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(field, "\r\n") {
			return usageError(fmt.Sprintf("--header: must be NAME:VALUE (got %q)", field))
		}
		if strings.EqualFold(name, "Host") {
			return usageError("--header: the host is that of the URL")
		}
		q.fields += name + ": " + strings.TrimSpace(value) + "\r\n"
	}
	if client == "" {
		return nil
	}
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return usageError(fmt.Sprintf("--client: must be an IP address (got %q)", client))
	}
	q.client = netip.AddrPortFrom(addr, 0)
	return nil
}

// name is the host without its port, as a client writes it into a TLS handshake.
func (q *question) name() string {
	host := q.host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil {
		return "" // addresses are not sent
	}
	return host
}

func parseQuestion(method, url string) (q question, err error) {
	if strings.ContainsAny(method+url, "\r\n") {
		return q, usageError("URL: a line break in the URL or the method")
	}
	q = question{method: method, url: url, target: "/"}
	rest := url
	if scheme, after, ok := strings.Cut(url, "://"); ok {
		if q.scheme = strings.ToLower(scheme); q.scheme != "http" && q.scheme != "https" && q.scheme != "tcp" {
			return q, usageError(fmt.Sprintf("URL: the scheme must be http, https or tcp (got %q)", scheme))
		}
		rest = after
	}
	rest, _, _ = strings.Cut(rest, "#") // clients do not send the fragment
	if rest == "*" {
		q.target = rest
		return q, nil
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		q.host, q.target = rest[:i], rest[i:]
		if q.target[0] == '?' {
			q.target = "/" + q.target
		}
	} else {
		q.host = rest
	}
	if i := strings.LastIndexByte(q.host, '@'); i >= 0 { // clients send that as Authorization
		q.host = q.host[i+1:]
	}
	if q.scheme == "tcp" {
		q.method, q.target = "", ""
		return q, nil
	}
	if q.host == "" && q.scheme != "" {
		return q, usageError(fmt.Sprintf("URL: no host (got %q)", url))
	}
	return q, nil
}

// listeners are the listeners that may receive the request.
func (q *question) listeners(cfg *config.Config, gate *gateway.Explainer, name string) (list []*config.Listener, err error) {
	var names []string
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		names = append(names, l.Name)
		if l.Name == name || name == "" && q.fits(gate, l) {
			list = append(list, l)
		}
	}
	switch {
	case len(list) > 0:
		return list, nil
	case name != "":
		return nil, usageError(fmt.Sprintf("--listener: no such listener (got %q); one of: %s", name, strings.Join(names, ", ")))
	}
	return nil, fmt.Errorf("no listener has the scheme of %s; choose one with --listener: %s", q.url, strings.Join(names, ", "))
}

// fits reports whether a client with this URL may connect to l. Ports are not compared: a proxy or
// NAT in front of the gateway may use others.
func (q *question) fits(gate *gateway.Explainer, l *config.Listener) bool {
	if q.scheme == "tcp" || l.AcceptsTCP() {
		return q.scheme == "tcp" && l.AcceptsTCP()
	}
	switch q.scheme {
	case "http":
		return l.TLS == nil
	case "https":
		r, _ := gate.PassedThrough(l, q.sni)
		return l.TLS != nil || r != nil
	}
	return true
}

// explained is the outcome of a request at one listener.
type explained struct {
	URL      string `json:"url"`
	Method   string `json:"method"`
	Listener string `json:"listener"`
	Host     string `json:"host"` // canonical
	Path     string `json:"path"` // canonical
	Query    string `json:"query,omitempty"`

	Route       string   `json:"route,omitempty"`
	Backend     string   `json:"backend,omitempty"` // "": mpgate answers, or the choice is random
	Files       []string `json:"files,omitempty"`   // that are looked for first
	Servers     []string `json:"servers,omitempty"`
	Split       []share  `json:"split,omitempty"`       // if the route has several backends
	SplitBy     string   `json:"split_by,omitempty"`    // "": the choice is random
	SplitKey    string   `json:"split_key,omitempty"`   // split_by for this request
	Passthrough bool     `json:"passthrough,omitempty"` // TLS that is not decrypted
	TCP         bool     `json:"tcp,omitempty"`         // bytes that are not parsed
	// client_auth of the TLS policy of the name; "": none
	ClientAuth  string      `json:"client_auth,omitempty"`
	Status      int         `json:"status,omitempty"` // that mpgate answers with
	Step        string      `json:"step,omitempty"`   // that ends the exchange
	Filter      string      `json:"filter,omitempty"` // that does, in the step "filter"
	Why         string      `json:"why"`
	Filters     []string    `json:"filters,omitempty"`      // of the route
	FilterNotes []string    `json:"filter_notes,omitempty"` // what they would do with the request
	Notes       []string    `json:"notes,omitempty"`        // what depends on other conditions
	Location    string      `json:"location,omitempty"`     // of a redirect
	Considered  []candidate `json:"considered,omitempty"`
	OtherHosts  int         `json:"routes_for_other_hosts"`
}

// share is one of several backends of a route.
type share struct {
	Backend string         `json:"backend"`
	Percent config.Percent `json:"percent"`
	Servers []string       `json:"servers"`
}

type candidate struct {
	Route    string `json:"route"`
	Host     string `json:"host"`
	Path     string `json:"path"`
	Listener string `json:"listener"`
	Matches  bool   `json:"matches"`
	Why      string `json:"why"`
}

// explain has the data plane take its steps.
func (q *question) explain(cfg *config.Config, gate *gateway.Explainer, l *config.Listener) explained {
	e := explained{URL: q.url, Method: q.method, Listener: l.Name}
	if r := gate.TCP(l); r != nil {
		e.TCP, e.Method = true, ""
		e = e.routed(cfg, r, -1)
		e.Why = "the one route of the listener"
		return e
	}
	if q.scheme == "tcp" {
		return e.refused(0, "the listener accepts HTTP")
	}
	overTLS := l.TLS != nil && q.scheme != "http"
	if r, found := gate.PassedThrough(l, q.sni); r != nil && (overTLS || q.scheme == "https") {
		e.Passthrough = true
		e.Host = strings.ToLower(q.sni)
		e.consider(found)
		return e.routed(cfg, r, -1)
	}
	switch {
	case l.TLS == nil && q.scheme == "https":
		return e.refused(0, "the listener does not use TLS")
	case l.TLS != nil && q.scheme == "http":
		return e.refused(0, "the listener accepts only TLS")
	}
	x := gate.Explain(l, q.head(), q.client, overTLS, q.sni)
	e.Host, e.Path, e.Query = string(x.Matched.Host), string(x.Matched.Path), string(x.Matched.Query)
	e.FilterNotes = x.Notes
	if overTLS {
		if auth := policyOf(l, q.sni).ClientAuth; auth != config.ClientAuthOff {
			e.ClientAuth = string(auth)
		}
	}
	if q.method == http.MethodGet && strings.HasPrefix(e.Path, challengePath) && provesNames(cfg) {
		e.note("while a CA validates the host, mpgate answers its challenge here")
	}
	if x.Route != nil || x.Step == "route" {
		e.consider(x.Match)
	}
	if x.Route != nil {
		for _, name := range x.Route.Filters.Names() {
			if name != (filter.MaxForwards{}).Name() { // every route has it
				e.Filters = append(e.Filters, name)
			}
		}
	}
	if x.Step != "" {
		e.Step, e.Filter = x.Step, x.Filter
		return e.refused(x.Status, q.why(&x, l))
	}
	if x.Route.KeepSlashes && x.Request.RawPath != nil {
		e.note(fmt.Sprintf(`the server receives the path %q (duplicate_slashes = "keep")`, x.Request.Path))
	}
	e.Status, e.Location, e.SplitKey = x.Status, string(x.Header.Get(message.Location)), x.SplitKey
	e.Files = x.Files
	return e.routed(cfg, x.Route, x.Choice)
}

func (e *explained) note(text string) { e.Notes = append(e.Notes, text) }

// why says what led to the answer of a step.
func (q *question) why(x *proxy.Explanation, l *config.Listener) string {
	switch x.Step {
	case "health_path":
		return "this is the health_path of the listener"
	case "redirect_https":
		if x.Status == 308 {
			return "the listener redirects to https (redirect_https)"
		}
	case "route":
		if i := x.Match.Chosen; i >= 0 {
			return fmt.Sprintf("the route %q is internal: only an X-Accel-Redirect of a server leads to it", x.Match.Candidates[i].Name)
		}
		return "no route matches"
	case "path":
		switch {
		case x.Request.EncodedSlash && !x.Route.KeepEncodedSlash:
			return fmt.Sprintf(`%s, and the route %q has encoded_slash = "reject"`, x.Reason, x.Route.Name)
		case x.Misread != route.AsRead:
			return fmt.Sprintf("%s; as received, it matches %q", x.Reason, x.Route.Name)
		}
	case "tls policy":
		return fmt.Sprintf("the connection was made for %s, and the host has another TLS policy", cmp.Or(q.sni, "no name"))
	}
	if x.Reason == "" && x.Filter != "" {
		return "the filter " + x.Filter + " answers"
	}
	return x.Reason
}

// head is the request as it would come over HTTP/1.1, without Host over 1.0.
func (q *question) head() []byte {
	if q.host == "" {
		return []byte(q.method + " " + q.target + " HTTP/1.0\r\n" + q.fields + "\r\n")
	}
	return []byte(q.method + " " + q.target + " HTTP/1.1\r\nHost: " + q.host + "\r\n" + q.fields + "\r\n")
}

const challengePath = "/.well-known/acme-challenge/"

// provesNames reports whether any name is validated by http-01.
func provesNames(cfg *config.Config) bool {
	by := func(a *config.ACME) bool { return a != nil && slices.Contains(a.Challenges, config.HTTP01) }
	return slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool {
		return l.TLS != nil && (by(l.TLS.ACME) || slices.ContainsFunc(l.TLS.Policies, func(p config.TLSPolicy) bool { return by(p.ACME) }))
	})
}

// policyOf is the TLS policy of a name.
func policyOf(l *config.Listener, name string) *config.TLSPolicy {
	var rules []route.Rule[*config.TLSPolicy]
	for i := range l.TLS.Policies {
		for _, host := range l.TLS.Policies[i].Hosts {
			rules = append(rules, route.Rule[*config.TLSPolicy]{Name: host, Match: route.Match{Hosts: []string{host}}, Value: &l.TLS.Policies[i]})
		}
	}
	var scratch []byte
	host, _, err := target.Host([]byte(name), &scratch)
	t, fault := route.Build(rules)
	if err == nil && fault == nil {
		if p, ok := t.MatchHost(host, ""); ok {
			return p
		}
	}
	return &l.TLS.TLSPolicy
}

func (e explained) refused(status int, why string) explained {
	e.Status, e.Why = status, why
	return e
}

// routed notes the backends of a route. choice is that among several, -1 if it is random.
func (e explained) routed(cfg *config.Config, r *proxy.Route, choice int) explained {
	for _, c := range e.Considered {
		if c.Route == r.Name {
			e.Why = c.Why
		}
	}
	e.Route = r.Name
	for i := range cfg.Routes {
		if cfg.Routes[i].Name == r.Name {
			e.lead(cfg, &cfg.Routes[i], choice)
		}
	}
	return e
}

func (e *explained) lead(cfg *config.Config, r *config.Route, choice int) {
	names := r.BackendNames()
	e.SplitBy = r.SplitBy.String()
	switch len(names) {
	case 0:
		return
	case 1:
		choice, e.SplitBy, e.SplitKey = 0, "", ""
	default:
		for _, name := range names {
			e.Split = append(e.Split, share{name, r.Share(name), serversOf(cfg, name)})
		}
	}
	if choice >= 0 {
		e.Backend, e.Servers = names[choice], serversOf(cfg, names[choice])
	}
}

// namesTime is how long explain waits for the names of a backend.
const namesTime = 5 * time.Second

// addressNotes say which addresses, or targets of SRV records, the names of a backend's servers
// have at present.
func addressNotes(ctx context.Context, cfg *config.Config, backend string) (notes []string) {
	ctx, cancel := context.WithTimeout(ctx, namesTime)
	defer cancel()
	for i := range cfg.Backends {
		b := &cfg.Backends[i]
		if b.Name != backend {
			continue
		}
		for j := range b.Servers {
			s := &b.Servers[j]
			switch {
			case !s.HasName():
				continue
			case ctx.Err() != nil:
				return append(notes, "the other names were not resolved: that took too long")
			}
			found, err := gateway.LookupFound(ctx, b, s)
			if err != nil {
				notes = append(notes, fmt.Sprintf("%s does not resolve here: %v", s.Name(), err))
				continue
			}
			notes = append(notes, fmt.Sprintf("%s is %s at present", s.Name(), someOf(found)))
		}
	}
	return notes
}

func serversOf(cfg *config.Config, backend string) (list []string) {
	for i := range cfg.Backends {
		if b := &cfg.Backends[i]; b.Name == backend {
			for _, s := range b.Servers {
				list = append(list, s.Name())
			}
		}
	}
	return list
}

func (e *explained) consider(x route.Explanation) {
	e.OtherHosts = x.OtherHosts
	for _, c := range x.Candidates {
		e.Considered = append(e.Considered, candidate{c.Name, c.Host, c.Path, c.Listener, c.Matches, c.Why})
	}
}
