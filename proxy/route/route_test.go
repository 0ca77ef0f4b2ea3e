package route

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

type rule = Rule[string]

// build makes a table of rules written "host path listener", "-" for none, whose value is that
// text.
func build(t testing.TB, texts ...string) *Table[string] {
	t.Helper()
	table, err := Build(rules(texts...))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func rules(texts ...string) (all []rule) {
	for _, text := range texts {
		f := strings.Fields(text)
		for i := range f {
			if f[i] == "-" {
				f[i] = ""
			}
		}
		all = append(all, rule{Name: text, Host: f[0], Path: f[1], Listener: f[2], Value: text})
	}
	return all
}

func TestMatch(t *testing.T) {
	table := build(t,
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
		if got, ok := table.Match([]byte(tt.host), []byte(tt.path), tt.listener); !ok || got != tt.want {
			t.Errorf("Match(%q, %q, %q) = %q, %v; want %q", tt.host, tt.path, tt.listener, got, ok, tt.want)
		}
	}
}

func TestNoMatch(t *testing.T) {
	table := build(t, "a /x/* web", "*.b /* web")
	for _, tt := range [][3]string{{"a", "/x", "tls"}, {"a", "/y", "web"}, {"b", "/", "web"}, {"", "/x", "web"}, {"x.b", "*", "web"}, {"x.b", "/", ""}} {
		if got, ok := table.Match([]byte(tt[0]), []byte(tt[1]), tt[2]); ok || got != "" {
			t.Errorf("Match(%q) = %q, %v; want no match", tt, got, ok)
		}
	}
	empty, err := Build[*int](nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := empty.Match([]byte("a"), []byte("/"), ""); ok || v != nil {
		t.Errorf("an empty table matches")
	}
}

func TestBuildErrors(t *testing.T) {
	for _, tt := range []struct{ host, path, want string }{
		{"a:80", "", `route "r": host: a port cannot be matched; name the listener instead (got "a:80")`},
		{"*", "", `route "r": host: a "*" may only stand for the first label, as in "*.example.org"; without host a route is for all of them (got "*")`},
		{"a.*.b", "", `route "r": host: a "*" may only stand for the first label, as in "*.example.org"; without host a route is for all of them (got "a.*.b")`},
		{"*.*.b", "", `route "r": host: a "*" may only stand for the first label, as in "*.example.org"; without host a route is for all of them (got "*.*.b")`},
		{"*.", "", `route "r": host: empty; a name is right, or "*." and a name; names in other scripts as "xn--…" (got "*.")`},
		{"bücher.example", "", `route "r": host: holds something else than letters, digits, "-", "." and "_"; a name is right, or "*." and a name; names in other scripts as "xn--…" (got "bücher.example")`},
		{"*.[::1]", "", `route "r": host: an address has no labels that a wildcard could stand for (got "*.[::1]")`},
		{"", "api", `route "r": path: does not begin with a slash; "/a" is right for one path, "/a/*" for it and all below (got "api")`},
		{"", "*", `route "r": path: a "*" may only be the last segment, as in "/a/*" (got "*")`},
		{"", "/a*", `route "r": path: a "*" may only be the last segment, as in "/a/*" (got "/a*")`},
		{"", "/*/b", `route "r": path: a "*" may only be the last segment, as in "/a/*" (got "/*/b")`},
		{"", "/*/*", `route "r": path: a "*" may only be the last segment, as in "/a/*" (got "/*/*")`},
		{"", "//*", `route "r": path: an empty segment matches nothing; write "/*" (got "//*")`},
		{"", "/a//*", `route "r": path: an empty segment matches nothing; write "/a/*" (got "/a//*")`},
		{"", "/a/../b", `route "r": path: not as mpgate matches it; write "/b" (got "/a/../b")`},
		{"", "/café/*", `route "r": path: not as mpgate matches it; write "/caf%C3%A9/*" (got "/café/*")`},
		{"", "/a%3Ab/*", `route "r": path: percent-encodings of characters that may stand in a path as they are cannot be matched; write "/a:b/*" (got "/a%3Ab/*")`},
		{"", "/a b", `route "r": path: a space, control character, "?" or "#" stands in it as it is; it must be percent-encoded; "/a" is right for one path, "/a/*" for it and all below (got "/a b")`},
	} {
		_, err := Build([]rule{{Name: "r", Host: tt.host, Path: tt.path}})
		var fault *RuleError
		if !errors.As(err, &fault) || fault.Error() != tt.want || err.Error() != tt.want {
			t.Errorf("host %q, path %q:\n got %v\nwant %s", tt.host, tt.path, err, tt.want)
		}
	}
}

func TestBuildNamesAllFaults(t *testing.T) {
	_, err := Build([]rule{
		{Name: "one", Host: "a", Path: "/x", Listener: "web"},
		{Name: "bad", Host: "a b", Path: "x"},
		{Name: "two", Host: "A.", Path: "/x", Listener: "web"},
		{Name: "three", Host: "a", Path: "/x"},
		{Name: "four"},
		{Name: "five"},
	})
	want := `route "bad": host: holds something else than letters, digits, "-", "." and "_"; a name is right, or "*." and a name; names in other scripts as "xn--…" (got "a b")
route "bad": path: does not begin with a slash; "/a" is right for one path, "/a/*" for it and all below (got "x")
routes "one" and "two" match the same requests (host "A.", path "/x", listener "web"); make one more specific or remove it
routes "four" and "five" match the same requests (host any, path any, listener any); make one more specific or remove it`
	if err == nil || err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
	var tie *TieError
	if !errors.As(err, &tie) || tie.First != "one" || tie.Second != "two" || tie.FirstIndex != 0 || tie.SecondIndex != 2 {
		t.Fatalf("got %+v", tie)
	}
}

func TestRulesInMatchingOrder(t *testing.T) {
	want := []string{
		"a.example.org /api/v1/* web",
		"a.example.org /api/v1/* -",
		"a.example.org /api/ -",
		"a.example.org /api -",
		"a.example.org /api/* -",
		"a.example.org / -",
		"a.example.org /* web",
		"a.example.org - web",
		"a.example.org - -",
		"b.example.org - -",
		"*.b.example.org - -",
		"*.example.org - -",
		"- /x -",
		"- - -",
	}
	shuffled := slices.Clone(want)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	table := build(t, shuffled...)
	for i, r := range table.Rules() {
		if r.Name != want[i] {
			t.Errorf("rule %d is %q, want %q", i, r.Name, want[i])
		}
	}
	table.Rules()[0].Value = "changed"
	if got, _ := table.Match([]byte("a.example.org"), []byte("/api/v1/x"), "web"); got != want[0] {
		t.Errorf("Rules gave away the table's own memory: got %q", got)
	}
}

func TestExplain(t *testing.T) {
	table := build(t, "a /api/* -", "a /api/v1/* tls", "a /api/v2/* -", "a /other -", "*.a - -", "- /api/v2/* -", "- - -", "b - -", "a /api/v2/* web", "a /api/v2/x -")
	e := table.Explain([]byte("a"), []byte("/api/v2/x"), "web")
	want := []string{
		`a /api/v2/x -: chosen: nothing more specific matches`,
		`a /api/v1/* tls: the path "/api/v2/x" is neither "/api/v1" nor below it`,
		`a /api/v2/* web: it matches, but "a /api/v2/x -" names the path exactly`,
		`a /api/v2/* -: it matches, but "a /api/v2/x -" names the path exactly`,
		`a /other -: the path "/api/v2/x" is not "/other"`,
		`a /api/* -: it matches, but "a /api/v2/x -" names the path exactly`,
		`- /api/v2/* -: it matches, but "a /api/v2/x -" names the host exactly`,
		`- - -: it matches, but "a /api/v2/x -" names the host exactly`,
	}
	checkExplanation(t, e, want, 0, 2)
	checkExplanation(t, table.Explain([]byte("a"), []byte("/api/v2/y"), "web"), []string{
		want[0][:len("a /api/v2/x -: ")] + `the path "/api/v2/y" is not "/api/v2/x"`,
		`a /api/v1/* tls: the path "/api/v2/y" is neither "/api/v1" nor below it`,
		`a /api/v2/* web: chosen: nothing more specific matches`,
		`a /api/v2/* -: it matches, but "a /api/v2/* web" names the listener`,
		`a /other -: the path "/api/v2/y" is not "/other"`,
		`a /api/* -: it matches, but "a /api/v2/* web" has the longer path`,
		`- /api/v2/* -: it matches, but "a /api/v2/* web" names the host exactly`,
		`- - -: it matches, but "a /api/v2/* web" names the host exactly`,
	}, 2, 2)
	checkExplanation(t, table.Explain([]byte("x.a"), []byte("/"), "web"), []string{
		`*.a - -: chosen: nothing more specific matches`,
		`- /api/v2/* -: the path "/" is neither "/api/v2" nor below it`,
		`- - -: it matches, but "*.a - -" names the host by a wildcard`,
	}, 0, 7)
	checkExplanation(t, build(t, "a /x web").Explain([]byte("a"), []byte("/x"), "tls"), []string{`a /x web: the listener is "tls", not "web"`}, -1, 0)
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

// reference says which of two rules that match a request wins, as the contract words it.
func reference(a, b rule) rule {
	hostRank := func(r rule) int {
		switch {
		case r.Host == "":
			return 0
		case strings.HasPrefix(r.Host, "*."):
			return len(r.Host)
		}
		return 1000
	}
	pathRank := func(r rule) int {
		switch {
		case r.Path == "":
			return -1
		case strings.HasSuffix(r.Path, "/*"):
			return 2 * len(strings.TrimSuffix(r.Path, "/*"))
		}
		return 2*len(r.Path) + 1
	}
	switch {
	case hostRank(a) != hostRank(b):
		return map[bool]rule{true: a, false: b}[hostRank(a) > hostRank(b)]
	case pathRank(a) != pathRank(b):
		return map[bool]rule{true: a, false: b}[pathRank(a) > pathRank(b)]
	case a.Listener != "":
		return a
	}
	return b
}

func referenceMatches(r rule, host, path, listener string) bool {
	hostOK := r.Host == "" || r.Host == host
	if parent, ok := strings.CutPrefix(r.Host, "*"); ok {
		label, found := strings.CutSuffix(host, parent)
		hostOK = found && label != "" && !strings.Contains(label, ".")
	}
	pathOK := r.Path == "" || r.Path == path
	if prefix, ok := strings.CutSuffix(r.Path, "*"); ok && r.Path != "" {
		pathOK = strings.HasPrefix(path+"/", prefix) && path[0] == '/'
	}
	return hostOK && pathOK && (r.Listener == "" || r.Listener == listener)
}

// Match, Explain and a reference that tries every rule agree on random rules and requests over a
// small alphabet.
func TestAgainstReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	hosts := []string{"", "a", "a.b", "b.b", "*.b", "*.a.b", "x.a.b", "c.x.a.b", "aa.b"}
	listeners := []string{"", "", "web", "tls"}
	segments := []string{"a", "b", "aa", "ab", "abcdefgh", "abcdefgi", "abcdefghi"}
	path := func() string {
		if rng.IntN(20) == 0 {
			return "/"
		}
		var p string
		for range 1 + rng.IntN(5) {
			p += "/" + segments[rng.IntN(len(segments))]
		}
		if rng.IntN(4) == 0 {
			p += "/"
		}
		return p
	}
	for round := range 60 {
		var all []rule
		seen := map[[3]string]bool{}
		for i := range 1 + rng.IntN(60) {
			r := rule{Name: fmt.Sprint(i), Host: hosts[rng.IntN(len(hosts))], Listener: listeners[rng.IntN(len(listeners))], Value: fmt.Sprint(i)}
			switch rng.IntN(6) {
			case 0:
			case 1, 2:
				r.Path = path()
			default:
				r.Path = strings.TrimSuffix(path(), "/") + "/*"
			}
			if key := [3]string{r.Host, r.Path, r.Listener}; !seen[key] {
				seen[key] = true
				all = append(all, r)
			}
		}
		table, err := Build(all)
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			host, p, listener := strings.TrimPrefix(hosts[rng.IntN(len(hosts))], "*."), path(), listeners[rng.IntN(len(listeners))]
			if rng.IntN(40) == 0 {
				p = "*"
			}
			var best rule
			for _, r := range all {
				if referenceMatches(r, host, p, listener) {
					if best.Name == "" {
						best = r
					} else {
						best = reference(best, r)
					}
				}
			}
			got, ok := table.Match([]byte(host), []byte(p), listener)
			if ok != (best.Name != "") || got != best.Value {
				t.Fatalf("round %d: Match(%q, %q, %q) = %q, %v; want %q\nof %v", round, host, p, listener, got, ok, best.Value, all)
			}
			e := table.Explain([]byte(host), []byte(p), listener)
			if ok != (e.Chosen >= 0) || ok && e.Candidates[e.Chosen].Name != best.Name {
				t.Fatalf("round %d: Explain(%q, %q, %q) chose %d of %+v; want %q", round, host, p, listener, e.Chosen, e.Candidates, best.Name)
			}
		}
	}
}
