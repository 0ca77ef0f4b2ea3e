package route

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	table := buildRules(t,
		"- - -",
		"- /any/* -",
		"*.example.org /api/* -",
		"*.b.example.org - -",
		"a.example.org /api/* -",
		"a.example.org /api -",
		"a.example.org /api/ -",
		"a.example.org /api/v1/* web",
		"a.example.org /api/v1/* -",
		"a.example.org /api/v1/users/* tls",
		"a.example.org /caf%C3%A9 -",
		"named.example.org / web",
		"[2001:db8::1] - -",
	)
	for _, tt := range []struct{ host, path, listener, want string }{
		// Host: exact, wildcard of one label, none.
		{"a.example.org", "/api/x", "", "a.example.org /api/* -"},
		{"c.example.org", "/api/x", "", "*.example.org /api/* -"},
		{"x.b.example.org", "/api/x", "", "*.b.example.org - -"},
		{"x.y.b.example.org", "/api/x", "", "- - -"},
		{"example.org", "/api/x", "", "- - -"},
		{"", "/any", "", "- /any/* -"},
		{"", "/x", "", "- - -"},
		{"[2001:db8::1]", "/x", "", "[2001:db8::1] - -"},
		// The path: the longest, exact before prefix, by segment.
		{"a.example.org", "/api", "", "a.example.org /api -"},
		{"a.example.org", "/api/", "", "a.example.org /api/ -"},
		{"a.example.org", "/api/v1", "", "a.example.org /api/v1/* -"},
		{"a.example.org", "/api/v1/", "", "a.example.org /api/v1/* -"},
		{"a.example.org", "/api/v1x", "", "a.example.org /api/* -"},
		{"a.example.org", "/caf%C3%A9", "", "a.example.org /caf%C3%A9 -"},
		// The listener: named before none, and only where the path is as long.
		{"a.example.org", "/api/v1/x", "web", "a.example.org /api/v1/* web"},
		{"a.example.org", "/api/v1/x", "tls", "a.example.org /api/v1/* -"},
		{"a.example.org", "/api/v1/users", "tls", "a.example.org /api/v1/users/* tls"},
		{"a.example.org", "/api/v1/users", "web", "a.example.org /api/v1/* web"},
		{"a.example.org", "/api", "web", "a.example.org /api -"},
		// What is less specific still matches.
		{"a.example.org", "/apiary", "", "- - -"},
		{"a.example.org", "/any/x", "", "- /any/* -"},
		{"named.example.org", "/", "web", "named.example.org / web"},
		{"named.example.org", "/", "tls", "- - -"},
		{"named.example.org", "/api/x", "tls", "*.example.org /api/* -"},
		// OPTIONS of the server as a whole has no path.
		{"a.example.org", "*", "", "- - -"},
		{"x.b.example.org", "*", "", "*.b.example.org - -"},
	} {
		if got := table.match(ask(tt.host, tt.path, tt.listener)); got != tt.want {
			t.Errorf("Match(%q, %q, %q) = %q, want %q", tt.host, tt.path, tt.listener, got, tt.want)
		}
	}
}

func TestNoMatch(t *testing.T) {
	table := buildRules(t, "a /x/* web", "*.b /* web")
	for _, tt := range [][3]string{{"a", "/x", "tls"}, {"a", "/y", "web"}, {"b", "/", "web"}, {"", "/x", "web"}, {"x.b", "*", "web"}, {"x.b", "/", ""}} {
		if got, ok := table.Match(ask(tt[0], tt[1], tt[2])); ok || got.Value != "" {
			t.Errorf("Match(%q) = %q, %v; want no match", tt, got.Value, ok)
		}
	}
	empty, err := Build[*int](nil)
	if err != nil {
		t.Fatal(err)
	}
	if f, ok := empty.Match(ask("a", "/", "")); ok || f.Value != nil {
		t.Errorf("an empty table matches")
	}
}

func TestBuildErrors(t *testing.T) {
	const stars = `a "*" may only be the first label, as in "*.example.org", or the last, as in "cloud.*"; without host a route is for all of them`
	const right = `; "/a" is right for one path, "/a/*" for it and all below, "*.js" for an ending`
	for _, tt := range []struct{ key, value, want string }{
		{"host", "a:80", "a port cannot be matched; name the listener instead"},
		{"host", "*", stars},
		{"host", "a.*.b", stars},
		{"host", "*.*.b", stars},
		{"host", "*.b.*", stars},
		{"host", "a*.b", stars},
		{"host", "*.", `empty; a name is right, or "*." and a name; names in other scripts as "xn--…"`},
		{"host", "bücher.example", `has characters other than letters, digits, "-", "." and "_"; a name is right, or "*." and a name; names in other scripts as "xn--…"`},
		{"host", "*.[::1]", "an address has no labels that a wildcard could stand for"},
		{"host", "[::1].*", "an address has no labels that a wildcard could stand for"},
		{"path", "api", "does not begin with a slash" + right},
		{"path", "api*", "does not begin with a slash" + right},
		{"path", "*.js/x", "does not begin with a slash" + right},
		{"path", "", "does not begin with a slash" + right},
		{"path", "*", `stars alone are no path; write "/*", or leave path out`},
		{"path", "**", `stars alone are no path; write "/*", or leave path out`},
		{"path", "/**", `at the end, one star matches all that follows; write "/*"`},
		{"path", "/a/**", `at the end, one star matches all that follows; write "/a/*"`},
		{"path", "/a/**/*", `one star at the end matches all that follows; write "/a/*"`},
		{"path", "/a/**/**/b", `two stars stand for any number of segments already; write "/a/**/b"`},
		{"path", "/a/b**c", `two stars stand for any number of segments, so they must be one: "/**/"`},
		{"path", "/*" + strings.Repeat("/a", 64), "has 65 segments; at most 64 are allowed together with a star"},
		{"path", "//*", `an empty segment matches nothing; write "/*"`},
		{"path", "/a//*", `an empty segment matches nothing; write "/a/*"`},
		{"path", "/*//*", `an empty segment matches nothing; write "/*/*"`},
		{"path", "/*//b", `not as mpgate matches it; write "/*/b"`},
		{"path", "/a/../b", `not as mpgate matches it; write "/b"`},
		{"path", "/café/*", `not as mpgate matches it; write "/caf%C3%A9/*"`},
		{"path", "*.é", `not as mpgate matches it; write "/**/*.%C3%A9"`},
		{"path", "/a%3Ab/*", `percent-encodings of characters that may stand in a path as they are cannot be matched; write "/a:b/*"`},
		{"path", "/a b", `a space, control character, "?" or "#" is not percent-encoded` + right},
		{"path_regex", "(a", "missing closing ): `(a`; an RE2 expression is right, as in \"^/v([0-9]+)/\""},
		{"path_regex", "a{1001}", "invalid repeat count: `{1001}`; an RE2 expression is right, as in \"^/v([0-9]+)/\""},
		{"method", "get", `methods are case-sensitive; write "GET"`},
		{"method", "A B", `not a method; one as in "GET" is right`},
		{"header.Host", "a", "use host instead"},
		{"header.transfer-encoding", "chunked", "belongs to the connection or the framing of the message and cannot be matched"},
		{"header.a b", "x", `"a b" is not a field name`},
		{"header.A", " x", "no field has such a value: it has no control characters, and no spaces around it"},
		{"query.", "x", "a parameter has a name"},
		{"cookie.a=b", "x", `"a=b" is not the name of a cookie`},
		{"cookie.a", "x y", "is not a valid cookie value: only ASCII is allowed, without spaces, quotes, commas, semicolons and backslashes"},
	} {
		var m Match
		switch key, name, _ := strings.Cut(tt.key, "."); key {
		case "host":
			m.Hosts = []string{tt.value}
		case "path":
			m.Paths = []string{tt.value}
		case "path_regex":
			m.PathRegex = tt.value
		case "method":
			m.Methods = []string{tt.value}
		case "header":
			m.Header = map[string]string{name: tt.value}
		case "query":
			m.Query = map[string]string{name: tt.value}
		case "cookie":
			m.Cookie = map[string]string{name: tt.value}
		}
		_, err := Build([]rule{{Name: "r", Match: m}})
		var fault *RuleError
		if !errors.As(err, &fault) || fault.Key != tt.key || fault.Value != tt.value || fault.Why != tt.want {
			t.Errorf("%s = %q:\n got %v\nwant %s", tt.key, tt.value, err, tt.want)
		}
	}
}

func TestBuildRefusesRepetition(t *testing.T) {
	_, err := Build([]rule{{Name: "r", Match: Match{
		Hosts: []string{"a", "b", "A."}, Paths: []string{"/x", "/x"}, PathRegex: "x", Methods: []string{"GET", "GET"},
		Header: map[string]string{"X-A": "1", "x-a": "2"},
	}}})
	want := `route "r": host: listed twice (got "A.")
route "r": path: listed twice (got "/x")
route "r": path_regex: cannot be combined with path; keep one of them (got "x")
route "r": method: listed twice (got "GET")
route "r": header.x-a: "X-A" is the same name; write it once (got "2")`
	if err == nil || err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
}

func TestBuildNamesAllFaults(t *testing.T) {
	_, err := Build([]rule{
		{Name: "one", Match: Match{Hosts: []string{"a", "c"}, Paths: []string{"/x"}, Listener: "web"}},
		{Name: "bad", Match: Match{Hosts: []string{"a b"}, Paths: []string{"x"}}},
		{Name: "two", Match: Match{Hosts: []string{"b", "A."}, Paths: []string{"/y", "/x"}, Listener: "web"}},
		{Name: "three", Match: Match{Hosts: []string{"a"}, Paths: []string{"/x"}}},
		{Name: "four"},
		{Name: "five"},
		{Name: "six", Match: Match{Paths: []string{"/x"}, Query: map[string]string{"v": "1", "w": "*"}, Methods: []string{"GET", "PUT"}}},
		{Name: "seven", Match: Match{Paths: []string{"/x"}, Query: map[string]string{"v": "1", "w": "*"}, Methods: []string{"PUT", "GET"}}},
		{Name: "eight", Match: Match{PathRegex: "/x$"}},
		{Name: "nine", Match: Match{PathRegex: "/x$"}},
	})
	want := `route "bad": host: has characters other than letters, digits, "-", "." and "_"; a name is right, or "*." and a name; names in other scripts as "xn--…" (got "a b")
route "bad": path: does not begin with a slash; "/a" is right for one path, "/a/*" for it and all below, "*.js" for an ending (got "x")
routes "one" and "two" match the same requests (host "a", path "/x", listener "web"); make one more specific or remove it
routes "four" and "five" match the same requests (host any, path any, listener any); make one more specific or remove it
routes "six" and "seven" match the same requests (host any, path "/x", listener any, method GET or PUT, query v "1", query w any value); make one more specific or remove it
routes "eight" and "nine" match the same requests (host any, path "/x$", listener any); make one more specific or remove it`
	if err == nil || err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
	var tie *TieError
	if !errors.As(err, &tie) || tie.First != "one" || tie.Second != "two" || tie.FirstIndex != 0 || tie.SecondIndex != 2 {
		t.Fatalf("got %+v", tie)
	}
}

func TestEntriesInMatchingOrder(t *testing.T) {
	want := []string{
		"a.example.org / -",
		"a.example.org /api -",
		"a.example.org /api/ -",
		"a.example.org /api/v1/* web",
		"a.example.org /api/v1/* - header.A=2",
		"a.example.org /api/v1/* - query.a=1",
		"a.example.org /api/v1/* -",
		"a.example.org /api/v*/x -",
		"a.example.org /api/*.json -",
		"a.example.org /api/*/x -",
		"a.example.org /api/* -",
		"a.example.org /*/x/* -",
		"a.example.org /**/x -",
		"a.example.org /**/.* -",
		"a.example.org *.html -",
		"a.example.org *.js -",
		"a.example.org /* web",
		"b.example.org ~^/b web",
		"b.example.org ~/b -",
		"b.example.org ~/a -",
		"b.example.org - -",
		"*.b.example.org - -",
		"*.example.org - -",
		"cloud.a.* - -",
		"cloud.* - -",
		"- /x -",
		"- - - method=GET",
		"- - -",
	}
	rng := rand.New(rand.NewPCG(1, 1))
	order := rng.Perm(len(want))
	// Those that the order of the file decides stay in it.
	keep := func(a, b string) {
		i, j := slices.IndexFunc(order, func(k int) bool { return want[k] == a }), slices.IndexFunc(order, func(k int) bool { return want[k] == b })
		if i > j {
			order[i], order[j] = order[j], order[i]
		}
	}
	keep("a.example.org /api/v1/* - header.A=2", "a.example.org /api/v1/* - query.a=1")
	keep("b.example.org ~/b -", "b.example.org ~/a -")
	var shuffled []string
	for _, i := range order {
		shuffled = append(shuffled, want[i])
	}
	table := buildRules(t, shuffled...)
	var got []string
	for _, e := range table.Entries() {
		got = append(got, e.Rule.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	e := table.Entries()[17]
	if e.Host != "b.example.org" || e.Path != "^/b" || !e.Regexp || e.Rule.Match.Listener != "web" {
		t.Errorf("got %+v", e)
	}
	if e := table.Entries()[4]; e.Conditions != `header A "2"` {
		t.Errorf("got %+v", e)
	}
}

func TestExplain(t *testing.T) {
	table := buildRules(t, "a /api/* -", "a /api/v1/* tls", "a /api/v2/* -", "a /other -", "*.a - -", "- /api/v2/* -", "- - -", "b - -", "a /api/v2/* web", "a /api/v2/x -")
	e := table.Explain(ask("a", "/api/v2/x", "web"))
	want := []string{
		`a /api/v1/* tls: the path "/api/v2/x" is neither "/api/v1" nor below it`,
		`a /api/v2/x -: chosen: nothing more specific matches`,
		`a /api/v2/* web: it matches, but "a /api/v2/x -" names the path exactly`,
		`a /api/v2/* -: it matches, but "a /api/v2/x -" names the path exactly`,
		`a /api/* -: it matches, but "a /api/v2/x -" names the path exactly`,
		`a /other -: the path "/api/v2/x" is not "/other"`,
		`- /api/v2/* -: it matches, but "a /api/v2/x -" names the host exactly`,
		`- - -: it matches, but "a /api/v2/x -" names the host exactly`,
	}
	checkExplanation(t, e, want, 1, 2)
	checkExplanation(t, table.Explain(ask("a", "/api/v2/y", "web")), []string{
		`a /api/v1/* tls: the path "/api/v2/y" is neither "/api/v1" nor below it`,
		`a /api/v2/x -: the path "/api/v2/y" is not "/api/v2/x"`,
		`a /api/v2/* web: chosen: nothing more specific matches`,
		`a /api/v2/* -: it matches, but "a /api/v2/* web" names the listener`,
		`a /api/* -: it matches, but "a /api/v2/* web" has the longer path`,
		`a /other -: the path "/api/v2/y" is not "/other"`,
		`- /api/v2/* -: it matches, but "a /api/v2/* web" names the host exactly`,
		`- - -: it matches, but "a /api/v2/* web" names the host exactly`,
	}, 2, 2)
	checkExplanation(t, table.Explain(ask("x.a", "/", "web")), []string{
		`*.a - -: chosen: nothing more specific matches`,
		`- /api/v2/* -: the path "/" is neither "/api/v2" nor below it`,
		`- - -: it matches, but "*.a - -" names the host by a wildcard`,
	}, 0, 7)
	checkExplanation(t, buildRules(t, "a /x web").Explain(ask("a", "/x", "tls")), []string{`a /x web: the listener is "tls", not "web"`}, -1, 0)
}

// A rule is shown once, by the pair of host and path that comes nearest; a condition that fails is
// named with what the request has.
func TestExplainConditions(t *testing.T) {
	table := buildRules(t,
		"a /x,/y web",
		"a,b,*.c /x,/y -",
		"a /z,/w -",
		"a /x - method=POST",
		"a /x - query.v=2",
		"a /x - header.X-A= cookie.beta=*",
		"a /x - client=10.0.0.0/8,fd00::/8",
		"a ~^/x(y|z)$ -",
		"- *.png -",
		"b - -",
	)
	e := table.Explain(ask("a", "/x?v=1", "tls").with("X-A: 1"))
	checkExplanation(t, e, []string{
		`a /z,/w -: the path "/x" matches none of its paths`,
		`a /x,/y web: the listener is "tls", not "web"`,
		`a /x - method=POST: method: want POST, got GET`,
		`a /x - query.v=2: query v: want "2", got "1"`,
		`a /x - header.X-A= cookie.beta=*: header X-A: want none, got "1"`,
		`a /x - client=10.0.0.0/8,fd00::/8: client: want 10.0.0.0/8 or fd00::/8, got 192.0.2.1`,
		`a,b,*.c /x,/y -: chosen: nothing more specific matches`,
		`a ~^/x(y|z)$ -: the path "/x" does not match the expression "^/x(y|z)$"`,
		`- *.png -: the path "/x" does not match "*.png"`,
	}, 6, 1)
	if c := e.Candidates[6]; c.Host != "a" || c.Path != "/x" || c.Conditions != "" || c.Regexp {
		t.Errorf("got %+v", c)
	}
	if c := e.Candidates[5]; c.Conditions != "client 10.0.0.0/8 or fd00::/8" {
		t.Errorf("got %+v", c)
	}
	if c := e.Candidates[7]; c.Path != "^/x(y|z)$" || !c.Regexp {
		t.Errorf("got %+v", c)
	}
}

func TestAdvantages(t *testing.T) {
	for _, tt := range []struct{ first, second, host, path, want string }{
		{"a - -", "*.b - -", "a", "/", ""},
		{"a.b - -", "*.b - -", "a.b", "/", "names the host exactly"},
		{"*.b - -", "a.* - -", "a.b", "/", "names the end of the host, and its wildcard is one label"},
		{"a.b.* - -", "a.* - -", "a.b.c", "/", "names more of the host"},
		{"a.* - -", "- - -", "a.b", "/", "names the host by a wildcard"},
		{"- /a -", "- /a/* -", "", "/a", "names the path exactly"},
		{"- /a/b/* -", "- /a/* -", "", "/a/b", "has the longer path"},
		{"- /a/* -", "- *.js -", "", "/a/x.js", "has the more specific path, segment by segment"},
		{"- /a/* -", "- ~^/ -", "", "/a", "names the path by segments"},
		{"- ~a -", "- - -", "", "/a", "has an expression for the path"},
		{"- ~a -", "- ~/ -", "", "/a", "comes first in the file"},
		{"- /a web", "- /a -", "", "/a", "names the listener"},
		{"- /a - method=GET", "- /a -", "", "/a", "has further conditions"},
		{"- /a - query.a=", "- /a - query.b=", "", "/a", "comes first in the file"},
	} {
		table := buildRules(t, tt.first, tt.second)
		e := table.Explain(ask(tt.host, tt.path, "web"))
		want := fmt.Sprintf("it matches, but %q %s", tt.first, tt.want)
		if tt.want == "" {
			want = "chosen: nothing more specific matches"
		}
		if got := e.Candidates[len(e.Candidates)-1].Why; got != want {
			t.Errorf("%s before %s: got %q, want %q", tt.first, tt.second, got, want)
		}
	}
}

func checkExplanation(t *testing.T, e Explanation, want []string, chosen, others int) {
	t.Helper()
	var got []string
	for i, c := range e.Candidates {
		got = append(got, c.Name+": "+c.Why)
		if c.Matches != (strings.HasPrefix(c.Why, "chosen") || strings.HasPrefix(c.Why, "it matches")) {
			t.Errorf("candidate %d: Matches is %v beside %q", i, c.Matches, c.Why)
		}
	}
	if !slices.Equal(got, want) || e.Chosen != chosen || e.OtherHosts != others {
		t.Errorf("got chosen %d, %d for other hosts,\n%s\nwant %d, %d,\n%s", e.Chosen, e.OtherHosts, strings.Join(got, "\n"), chosen, others, strings.Join(want, "\n"))
	}
}
