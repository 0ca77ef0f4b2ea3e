package route

import (
	"fmt"
	"strings"
	"testing"
)

// asked is what Match is asked.
type asked struct{ host, path, listener string }

// shape is a kind of table that could make a match slow, and the requests that are asked of it with
// many rules and with few.
type shape struct {
	name     string
	rule     func(i int) Match
	requests []asked
}

const many, few = 10_000, 10

var deep = "/" + strings.Repeat("a/", 1_000) // a path of 1,000 segments

// pick is the number of the i-th of n rules: the few are spread evenly over the many.
func pick(n, i int) int { return (i + 1) * (many / n) }

var shapes = []shape{
	{"flat prefixes", func(i int) Match { return Match{Paths: []string{fmt.Sprintf("/service-%05d/*", i)}} },
		[]asked{{"h", "/service-05000/x", ""}, {"h", "/service-05000/" + deep, ""}, {"h", "/service-zzzzz/x", ""}, {"h", deep, ""}}},
	{"flat exact", func(i int) Match { return Match{Paths: []string{fmt.Sprintf("/service-%05d", i)}} },
		[]asked{{"h", "/service-05000", ""}, {"h", "/service-zzzzz", ""}, {"h", deep, ""}}},
	{"one host", func(i int) Match {
		return Match{Hosts: []string{"www.example.org"}, Paths: []string{fmt.Sprintf("/api/v%d/users/*", i)}}
	},
		[]asked{{"www.example.org", "/api/v5000/users/7", ""}, {"www.example.org", "/api/v0/users/7", ""}, {"www.example.org", deep, ""}}},
	{"hosts", func(i int) Match { return Match{Hosts: []string{fmt.Sprintf("host-%05d.example.org", i)}} },
		[]asked{{"host-05000.example.org", "/x", ""}, {"host-zzzzz.example.org", "/x", ""}, {"host-05000.example.org", deep, ""}}},
	{"wildcards", func(i int) Match { return Match{Hosts: []string{fmt.Sprintf("*.host-%05d.example.org", i)}} },
		[]asked{{"a.host-05000.example.org", "/x", ""}, {"a.host-zzzzz.example.org", "/x", ""}}},
	{"listeners", func(i int) Match { return Match{Paths: []string{"/a/*"}, Listener: fmt.Sprintf("l%d", i)} },
		[]asked{{"h", "/a/x", "l5000"}, {"h", "/a/x", "other"}}},
	{"nested", func(i int) Match { return Match{Paths: []string{strings.Repeat("/a", i) + "/*"}} },
		[]asked{{"h", "/a/x", ""}, {"h", "/a/a/a/a/a/a/a/a/x", ""}, {"h", deep, ""}}},
	{"nested, with branches", func(i int) Match {
		return Match{Paths: []string{strings.Repeat("/a", i/10) + fmt.Sprintf("/b%d/*", i%10)}}
	},
		[]asked{{"h", "/a/a/a/b0/x", ""}, {"h", deep, ""}, {"h", deep + "b0", ""}}},
	{"nested, for another listener", func(i int) Match {
		return Match{Paths: []string{strings.Repeat("/a", i/10) + "/*"}, Listener: fmt.Sprint(i % 10)}
	},
		[]asked{{"h", deep, "other"}, {"h", deep, "0"}, {"h", "/a/x", "0"}}},
	{"segments that begin alike", func(i int) Match {
		return Match{Paths: []string{"/" + strings.Repeat("x", i/10+1) + fmt.Sprint(i%10) + "/*"}}
	},
		[]asked{{"h", "/xxxxx0/y", ""}, {"h", "/" + strings.Repeat("x", 1001) + "/y", ""}, {"h", "/" + strings.Repeat("x", 30_000), ""}}},
	{"tails of hosts", func(i int) Match { return Match{Hosts: []string{fmt.Sprintf("host-%05d.*", i)}} },
		[]asked{{"host-05000.example.org", "/x", ""}, {"host-zzzzz.example.org", "/x", ""}}},
	{"hosts and paths", func(i int) Match {
		hosts := []string{fmt.Sprintf("h%d.example.org", i/100), fmt.Sprintf("*.h%d.example.org", i/100), fmt.Sprintf("h%d.*", i/100)}
		return Match{Hosts: hosts, Paths: []string{fmt.Sprintf("/a%d/*", i), fmt.Sprintf("/*/b%d", i), fmt.Sprintf("*.c%d", i)}}
	}, []asked{{"h50.example.org", "/x/y.c5000", ""}, {"x.h50.example.org", "/x/b5000", ""}, {"h50.net", "/a5000", ""}, {"h50.example.org", deep, ""}}},
	{"endings", func(i int) Match { return Match{Paths: []string{fmt.Sprintf("*.x%05d", i)}} },
		[]asked{{"h", "/a/b.x05000", ""}, {"h", "/a/b.x0500", ""}, {"h", "/" + strings.Repeat("x", 30_000), ""}, {"h", deep, ""}}},
	{"beginnings and endings", func(i int) Match { return Match{Paths: []string{fmt.Sprintf("/a/x%04d*.%d", i/10, i%10)}} },
		[]asked{{"h", "/a/x0500b.0", ""}, {"h", "/a/x0500b.a", ""}}},
	{"one segment", func(i int) Match { return Match{Paths: []string{fmt.Sprintf("/*/objects-%05d/*", i)}} },
		[]asked{{"h", "/a/objects-05000/x", ""}, {"h", "/a/objects-0500/x", ""}, {"h", deep, ""}}},
	{"any number of segments", func(i int) Match { return Match{Paths: []string{fmt.Sprintf("/**/objects-%05d/*", i)}} },
		[]asked{{"h", "/a/b/objects-05000/x", ""}, {"h", deep, ""}}},
	{"any number of segments, twice", func(i int) Match { return Match{Paths: []string{fmt.Sprintf("/**/a/**/b%05d", i)}} },
		[]asked{{"h", "/a/b/b05000", ""}, {"h", deep, ""}, {"h", deep + "b05000", ""}}},
	{"expressions", func(i int) Match { return Match{PathRegex: fmt.Sprintf("^/service-%05d/v[0-9]+/", i)} },
		[]asked{{"h", "/service-05000/v1/x", ""}, {"h", "/service-05000/x", ""}, {"h", "/service-zzzzz/x", ""}}},
}

func table(t testing.TB, s shape, n int) *Table[int] {
	t.Helper()
	var all []Rule[int]
	for i := range n {
		all = append(all, Rule[int]{Name: fmt.Sprint(i), Match: s.rule(pick(n, i)), Value: i})
	}
	built, err := Build(all)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func (r asked) String() string {
	path := r.path
	if len(path) > 30 {
		path = fmt.Sprintf("%s…(%d)", path[:20], len(path))
	}
	return strings.ReplaceAll(fmt.Sprintf("%s %s %s", r.host, path, r.listener), "/", "|")
}

// 10,000 rules take at most twice the steps of 10, and no memory, for every shape and request. The
// four more are for the search among the stops of a spine, where a step compares two integers; the
// search of affixes is one step; all others look into a map or compare text.
func TestCostDoesNotGrowWithRules(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			large, small := table(t, s, many), table(t, s, few)
			for _, r := range s.requests {
				steps := func(table *Table[int]) (n int) {
					q := ask(r.host, r.path, r.listener)
					table.index.match(q, q.Path, &n)
					return n
				}
				a, b := steps(small), steps(large)
				t.Logf("%v: %d steps with %d rules, %d with %d", r, a, few, b, many)
				if b > 2*a+4 {
					t.Errorf("%v: %d steps with %d rules, %d with %d", r, a, few, b, many)
				}
				q := ask(r.host, r.path, r.listener)
				if n := testing.AllocsPerRun(50, func() { large.Match(q) }); n != 0 {
					t.Errorf("%v: %v allocations", r, n)
				}
			}
		})
	}
}

// The worst there is for spines: at each segment a branch to either side. A path then meets a
// branch at each, log2 of the rules.
func TestStepsInABinaryTree(t *testing.T) {
	var all []rule
	for i := range 1 << 13 {
		path := ""
		for bit := range 13 {
			path += []string{"/0", "/1"}[i>>bit&1]
		}
		all = append(all, rule{Name: path, Match: Match{Paths: []string{path + "/*"}}, Value: path})
	}
	built, err := Build(all)
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, r := range all {
		n := 0
		q := ask("", r.Value+"/x", "")
		if got := built.ruleAt(built.index.match(q, q.Path, &n)); built.rules[got].Value != r.Value {
			t.Fatalf("Match(%q) = %q", r.Value, built.rules[got].Value)
		}
		most = max(most, n)
	}
	if most > 2+2*14 {
		t.Errorf("%d steps", most)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, s := range shapes {
		for _, n := range []int{few, many} {
			built := table(b, s, n)
			for _, r := range s.requests {
				b.Run(fmt.Sprintf("%s/%v/%d", s.name, r, n), func(b *testing.B) {
					q := ask(r.host, r.path, r.listener)
					b.ReportAllocs()
					for b.Loop() {
						built.Match(q)
					}
				})
			}
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	var all []rule
	for i := range many {
		all = append(all, rule{Name: fmt.Sprint(i), Match: Match{Hosts: []string{fmt.Sprintf("h%d.example.org", i%100)}, Paths: []string{fmt.Sprintf("/api/v%d/*", i)}}})
	}
	for b.Loop() {
		if _, err := Build(all); err != nil {
			b.Fatal(err)
		}
	}
}

// Paths that make a backtracking matcher try all ways to divide them among the "**" take steps in
// proportion to their length.
func TestAdversarialPaths(t *testing.T) {
	var globs []string
	for _, tail := range []string{"z", "a/z", "*/z", "a*/z", "*a*a*a*z"} {
		globs = append(globs, "/**/a/**/a/**/a/**/a/**/a/**/a/**/"+tail, "/**/*/a/**/*a/**/a*/**/"+tail, "/a/**/*/**/*/**/*/**/"+tail)
	}
	var all []rule
	for _, g := range globs {
		all = append(all, rule{Name: g, Match: Match{Paths: []string{g}}, Value: g})
	}
	built, err := build(all)
	if err != nil {
		t.Fatal(err)
	}
	for _, segment := range []string{"/a", "/aaaa", "/" + strings.Repeat("a", 50)} {
		steps := func(n int) (steps int) {
			q := ask("h", strings.Repeat(segment, n)+"/b", "")
			if built.index.match(q, q.Path, &steps) != none {
				t.Fatal("it matches")
			}
			return steps
		}
		nodes, short, long := 0, steps(100), steps(800)
		for _, g := range globs {
			nodes += strings.Count(g, "/")
		}
		t.Logf("%q: %d steps for 100 segments, %d for 800", segment, short, long)
		if long > 9*short || long > nodes*801 {
			t.Errorf("%q: %d steps for 100 segments, %d for 800, with %d nodes", segment, short, long, nodes)
		}
		// One pattern alone, as for a capture.
		for _, g := range globs {
			p, _ := parsePath(g)
			p.matches([]byte(strings.Repeat(segment, 10_000) + "/b"))
		}
	}
}

// A table whose patterns branch at each segment: at most all its nodes are visited.
func TestBranchingPatterns(t *testing.T) {
	var all []rule
	for i := range 1 << 12 {
		path := ""
		for bit := range 12 {
			path += []string{"/a", "/*"}[i>>bit&1]
		}
		all = append(all, rule{Name: path, Match: Match{Paths: []string{path + "/z"}}, Value: path})
	}
	built, err := build(all)
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	q := ask("", strings.Repeat("/a", 12)+"/y", "")
	if built.index.match(q, q.Path, &steps); steps > 1<<13+10 {
		t.Errorf("%d steps", steps)
	}
	q = ask("", strings.Repeat("/a", 12)+"/z", "")
	steps = 0
	if e := built.index.match(q, q.Path, &steps); steps > 20 || built.patterns[e].path.text != strings.Repeat("/a", 12)+"/z" {
		t.Errorf("%d steps to %v", steps, e)
	}
}
