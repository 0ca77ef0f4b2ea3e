package migrate

import (
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// site is one server at one place.
type site struct {
	*server
	place     place
	locations []*location
	named     map[string]*scope
	// gone are hosts that the server redirects as a whole.
	gone []string
}

// routesOf writes the routes of a server.
func (t *translator) routesOf(s *server, groups []*group) {
	locations, named := t.locations(s.scope)
	locations = t.match(s.scope, locations)
	places := t.places(s, groups)
	if len(places) == 0 && !slices.ContainsFunc(groups, func(g *group) bool { return g.redirects && slices.Contains(g.servers, s) }) {
		t.say(s.d, "left out: it has no server_name that mpgate can match, and is not the default server")
	}
	for _, p := range places {
		t.site(&site{server: s, place: p, locations: locations, named: named})
	}
}

func (t *translator) site(s *site) {
	if done := t.serverConditions(s); done {
		return
	}
	if r := s.scope.first("return"); r != nil {
		t.route(s, &location{d: r, scope: s.scope}, nil)
		return
	}
	for _, d := range s.scope.here("rewrite") {
		t.serverRewrite(s, d)
	}
	rest := false // a location takes what no other does
	for _, l := range s.locations {
		if l.kind == "lost" {
			continue
		}
		rest = rest || (l.kind == "" || l.kind == "^~") && l.pattern == "/"
		if strings.HasPrefix(l.pattern, "/.well-known/acme-challenge") {
			t.say(l.d, "not needed with [listener.tls] acme: mpgate obtains certificates and answers the challenges")
		}
		t.conditions(s, l)
	}
	if !rest { // what nginx does without a location: a file of root
		t.conditions(s, &location{d: s.d, scope: &scope{outer: s.scope}})
	}
}

// serverConditions translates the if blocks of a server that compare the host or the scheme. done:
// nothing remains of the server.
func (t *translator) serverConditions(s *site) (done bool) {
	for _, d := range s.scope.here("if") {
		inner := s.scope.inner(d)
		r := inner.first("return", "rewrite")
		switch {
		case r == nil:
		case schemeIs(d, "http"):
			t.done[d] = true
			if !s.place.ssl {
				t.route(s, &location{d: d, scope: inner}, nil)
				return true
			}
		case schemeIs(d, "https"):
			t.done[d] = true
			if s.place.ssl {
				t.route(s, &location{d: d, scope: inner}, nil)
				return true
			}
		default:
			host, ok := hostOf(d)
			if !ok {
				continue
			}
			t.done[d] = true
			one := *s
			one.place.hosts = []string{host}
			t.route(&one, &location{d: d, scope: inner}, nil)
			s.gone = append(s.gone, host)
		}
	}
	if len(s.gone) > 0 && s.place.hosts != nil {
		s.place.hosts = slices.DeleteFunc(slices.Clone(s.place.hosts), func(h string) bool { return slices.Contains(s.gone, h) })
		return len(s.place.hosts) == 0
	}
	return false
}

// schemeIs reports whether a condition is ($scheme = x), in one of its forms.
func schemeIs(d *nginxconf.Directive, scheme string) bool {
	c := conditionOf(d)
	isHTTPS := c.variable == "https" && c.op == "=" && (c.value == "on") == (scheme == "https") && (c.value == "on" || c.value == "")
	return c.variable == "scheme" && (c.op == "=" && c.value == scheme || c.op == "!=" && c.value != scheme && (c.value == "http" || c.value == "https")) || isHTTPS
}

// hostOf returns the host that a condition compares with.
func hostOf(d *nginxconf.Directive) (string, bool) {
	c := conditionOf(d)
	if c.variable != "host" && c.variable != "http_host" {
		return "", false
	}
	if c.op == "=" {
		return strings.ToLower(c.value), true
	}
	if c.op == "~" || c.op == "~*" {
		if re, err := parseExpression(c.value, true); err == nil {
			if texts := literals(re); len(texts) == 1 {
				return texts[0], true
			}
		}
	}
	return "", false
}

// serverRewrite translates a rewrite outside of locations.
func (t *translator) serverRewrite(s *site, d *nginxconf.Directive) {
	t.done[d] = true
	flag := d.Arg(2)
	if flag != "permanent" && flag != "redirect" && !strings.HasPrefix(d.Arg(1), "http") {
		t.say(d, "left out: write a route with match.path and rewrite for it: a route rewrites only once, after it was chosen")
		return
	}
	if _, err := parseExpression(d.Arg(0), false); err != nil {
		t.say(d, "left out: the expression is not one of RE2: %v", err)
		return
	}
	l := &location{d: d, scope: &scope{outer: s.scope, list: []*nginxconf.Directive{d}}, regex: d.Arg(0)}
	if !strings.Contains(d.Arg(1), "$1") {
		if re, _ := parseExpression(d.Arg(0), false); globs(re) != nil {
			l.regex, l.paths = "", globs(re)
		}
	} else {
		t.say(d, "in mpgate paths come before expressions: the routes with match.path take their requests first")
	}
	t.route(s, l, nil)
}
