package route

import (
	"cmp"
	"fmt"
)

// pattern is one way to match a rule: one of its hosts, one of its paths, and its conditions.
type pattern struct {
	host       hostPattern
	path       pathPattern
	listener   string
	conditions conditions
	rule       int32 // as given to Build
}

// parse returns the patterns of a rule and everything that is wrong with it.
func parse(rule int, name string, m *Match) (patterns []*pattern, errs []error) {
	refuse := func(key, value, why string) {
		if why != "" {
			errs = append(errs, &RuleError{Index: rule, Name: name, Key: key, Value: value, Why: why})
		}
	}
	var hosts []hostPattern
	seen := map[string]bool{}
	for _, s := range m.Hosts {
		h, why := parseHost(s)
		if why == "" && seen[h.String()] {
			why = "listed twice"
		}
		seen[h.String()] = true
		refuse("host", s, why)
		hosts = append(hosts, h)
	}
	if len(hosts) == 0 {
		hosts = []hostPattern{{kind: hostAny}}
	}
	clear(seen)
	var paths []pathPattern
	for _, s := range m.Paths {
		p, why := parsePath(s)
		if why == "" && seen[p.full] {
			why = "listed twice"
		}
		seen[p.full] = true
		refuse("path", s, why)
		paths = append(paths, p)
	}
	if m.PathRegex != "" {
		p, why := parseRegexp(m.PathRegex)
		if len(paths) > 0 {
			why = "cannot be combined with path; keep one of them"
		}
		refuse("path_regex", m.PathRegex, why)
		paths = append(paths, p)
	}
	if len(paths) == 0 {
		paths = []pathPattern{{kind: pathAny}}
	}
	conditions, faults := newConditions(m)
	for _, f := range faults {
		refuse(f.key, f.value, f.why)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	for _, h := range hosts {
		for _, p := range paths {
			patterns = append(patterns, &pattern{h, p, m.Listener, conditions, int32(rule)})
		}
	}
	return patterns, nil
}

// compare orders patterns such that of all that match a request the first is the most specific. The
// order of the rules decides only among those with conditions, and among regexps.
func (p *pattern) compare(q *pattern) int {
	return cmp.Or(
		p.host.compare(q.host),
		p.path.compare(&q.path),
		boolCompare(p.listener == "", q.listener == ""),
		cmp.Compare(p.listener, q.listener),
		boolCompare(len(p.conditions) == 0, len(q.conditions) == 0),
		cmp.Compare(p.rule, q.rule),
	)
}

// boolCompare puts false first.
func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// sameButConditions reports whether p and q differ in their conditions only.
func (p *pattern) sameButConditions(q *pattern) bool {
	return p.host == q.host && p.listener == q.listener && p.path.kind == q.path.kind && p.path.full == q.path.full
}

// String shows the pattern in messages.
func (p *pattern) String() string {
	s := fmt.Sprintf("host %s, path %s", orAny(p.host.String()), orAny(p.path.text))
	if p.listener != "" {
		s += fmt.Sprintf(", listener %q", p.listener)
	}
	if len(p.conditions) > 0 {
		s += ", " + p.conditions.String()
	}
	return s
}

// advantage says why p comes before q, which matches the same request.
func (p *pattern) advantage(q *pattern) string {
	switch {
	case p.host.kind != q.host.kind && p.host.kind == hostExact:
		return "names the host exactly"
	case p.host.kind != q.host.kind && q.host.kind == hostAny:
		return "names the host by a wildcard"
	case p.host != q.host && p.host.kind == hostLabel:
		return "names the end of the host, and its wildcard is one label"
	case p.host != q.host:
		return "names more of the host"
	case p.path.kind != q.path.kind && p.path.kind == pathExact:
		return "names the path exactly"
	case p.path.kind == pathPrefix && q.path.kind == pathPrefix && p.path.text != q.path.text:
		return "has the longer path"
	case p.path.kind == pathRegexp && q.path.kind == pathAny:
		return "has an expression for the path"
	case p.path.kind != pathAny && q.path.kind == pathAny:
		return "has a path"
	case p.path.rank() != q.path.rank():
		return "names the path by segments"
	case p.path.compare(&q.path) != 0:
		return "has the more specific path, segment by segment"
	case p.listener != q.listener:
		return "names the listener"
	case len(q.conditions) == 0 && len(p.conditions) > 0:
		return "has further conditions"
	}
	return "comes first in the file"
}
