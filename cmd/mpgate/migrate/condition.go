package migrate

import (
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// condition is what an if compares.
type condition struct {
	variable string // without $
	op       string // "=", "!=", "~", "~*", "!~", "!~*"; "" for whether it is set
	value    string
}

// conditionOf parses the arguments of an if; the zero value is for what is not understood, such as
// -f.
func conditionOf(d *nginxconf.Directive) (c condition) {
	args := slices.Clone(d.Args)
	if len(args) == 0 || !strings.HasPrefix(args[0], "(") || !strings.HasSuffix(args[len(args)-1], ")") {
		return c
	}
	args[0] = args[0][1:]
	last := &args[len(args)-1]
	*last = strings.TrimSuffix(*last, ")")
	args = slices.DeleteFunc(args, func(s string) bool { return s == "" && len(args) > 3 })
	if len(args) == 2 && args[1] == "" { // ( $x )
		args = args[:1]
	}
	if len(args) == 0 || !strings.HasPrefix(args[0], "$") {
		return c
	}
	c.variable = args[0][1:]
	if len(args) == 1 {
		return c
	}
	if len(args) == 2 && slices.Contains([]string{"=", "!="}, args[1]) {
		args = append(args, "")
	}
	if len(args) != 3 || !slices.Contains([]string{"=", "!=", "~", "~*", "!~", "!~*"}, args[1]) {
		return condition{}
	}
	c.op, c.value = args[1], args[2]
	return c
}

// refinement is what a condition adds to a match. negated: it holds for what the rest of the
// location does, and the if is for all others.
type refinement struct {
	key     string // of match: method, header, query, cookie
	name    string // of a header field, parameter or cookie
	values  []string
	negated bool
}

// refine translates a condition; ok is false if mpgate cannot match it.
func refine(c condition) (r refinement, ok bool) {
	switch {
	case c.variable == "request_method":
		r.key = "method"
	case c.variable == "http_host":
		return r, false
	case strings.HasPrefix(c.variable, "http_"):
		r.key, r.name = "header", fieldName(c.variable[5:])
	case strings.HasPrefix(c.variable, "cookie_"):
		r.key, r.name = "cookie", c.variable[7:]
	case strings.HasPrefix(c.variable, "arg_"):
		r.key, r.name = "query", c.variable[4:]
	default:
		return r, false
	}
	switch c.op {
	case "":
		r.values = []string{"*"}
	case "=", "!=":
		r.values, r.negated = []string{c.value}, c.op == "!="
	default:
		fold := strings.HasSuffix(c.op, "*")
		re, err := parseExpression(c.value, fold)
		if err != nil || fold {
			return r, false
		}
		if r.values = literals(re); r.values == nil && r.key == "method" {
			r.values = words(c.value)
		}
		r.negated = c.op[0] == '!'
	}
	return r, len(r.values) == 1 && r.name != "" || len(r.values) > 0 && r.key == "method"
}

// words splits an expression such as GET|POST, which nginx finds anywhere in a method.
func words(expr string) []string {
	list := strings.Split(strings.Trim(expr, "()"), "|")
	for _, w := range list {
		if w == "" || strings.Trim(w, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return nil
		}
	}
	return list
}

// apply adds a refinement to a match.
func (r refinement) apply(match *table, d *nginxconf.Directive) {
	if r.key == "method" {
		match.set("method", list(r.values), d)
		return
	}
	match.child(r.key, d).set(r.name, r.values[0], d)
}

// conditions writes the routes of a location: one for each if that mpgate can match, and one for
// the rest. Ifs of the server count as well.
func (t *translator) conditions(s *site, l *location) {
	var rest []refinement
	for sc := l.scope; sc != nil && sc != s.scope.outer; sc = sc.outer {
		for _, d := range sc.here("if") {
			if r, ok := t.condition(s, l, d); ok && r.negated {
				r.negated = false
				rest = append(rest, r)
			}
		}
	}
	if d := l.scope.first("limit_except"); d != nil {
		rest = append(rest, t.limitExcept(s, l, d))
	}
	t.route(s, l, rest)
}

// condition writes the route of one if.
func (t *translator) condition(s *site, l *location, d *nginxconf.Directive) (r refinement, ok bool) {
	if schemeIs(d, "http") || schemeIs(d, "https") {
		if _, host := hostOf(d); t.done[d] && !host {
			return r, false
		}
	}
	if t.done[d] {
		return r, false
	}
	inner := l.scope.inner(d)
	acts := inner.first("return", "rewrite", "proxy_pass", "deny") != nil
	r, ok = refine(conditionOf(d))
	if !ok || !acts {
		t.ifLeft(d, inner, acts)
		return r, false
	}
	one := *l
	one.scope, one.block = inner, true
	if inner.first("return", "rewrite", "proxy_pass") == nil {
		return r, false
	}
	if r.negated {
		t.route(s, &one, nil)
	} else {
		t.route(s, &one, []refinement{r})
	}
	return r, true
}

// ifLeft says why an if was left out.
func (t *translator) ifLeft(d *nginxconf.Directive, inner *scope, acts bool) {
	c := conditionOf(d)
	why := "left out: mpgate matches whole values of methods, header fields, cookies and parameters (match.method, header, cookie, query), not %s"
	switch {
	case d.Arg(0) == "(-f" || d.Arg(0) == "(!-f" || d.Arg(0) == "(-e" || d.Arg(0) == "(!-e" || d.Arg(0) == "(-d" || d.Arg(0) == "(!-d":
		t.say(d, "left out: files = { root = …, fallback = … } tries the file first")
		return
	case !acts && c.variable != "":
		t.say(d, "left out: write a route with this condition in its match, which does what the block does")
		return
	}
	text := strings.Join(d.Args, " ")
	if restricts(inner) {
		t.alarm(d, why, text)
		return
	}
	t.say(d, why, text)
}

// limitExcept writes the route of the methods that are restricted, and returns those that are not.
func (t *translator) limitExcept(s *site, l *location, d *nginxconf.Directive) refinement {
	one := *l
	one.scope = l.scope.inner(d)
	for _, h := range l.scope.here("proxy_pass", "return", "try_files", "root", "alias") {
		one.scope.list = append(slices.Clone(one.scope.list), h)
	}
	t.route(s, &one, nil)
	methods := slices.Clone(d.Args)
	if slices.Contains(methods, "GET") && !slices.Contains(methods, "HEAD") {
		methods = append(methods, "HEAD")
	}
	return refinement{key: "method", values: methods}
}
