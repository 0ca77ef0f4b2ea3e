package migrate

import (
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// server is a server block of http.
type server struct {
	d       *nginxconf.Directive
	scope   *scope
	listens []listen
	names   []string // patterns of mpgate
	// nameless: a server that is only reached as the default one of a listener.
	nameless bool
}

func (t *translator) server(d *nginxconf.Directive, sc *scope) *server {
	s := &server{d: d, scope: sc}
	for _, l := range sc.here("listen") {
		if one := t.parseListen(l); !one.udp {
			one.ssl = one.ssl || sc.on("ssl")
			one.h2 = one.h2 || sc.on("http2")
			s.listens = append(s.listens, one)
		}
	}
	switch {
	case len(s.listens) > 0:
	case len(sc.here("listen")) > 0:
		return nil // only by protocols that mpgate does not speak
	default:
		s.listens = []listen{t.parseListen(nil)}
		s.listens[0].d = d
	}
	for _, n := range sc.here("server_name") {
		for _, name := range n.Args {
			t.serverName(s, n, name)
		}
	}
	s.nameless = len(s.names) == 0
	return s
}

// serverName adds the patterns of one name.
func (t *translator) serverName(s *server, d *nginxconf.Directive, name string) {
	add := func(names ...string) {
		for _, n := range names {
			if !slices.Contains(s.names, n) {
				s.names = append(s.names, n)
			}
		}
	}
	lower := strings.ToLower(name)
	switch {
	case name == "" || name == "_" || strings.Trim(name, "_-") == "" || name == "$hostname":
		// The conventional names for none.
	case strings.HasPrefix(name, "~"):
		expr, err := parseExpression(name[1:], true)
		if err != nil {
			t.say(d, "%s: left out: the expression is not one of RE2: %v", name, err)
			return
		}
		texts := literals(expr)
		if texts == nil {
			t.say(d, `%s: left out: mpgate matches names, "*.example.org" and "cloud.*"; list the names in match.host`, name)
			return
		}
		add(texts...)
	case strings.HasPrefix(name, "."):
		t.say(d, `%s: in mpgate "*" stands for one label, in nginx for any number`, name)
		add(lower[1:], "*"+lower)
	case strings.HasPrefix(name, "*."):
		t.say(d, `%s: in mpgate "*" stands for one label, in nginx for any number`, name)
		add(lower)
	default:
		add(strings.TrimSuffix(lower, "."))
	}
}

// certNames are the names that a TLS policy can be for.
func (s *server) certNames() (out []string) {
	for _, n := range s.names {
		if !strings.HasSuffix(n, ".*") {
			out = append(out, n)
		}
	}
	return out
}

// label is the beginning of the names of its routes.
func (s *server) label() string {
	if len(s.names) > 0 {
		return strings.ReplaceAll(s.names[0], "*", "any")
	}
	return "default"
}

// place is where routes of a server stand: the listener, "" for every one, and the hosts, nil for
// all.
type place struct {
	listener string
	hosts    []string
	ssl      bool
}

// places returns where a server is reached.
func (t *translator) places(s *server, groups []*group) (out []place) {
	var on, others []*group
	for _, g := range groups {
		switch {
		case g.redirects:
		case slices.Contains(g.servers, s):
			on = append(on, g)
		default:
			others = append(others, g)
		}
	}
	for _, g := range on {
		one := place{listener: g.name, ssl: g.ssl()}
		if g.def != s {
			one.hosts = s.names
			if s.nameless {
				continue
			}
		} else if g.covered(s) {
			out = append(out, place{g.name, s.names, g.ssl()})
		}
		out = append(out, one)
	}
	if len(others) > 0 || len(out) != len(on) || slices.ContainsFunc(out, func(p place) bool {
		return (p.hosts == nil) != (out[0].hosts == nil) || p.ssl != out[0].ssl && s.dependsOnScheme()
	}) {
		return out
	}
	if len(out) == 0 {
		return nil
	}
	return []place{{"", out[0].hosts, out[0].ssl}}
}

// dependsOnScheme reports whether the block does another thing for http than for https.
func (s *server) dependsOnScheme() bool {
	return slices.ContainsFunc(s.scope.here("if"), func(d *nginxconf.Directive) bool { return d.Arg(0) == "($scheme" })
}

// covered reports whether a pattern of another server matches a name of the default server, which
// therefore needs routes for its names beside those for all others.
func (g *group) covered(s *server) bool {
	for _, o := range g.servers {
		for _, pattern := range o.names {
			for _, name := range s.names {
				front, isTail := strings.CutSuffix(pattern, ".*")
				_, after, _ := strings.Cut(name, ".")
				if o != s && (isTail && strings.HasPrefix(name, front+".") || pattern == "*."+after) {
					return true
				}
			}
		}
	}
	return false
}
