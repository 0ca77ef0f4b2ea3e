package route

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mpgate/proxy/target"
)

// oracle says in the slow and obvious way which rule a request gets. It tries every host with every
// path of every rule.
type oracle struct{ entries []oracleEntry }

type oracleEntry struct {
	rule       int
	name       string
	host, path string
	match      *Match
	expression *regexp.Regexp // of the path; nil for any
}

func newOracle(rules []rule) (o oracle) {
	for i := range rules {
		m := &rules[i].Match
		hosts, paths := m.Hosts, m.Paths
		if len(hosts) == 0 {
			hosts = []string{""}
		}
		if m.PathRegex != "" {
			paths = []string{"~" + m.PathRegex}
		}
		if len(paths) == 0 {
			paths = []string{""}
		}
		for _, h := range hosts {
			for _, p := range paths {
				e := oracleEntry{rule: i, name: rules[i].Name, host: h, path: p, match: m}
				if s, ok := strings.CutPrefix(p, "~"); ok {
					e.expression = regexp.MustCompile(s)
				} else if p != "" {
					e.expression = regexp.MustCompile(globExpression(p))
				}
				o.entries = append(o.entries, e)
			}
		}
	}
	return o
}

// globExpression translates a path pattern.
func globExpression(pattern string) string {
	if pattern[0] == '*' {
		pattern = "/**/" + pattern
	}
	segments := strings.Split(pattern[1:], "/")
	expression := "^"
	for i, s := range segments {
		switch {
		case s == "*" && i == len(segments)-1:
			expression += "(?:/.*)?"
		case s == "*":
			expression += "/[^/]+"
		case s == "**":
			expression += "(?:/[^/]*)*"
		default:
			expression += "/" + strings.ReplaceAll(regexp.QuoteMeta(s), `\*`, "[^/]*")
		}
	}
	return expression + "$"
}

func (e *oracleEntry) matches(q *Request) bool {
	host, path := string(q.Host), string(q.Path)
	switch {
	case e.host == "" || e.host == host:
	case strings.HasPrefix(e.host, "*."):
		if label, parent, ok := strings.Cut(host, "."); !ok || label == "" || "*."+parent != e.host {
			return false
		}
	case strings.HasSuffix(e.host, ".*"):
		if !strings.HasPrefix(host, strings.TrimSuffix(e.host, "*")) {
			return false
		}
	default:
		return false
	}
	if e.expression != nil && (path == "" || path[0] != '/' || !e.expression.MatchString(path)) {
		return false
	}
	if e.match.Listener != "" && e.match.Listener != q.Listener {
		return false
	}
	if len(e.match.Methods) > 0 && !slices.Contains(e.match.Methods, string(q.Method)) {
		return false
	}
	for name, want := range e.match.Header {
		var values []string
		for i := range q.Header.Len() {
			if _, n, v, ok := q.Header.At(i); ok && strings.EqualFold(string(n), name) {
				values = append(values, string(v))
			}
		}
		if !(want == "" && values == nil || want == "*" && values != nil || slices.Contains(values, want)) {
			return false
		}
	}
	return len(e.match.Clients) == 0 || slices.ContainsFunc(e.match.Clients, func(p netip.Prefix) bool { return p.Contains(q.Client) })
}

// segments orders what has a path by segments; see the documentation of the package.
func (e *oracleEntry) segments() (keys [][5]any) {
	pattern := e.path
	if pattern[0] == '*' {
		pattern = "/**/" + pattern
	}
	segments := strings.Split(pattern[1:], "/")
	for i, s := range segments {
		switch n := strings.Count(s, "*"); {
		case s == "*" && i == len(segments)-1:
			keys = append(keys, [5]any{4, 0, 0, 0, s})
		case s == "**":
			keys = append(keys, [5]any{3, 0, 0, 0, s})
		case s == "*":
			keys = append(keys, [5]any{2, 0, 0, 0, s})
		case n > 0:
			before, after := strings.IndexByte(s, '*'), len(s)-1-strings.LastIndexByte(s, '*')
			keys = append(keys, [5]any{1, -before, -after, -(len(s) - n - before - after), s})
		default:
			keys = append(keys, [5]any{0, 0, 0, 0, s})
		}
	}
	return keys
}

func (e *oracleEntry) compare(f *oracleEntry) int {
	hostClass := func(e *oracleEntry) int {
		switch {
		case e.host == "":
			return 3
		case strings.HasSuffix(e.host, ".*"):
			return 2
		case strings.HasPrefix(e.host, "*."):
			return 1
		}
		return 0
	}
	pathClass := func(e *oracleEntry) int {
		switch {
		case e.path == "":
			return 2
		case e.path[0] == '~':
			return 1
		}
		return 0
	}
	if c := cmp.Or(cmp.Compare(hostClass(e), hostClass(f)), cmp.Compare(len(f.host), len(e.host)), cmp.Compare(pathClass(e), pathClass(f))); c != 0 {
		return c
	}
	if pathClass(e) == 0 {
		if c := slices.CompareFunc(e.segments(), f.segments(), func(a, b [5]any) int {
			for i := range 4 {
				if c := cmp.Compare(a[i].(int), b[i].(int)); c != 0 {
					return c
				}
			}
			return cmp.Compare(a[4].(string), b[4].(string))
		}); c != 0 {
			return c
		}
	}
	return cmp.Or(
		-cmp.Compare(min(len(e.match.Listener), 1), min(len(f.match.Listener), 1)),
		-cmp.Compare(min(e.conditions(), 1), min(f.conditions(), 1)),
		cmp.Compare(e.rule, f.rule),
	)
}

func (e *oracleEntry) conditions() int {
	return len(e.match.Methods) + len(e.match.Header) + len(e.match.Clients)
}

// choose returns the name of the rule, "" for none.
func (o *oracle) choose(q *Request) string {
	var best *oracleEntry
	for i := range o.entries {
		if e := &o.entries[i]; e.matches(q) && (best == nil || e.compare(best) < 0) {
			best = e
		}
	}
	if best == nil {
		return ""
	}
	return best.name
}

// table makes a table without ties; what remains of the rules may be unreachable.
func (d dice) table(t *testing.T, n int) (*Table[string], []rule) {
	var all []rule
	for i := range n {
		all = append(all, d.rule(i))
		for {
			_, err := build(all)
			tie, ok := firstTie(err)
			if err != nil && !ok {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			all = slices.Delete(all, tie.SecondIndex, tie.SecondIndex+1)
		}
	}
	table, err := build(all)
	if err != nil {
		t.Fatal(err)
	}
	return table, all
}

func firstTie(err error) (*TieError, bool) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		tie, ok := joined.Unwrap()[0].(*TieError)
		return tie, ok
	}
	return nil, false
}

// checkTable compares Match and Explain with the oracle, and sees that no rule that is said to be
// unreachable is chosen.
func (d dice) checkTable(t *testing.T, rules, requests int) {
	table, all := d.table(t, rules)
	o := newOracle(all)
	dead := map[string]*UnreachableError{}
	for _, u := range unreachable(table.patterns, len(all)) {
		dead[all[u.Index].Name] = u
	}
	for i := range all {
		if u, want := dead[all[i].Name], coveredRule(table.patterns, int32(i)); (u != nil) != want {
			t.Fatalf("unreachable is %v of %+v: got %+v among %+v", want, all[i], u, table.Entries())
		}
	}
	for range requests {
		q := d.request()
		want := o.choose(q)
		got := table.match(q)
		describe := func() string {
			s := fmt.Sprintf("%s %s%s on %s from %v, fields", q.Method, q.Host, q.Path, q.Listener, q.Client)
			for i := range q.Header.Len() {
				_, n, v, _ := q.Header.At(i)
				s += fmt.Sprintf(" %s: %s", n, v)
			}
			for _, e := range table.Entries() {
				s += fmt.Sprintf("\n%s: host %q, path %q, listener %q, %s", e.Rule.Name, e.Host, e.Path, e.Rule.Match.Listener, e.Conditions)
			}
			return s
		}
		if got != want {
			t.Fatalf("got %q, want %q of %s", got, want, describe())
		}
		x := table.Explain(q)
		if (x.Chosen >= 0) != (want != "") || want != "" && x.Candidates[x.Chosen].Name != want {
			t.Fatalf("explained %+v, want %q of %s", x, want, describe())
		}
		if u := dead[got]; u != nil {
			t.Fatalf("%q is said to be unreachable because of %s (%s): %s", got, all[u.ByIndex].Name, u.Pattern, describe())
		}
	}
}

// coveredRule says of a rule what unreachable does, by a look at all pairs of patterns.
func coveredRule(patterns []pattern, rule int32) bool {
	for i := range patterns {
		p := &patterns[i]
		covers := func(q pattern) bool {
			return q.rule != rule && q.host == p.host && (q.listener == "" || q.listener == p.listener) &&
				q.path.covers(&p.path) && p.conditions.implies(q.conditions)
		}
		if p.rule == rule && !slices.ContainsFunc(patterns[:i], covers) {
			return false
		}
	}
	return true
}

func TestAgainstOracle(t *testing.T) {
	for seed := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, 7))
		dice(rng.IntN).checkTable(t, 1+rng.IntN(30), 300)
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(func(t *testing.T, data []byte) {
		at := 0
		dice(func(n int) int { // from the data, then from what is left of it
			if len(data) == 0 {
				return 0
			}
			at++
			return (int(data[at%len(data)]) + at/len(data)*7) % n
		}).checkTable(t, 1+len(data)%16, 16)
	})
}

// A pattern alone against a path.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"/a/*", "*.js", "/**/.*", "/*/objects/*", "/**/a/**/b/*", "/a*b*c", "/**/*a*/b", "/*/*"} {
		f.Add(s, "/a/b/.x/objects/abc.js")
		f.Add(s, "/a")
	}
	f.Fuzz(func(t *testing.T, pattern, raw string) {
		p, why := parsePath(pattern)
		var scratch []byte
		path, _, err := target.Path([]byte(raw), &scratch)
		if why != "" || err != nil || len(pattern) > 200 || len(path) > 2000 {
			return
		}
		want := regexp.MustCompile(globExpression(pattern)).Match(path)
		if got := p.matches(path); got != want {
			t.Fatalf("%q alone on %q: got %v", pattern, path, got)
		}
		table, err2 := Build([]rule{{Name: "r", Value: "r", Match: Match{Paths: []string{pattern}}}})
		if err2 != nil {
			t.Fatal(err2)
		}
		if got := table.match(ask("", string(path), "")) == "r"; got != want {
			t.Fatalf("%q on %q: got %v", pattern, path, got)
		}
		if want {
			if from, to := p.star(path); from < 0 || from > to || to > len(path) {
				t.Fatalf("%q on %q: star is %d:%d", pattern, path, from, to)
			}
		}
	})
}

// A pattern that is said to match all that another one does, does.
func FuzzCovers(f *testing.F) {
	f.Add("/*/*", "/**/x", "/a/x")
	f.Add("/**/*.js", "/*/a.js", "/b/a.js")
	f.Add("/a/*", "~^/a/b", "/a/b")
	f.Fuzz(func(t *testing.T, wide, narrow, raw string) {
		w, why := parsePath(wide)
		n, why2 := parsePath(narrow)
		if s, ok := strings.CutPrefix(narrow, "~"); ok {
			n, why2 = parseRegexp(s)
		}
		var scratch []byte
		path, _, err := target.Path([]byte(raw), &scratch)
		if why != "" || why2 != "" || err != nil {
			return
		}
		if w.covers(&n) && n.matches(path) && !w.matches(path) {
			t.Fatalf("%q is said to cover %q, but not on %q", wide, narrow, path)
		}
	})
}

// Expressions that are found by what they need match what the expression alone matches.
func FuzzNeeds(f *testing.F) {
	for _, s := range []string{"^/v([0-9]+)/", `\.php$`, "a|b", "^(/a)?b$", "(?i)^/A", "(?s)^.a$", "(?m)^a$", "^$", "^/a|", "(^/a)$", "(^/a)+b"} {
		f.Add(s, "/a/b.php")
	}
	f.Fuzz(func(t *testing.T, expression, path string) {
		re, err := regexp.Compile(expression)
		if err != nil || path == "" || path[0] != '/' || len(expression) > 100 {
			return
		}
		table, err := Build([]rule{{Name: "r", Value: "r", Match: Match{PathRegex: expression}}})
		if expression == "" || err != nil {
			return
		}
		if got, want := table.match(ask("", strings.ReplaceAll(path, "?", ""), "")) == "r", re.MatchString(strings.ReplaceAll(path, "?", "")); got != want {
			t.Fatalf("%q on %q: got %v", expression, path, got)
		}
	})
}
