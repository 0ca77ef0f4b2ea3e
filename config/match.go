package config

import (
	"errors"
	"fmt"
	"strings"

	"mpgate/proxy/route"
)

// Rule is what package route matches. A server name that is passed through is matched as if it were
// the host.
func (m *Match) Rule() route.Match {
	r := route.Match{Hosts: m.Hosts, Paths: m.Paths, PathRegex: m.PathRegex, Listener: m.Listener, Methods: m.Methods,
		Header: m.Header, Query: m.Query, Cookie: m.Cookie, Clients: Prefixes(m.Clients)}
	if m.SNI != "" && m.SNI != AnySNI {
		r.Hosts = []string{m.SNI}
	}
	return r
}

// matches has package route look at what the routes match: what cannot be matched, routes that
// match the same requests, and routes that are never reached.
func (l *loader) matches(c *Config, t tables) {
	tcp := c.TCPListeners()
	for _, sni := range []bool{false, true} {
		var rules []route.Rule[int]
		for i := range c.Routes {
			r := &c.Routes[i]
			if (r.Match.SNI != "") == sni && !tcp[r.Match.Listener] && !l.matchFaulty(t.routes[i].get("match")) {
				rules = append(rules, route.Rule[int]{Name: r.Name, Match: r.Match.Rule(), Value: i})
			}
		}
		_, err := route.Build(rules)
		var all interface{ Unwrap() []error }
		if errors.As(err, &all) {
			for _, err := range all.Unwrap() {
				l.matchFault(err, func(i int) *node { return t.routes[rules[i].Value].get("match") })
			}
		}
	}
}

// matchFaulty reports whether a match is not known, or a fault was found in it.
func (l *loader) matchFaulty(match *node) bool {
	if match.unset("host", "path", "path_regex", "listener", "method", "header", "query", "cookie", "client", "sni") {
		return true
	}
	key := match.at.key()
	for _, f := range l.faults {
		if f.Severity == Error && strings.HasPrefix(f.Key, key) {
			return true
		}
	}
	return false
}

// matchFault reports an error of route.Build; match returns the node of a rule.
func (l *loader) matchFault(err error, match func(rule int) *node) {
	var bad *route.RuleError
	var tie *route.TieError
	var dead *route.UnreachableError
	switch {
	case errors.As(err, &bad):
		n := match(bad.Index)
		for step := range strings.SplitSeq(bad.Key, ".") {
			if n.isTable() {
				n = n.get(step)
			}
		}
		l.fault(n.at, "%s (got %s)", bad.Why, quote(bad.Value))
	case errors.As(err, &tie):
		first := match(tie.FirstIndex).at
		l.fault(match(tie.SecondIndex).at, "is the same as that of the route %q (%s:%d): neither is more specific; change one of them", tie.First, first.file, first.line)
	case errors.As(err, &dead):
		first := match(dead.ByIndex).at
		l.fault(match(dead.Index).at, "is never reached: that of the route %q (%s:%d) comes first and matches all its requests (%s); make this one more specific or remove it", dead.By, first.file, first.line, dead.ByPattern)
	}
}

// routeHost parses the host of a request. Unlike other hosts it may end in ".*".
func routeHost(s, _ string) (canonical, problem string) {
	name, isTail := strings.CutSuffix(s, ".*")
	if !isTail {
		return matchHost(s, true)
	}
	if name, problem = hostName(name, false); problem != "" {
		return "", fmt.Sprintf(`%s; write "cloud.*" for all names that begin with "cloud."`, problem)
	}
	return name + ".*", ""
}
