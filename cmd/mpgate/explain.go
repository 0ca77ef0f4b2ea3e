package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"mpgate/config"
	"mpgate/proxy/route"
	"mpgate/proxy/target"
)

type explainCmd struct {
	configFlag
	URL      string `arg:"" help:"A URL, or a path for a request without Host."`
	Listener string `short:"l" placeholder:"NAME" help:"The listener that it comes in by; else all that speak the URL's scheme."`
	Method   string `short:"X" default:"GET" help:"The method (${default})."`
	JSON     bool   `help:"Print the explanation as JSON."`
}

func (explainCmd) Help() string {
	return `Reads the file, not the running gateway, and takes the same steps as that: one canonical host and path, then the most specific route. Exits 1 when no backend is asked.

    mpgate explain http://example.org/api/users
    mpgate explain https://example.org/ --listener secure --json`
}

func (c *explainCmd) Run(p *program) error {
	cfg, err := config.Load(c.Config, config.Options{Check: true})
	if err != nil {
		return err
	}
	tables, err := buildTables(cfg)
	if err != nil {
		return err
	}
	q, err := parseQuestion(c.Method, c.URL)
	if err != nil {
		return err
	}
	listeners, err := q.listeners(cfg, tables, c.Listener)
	if err != nil {
		return err
	}
	var answers []explained
	routed := false
	for _, l := range listeners {
		e := q.explain(cfg, tables, l)
		routed = routed || e.Backend != ""
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
}

func parseQuestion(method, url string) (q question, err error) {
	q = question{method: method, url: url, target: "/"}
	rest := url
	if scheme, after, ok := strings.Cut(url, "://"); ok {
		if q.scheme = strings.ToLower(scheme); q.scheme != "http" && q.scheme != "https" {
			return q, fmt.Errorf("URL: the scheme is http or https (got %q)", scheme)
		}
		rest = after
	}
	rest, _, _ = strings.Cut(rest, "#") // clients keep it to themselves
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
	if i := strings.LastIndexByte(q.host, '@'); i >= 0 { // as clients, which send that as Authorization
		q.host = q.host[i+1:]
	}
	if q.host == "" && q.scheme != "" {
		return q, fmt.Errorf("URL: it names no host (got %q)", url)
	}
	return q, nil
}

// listeners are those that the question may come in by.
func (q *question) listeners(cfg *config.Config, t *tables, name string) (list []*config.Listener, err error) {
	var names []string
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		names = append(names, l.Name)
		if l.Name == name || name == "" && q.fits(t, l) {
			list = append(list, l)
		}
	}
	switch {
	case len(list) > 0:
		return list, nil
	case name != "":
		return nil, fmt.Errorf("--listener: there is none of that name (got %q); there are: %s", name, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("no listener speaks what %s asks for; choose one by --listener: %s", q.url, strings.Join(names, ", "))
}

// fits says whether a client would come to l with this URL. Ports do not count: what stands in front of a gateway may
// have others.
func (q *question) fits(t *tables, l *config.Listener) bool {
	switch q.scheme {
	case "http":
		return l.TLS == nil
	case "https":
		return l.TLS != nil || t.passed(q.host, l) != nil
	}
	return true
}

// passed is the route by which TLS for a host is passed through unopened at l, nil if it is not.
func (t *tables) passed(host string, l *config.Listener) *config.Route {
	var scratch []byte
	name, _, err := target.Host([]byte(host), &scratch)
	if err != nil || l.RedirectHTTPS {
		return nil
	}
	r, _ := t.sni.Match(name, nil, l.Name)
	return r
}

// explained is what becomes of a request at one listener.
type explained struct {
	URL      string `json:"url"`
	Method   string `json:"method"`
	Listener string `json:"listener"`
	Host     string `json:"host"` // canonical
	Path     string `json:"path"` // canonical
	Query    string `json:"query,omitempty"`

	Route       string      `json:"route,omitempty"`
	Backend     string      `json:"backend,omitempty"` // "": mpgate answers
	Servers     []string    `json:"servers,omitempty"`
	Passthrough bool        `json:"passthrough,omitempty"` // TLS that is not opened
	Status      int         `json:"status,omitempty"`      // that mpgate answers with
	Why         string      `json:"why"`
	Considered  []candidate `json:"considered,omitempty"`
	OtherHosts  int         `json:"routes_for_other_hosts"`
}

type candidate struct {
	Route    string `json:"route"`
	Host     string `json:"host"`
	Path     string `json:"path"`
	Listener string `json:"listener"`
	Matches  bool   `json:"matches"`
	Why      string `json:"why"`
}

// explain takes the steps that the data plane takes, in its order.
func (q *question) explain(cfg *config.Config, t *tables, l *config.Listener) explained {
	e := explained{URL: q.url, Method: q.method, Listener: l.Name}
	var scratch []byte
	if q.host != "" {
		host, _, err := target.Host([]byte(q.host), &scratch)
		if err != nil {
			return e.refused(400, err.Error())
		}
		e.Host = string(host)
	}
	tls := l.TLS != nil && q.scheme != "http"
	if (tls || q.scheme == "https") && t.passed(q.host, l) != nil {
		e.Passthrough = true
		return e.routed(cfg, t.sni, t.sni.Explain([]byte(e.Host), nil, l.Name))
	}
	switch {
	case l.TLS == nil && q.scheme == "https":
		return e.refused(0, "the listener speaks no TLS")
	case l.TLS != nil && q.scheme == "http":
		return e.refused(0, "the listener speaks TLS only")
	}
	if q.method == http.MethodConnect {
		return e.refused(405, "CONNECT is not served")
	}
	parts, err := target.Split([]byte(q.method), []byte(q.target))
	if err != nil {
		return e.refused(400, err.Error())
	}
	path, flags := parts.Path, target.Flags(0)
	if parts.Form != target.Asterisk {
		if path, flags, err = target.Path(parts.Path, &scratch); err != nil {
			return e.refused(400, err.Error())
		}
		query, err := target.Query(parts.Query, &scratch)
		if err != nil {
			return e.refused(400, err.Error())
		}
		e.Query = string(query)
	}
	e.Path = string(path)
	if l.HealthPath != "" && e.Path == l.HealthPath {
		return e.refused(200, "it is the listener's health_path, which mpgate answers")
	}
	if l.RedirectHTTPS && !tls && e.Host == "" {
		return e.refused(400, "a request without Host cannot be redirected to https")
	}
	if l.RedirectHTTPS && !tls {
		return e.refused(308, "the listener redirects to https (redirect_https)")
	}
	x := t.http.Explain([]byte(e.Host), path, l.Name)
	if x.Chosen < 0 {
		e.consider(x)
		return e.refused(404, "no route matches")
	}
	chosen, _ := t.http.Match([]byte(e.Host), path, l.Name)
	if flags&target.EncodedSlash != 0 && chosen.EncodedSlash != config.Keep {
		e.consider(x)
		return e.refused(400, fmt.Sprintf(`the path holds an encoded slash, and the route %q has encoded_slash = "reject"`, chosen.Name))
	}
	if flags != 0 {
		if other, _ := t.http.Match([]byte(e.Host), target.Decoded(path, &scratch), l.Name); other != chosen {
			e.consider(x)
			return e.refused(400, fmt.Sprintf("a server that decodes the path first would serve what another route than %q guards", chosen.Name))
		}
	}
	return e.routed(cfg, t.http, x)
}

func (e explained) refused(status int, why string) explained {
	e.Status, e.Why = status, why
	return e
}

func (e explained) routed(cfg *config.Config, t *route.Table[*config.Route], x route.Explanation) explained {
	e.consider(x)
	path := []byte(e.Path)
	if e.Passthrough {
		path = nil
	}
	r, _ := t.Match([]byte(e.Host), path, e.Listener)
	e.Route, e.Backend, e.Why = r.Name, r.Backend, x.Candidates[x.Chosen].Why
	for i := range cfg.Backends {
		if b := &cfg.Backends[i]; b.Name == r.Backend {
			for _, s := range b.Servers {
				e.Servers = append(e.Servers, s.Address.String())
			}
		}
	}
	return e
}

func (e *explained) consider(x route.Explanation) {
	e.OtherHosts = x.OtherHosts
	for _, c := range x.Candidates {
		e.Considered = append(e.Considered, candidate{c.Name, c.Host, c.Path, c.Listener, c.Matches, c.Why})
	}
}

func printExplained(w io.Writer, list []explained) error {
	for i, e := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s %s at the listener %s\n", e.Method, e.URL, e.Listener)
		t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
		if e.Host != "" {
			fmt.Fprintf(t, "  host\t%s\n", e.Host)
		}
		if e.Path != "" {
			fmt.Fprintf(t, "  path\t%s\n", e.Path)
		}
		if e.Backend == "" {
			fmt.Fprintf(t, "  answer\t%s, by mpgate itself: %s\n", answerText(e.Status), e.Why)
		} else {
			fmt.Fprintf(t, "  route\t%s, %s\n", e.Route, e.Why)
			how := ""
			if e.Passthrough {
				how = ", TLS unopened"
			}
			fmt.Fprintf(t, "  backend\t%s%s: %s\n", e.Backend, how, strings.Join(e.Servers, ", "))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		printConsidered(w, &e)
	}
	return nil
}

func answerText(status int) string {
	if status == 0 {
		return "none"
	}
	return fmt.Sprintf("%d %s", status, http.StatusText(status))
}

func printConsidered(w io.Writer, e *explained) {
	if len(e.Considered) > 0 {
		fmt.Fprintln(w, "considered, in this order:")
	}
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	for _, c := range e.Considered {
		fmt.Fprintf(t, "  %s\thost %s\tpath %s\tlistener %s\t%s\n",
			c.Route, cmp.Or(c.Host, "any"), cmp.Or(c.Path, "any"), cmp.Or(c.Listener, "any"), c.Why)
	}
	_ = t.Flush()
	if e.OtherHosts > 0 {
		fmt.Fprintf(w, "routes for other hosts: %d\n", e.OtherHosts)
	}
}
