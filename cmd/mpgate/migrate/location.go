package migrate

import (
	"regexp"
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
	"mpgate/proxy/target"
)

// location is a location block that requests of clients reach.
type location struct {
	d       *nginxconf.Directive
	scope   *scope
	kind    string // "=", "^~", "" (a prefix), "~" (an expression)
	pattern string
	// block is true for the block of an if in the location, which inherits its handler.
	block bool
	// What it matches here: paths or an expression. Neither: all that no other location matches.
	paths []string
	regex string
}

// locations returns those of a server, nested ones too, and its named ones (@name) by name.
func (t *translator) locations(sc *scope) (out []*location, named map[string]*scope) {
	named = map[string]*scope{}
	for _, d := range sc.here("location") {
		inner := sc.inner(d)
		l := &location{d: d, scope: inner, pattern: d.Arg(len(d.Args) - 1)}
		if len(d.Args) > 1 {
			l.kind = d.Arg(0)
		} else {
			for _, kind := range []string{"=", "^~", "~*", "~"} { // location =/path
				if rest, ok := strings.CutPrefix(l.pattern, kind); ok {
					l.kind, l.pattern = kind, rest
					break
				}
			}
		}
		if strings.HasPrefix(l.pattern, "@") {
			named[l.pattern] = inner
			continue
		}
		out = append(out, l)
		nested, more := t.locations(inner)
		out = append(out, nested...)
		for name, s := range more {
			named[name] = s
		}
	}
	return out, named
}

// match fills in paths or regex of all locations of a server, and returns them. Where hidden files
// except /.well-known are matched, that gets a location of its own, which does what / does.
func (t *translator) match(sc *scope, list []*location) []*location {
	const wellKnown = "/.well-known"
	excepted := slices.ContainsFunc(list, func(l *location) bool { return strings.Contains(l.pattern, exceptWellKnown) })
	if excepted && !slices.ContainsFunc(list, func(l *location) bool { return strings.TrimSuffix(l.pattern, "/") == wellKnown }) {
		one := &location{d: sc.list[0], scope: &scope{outer: sc}, pattern: "/"}
		for _, l := range list {
			if l.pattern == "/" && (l.kind == "" || l.kind == "^~") {
				*one = *l
			}
		}
		defer func() { one.paths, one.kind = []string{wellKnown + "/*"}, "^~" }()
		list = append(list, one)
	}
	return t.matchAll(list)
}

// exceptWellKnown is how expressions for hidden files except /.well-known look ahead.
const exceptWellKnown = "(?!well-known)"

func (t *translator) matchAll(list []*location) []*location {
	var prefixes []string // those that yield to expressions
	for _, l := range list {
		if (l.kind == "" || l.kind == "^~") && l.prefix(t) && l.kind == "" && l.pattern != "/" {
			prefixes = append(prefixes, strings.TrimSuffix(l.pattern, "/"))
		}
	}
	for _, l := range list {
		switch l.kind {
		case "=":
			l.paths = []string{l.pattern}
		case "~", "~*":
			fold := l.kind == "~*" && restricts(l.scope)
			if l.expression(t, prefixes); fold && l.regex == "" && l.kind != "lost" {
				// Patterns match lower case only; what restricts access must match all.
				other := *l
				other.paths, other.regex = nil, "(?i)"+l.pattern
				list = append(list, &other)
			}
		}
	}
	if slices.ContainsFunc(list, func(l *location) bool { return l.regex != "" }) {
		// A route without a path comes after those with an expression.
		for _, l := range list {
			if l.kind == "" && l.pattern == "/" {
				l.paths = nil
			}
		}
	}
	return list
}

// fileName is the end of a prefix that is one file, such as /favicon.ico.
var fileName = regexp.MustCompile(`^.+\.[a-z0-9]{2,5}$`)

// prefix translates a location without an expression.
func (l *location) prefix(t *translator) bool {
	p := strings.TrimSuffix(l.pattern, "/")
	last := p[strings.LastIndexByte(p, '/')+1:]
	switch {
	case !strings.HasPrefix(l.pattern, "/"):
		t.say(l.d, "left out: the path does not begin with /")
		return false
	case p == l.pattern && fileName.MatchString(last):
		l.paths = []string{p} // a file
	default:
		l.paths = []string{p + "/*"}
	}
	return true
}

// expression translates a location with an expression. It comes before the locations with the given
// prefixes, as in nginx, if it can be written as patterns.
func (l *location) expression(t *translator, prefixes []string) {
	expr := l.pattern
	fold := l.kind == "~*"
	l.kind = "~"
	visible := strings.ReplaceAll(expr, exceptWellKnown, "")
	re, err := parseExpression(visible, fold)
	if err != nil {
		t.lost(l.scope, l.d, "the expression is not one of RE2 (%v); write it without look-around and back references, as match.path_regex", err)
		l.kind = "lost"
		return
	}
	if paths := globs(re); paths != nil && (visible == expr || strings.HasSuffix(strings.TrimSuffix(visible, ".*"), `/\.`)) {
		l.paths = paths
		for _, p := range prefixes {
			for _, g := range paths {
				if strings.HasPrefix(g, "*") {
					g = "/**/" + g
				}
				if strings.HasPrefix(g, "/**/") && len(l.paths) < 200 {
					l.paths = append(l.paths, p+g)
				}
			}
		}
		if fold && expr != strings.ToUpper(expr) {
			const text = "in mpgate this path matches lower case only; use match.path_regex with (?i) to match upper case, too"
			if len(prefixes) > 0 && restricts(l.scope) {
				t.alarm(l.d, "below %s "+text, strings.Join(prefixes, ", "))
			} else if !restricts(l.scope) {
				t.say(l.d, text)
			}
		}
		return
	}
	if visible != expr {
		t.lost(l.scope, l.d, "the expression looks ahead, which is not possible here")
		l.kind = "lost"
		return
	}
	if l.regex = expr; fold {
		l.regex = "(?i)" + expr
	}
	if len(prefixes) > 0 {
		const order = "in mpgate paths come before expressions, so that the locations %s take their requests first"
		if restricts(l.scope) {
			t.alarm(l.d, order, strings.Join(prefixes, ", "))
		} else {
			t.say(l.d, order, strings.Join(prefixes, ", "))
		}
	}
}

// lost says that a location is left out, with an alarm if it restricts access.
func (t *translator) lost(sc *scope, d *nginxconf.Directive, format string, args ...any) {
	if restricts(sc) {
		t.alarm(d, format, args...)
		return
	}
	t.say(d, "left out: "+format, args...)
}

// restricts reports whether a location restricts access more than those around it.
func restricts(sc *scope) bool {
	if len(sc.here("deny", "auth_basic", "auth_request", "auth_jwt", "internal", "limit_except", "satisfy")) > 0 {
		return true
	}
	r := sc.first("return")
	return r != nil && strings.HasPrefix(r.Arg(0), "4")
}

// canonical returns a path as routes match it.
func canonical(path string) string {
	var scratch []byte
	p, flags, err := target.Path([]byte(path), &scratch)
	if err != nil || flags&target.RepeatedSlash != 0 {
		return path
	}
	return string(p)
}
