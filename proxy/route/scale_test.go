package route

import (
	"fmt"
	"strings"
	"testing"
)

// request is what Match is asked.
type request struct{ host, path, listener string }

// shape is a kind of table that could make a match slow, and the requests that are asked of it with
// many rules and with few.
type shape struct {
	name     string
	rule     func(i int) rule
	requests []request
}

const many, few = 10_000, 10

var deep = "/" + strings.Repeat("a/", 1_000) // a path of 1,000 segments

// pick is the number of the i-th of n rules: the few are spread evenly over the many.
func pick(n, i int) int { return (i + 1) * (many / n) }

var shapes = []shape{
	{"flat prefixes", func(i int) rule { return rule{Path: fmt.Sprintf("/service-%05d/*", i)} },
		[]request{{"h", "/service-05000/x", ""}, {"h", "/service-05000/" + deep, ""}, {"h", "/service-zzzzz/x", ""}, {"h", deep, ""}}},
	{"flat exact", func(i int) rule { return rule{Path: fmt.Sprintf("/service-%05d", i)} },
		[]request{{"h", "/service-05000", ""}, {"h", "/service-zzzzz", ""}, {"h", deep, ""}}},
	{"one host", func(i int) rule { return rule{Host: "www.example.org", Path: fmt.Sprintf("/api/v%d/users/*", i)} },
		[]request{{"www.example.org", "/api/v5000/users/7", ""}, {"www.example.org", "/api/v0/users/7", ""}, {"www.example.org", deep, ""}}},
	{"hosts", func(i int) rule { return rule{Host: fmt.Sprintf("host-%05d.example.org", i)} },
		[]request{{"host-05000.example.org", "/x", ""}, {"host-zzzzz.example.org", "/x", ""}, {"host-05000.example.org", deep, ""}}},
	{"wildcards", func(i int) rule { return rule{Host: fmt.Sprintf("*.host-%05d.example.org", i)} },
		[]request{{"a.host-05000.example.org", "/x", ""}, {"a.host-zzzzz.example.org", "/x", ""}}},
	{"listeners", func(i int) rule { return rule{Path: "/a/*", Listener: fmt.Sprintf("l%d", i)} },
		[]request{{"h", "/a/x", "l5000"}, {"h", "/a/x", "other"}}},
	{"nested", func(i int) rule { return rule{Path: strings.Repeat("/a", i) + "/*"} },
		[]request{{"h", "/a/x", ""}, {"h", "/a/a/a/a/a/a/a/a/x", ""}, {"h", deep, ""}}},
	{"nested, with branches", func(i int) rule { return rule{Path: strings.Repeat("/a", i/10) + fmt.Sprintf("/b%d/*", i%10)} },
		[]request{{"h", "/a/a/a/b0/x", ""}, {"h", deep, ""}, {"h", deep + "b0", ""}}},
	{"nested, for another listener", func(i int) rule { return rule{Path: strings.Repeat("/a", i/10) + "/*", Listener: fmt.Sprint(i % 10)} },
		[]request{{"h", deep, "other"}, {"h", deep, "0"}, {"h", "/a/x", "0"}}},
	{"segments that begin alike", func(i int) rule { return rule{Path: "/" + strings.Repeat("x", i/10+1) + fmt.Sprint(i%10) + "/*"} },
		[]request{{"h", "/xxxxx0/y", ""}, {"h", "/" + strings.Repeat("x", 1001) + "/y", ""}, {"h", "/" + strings.Repeat("x", 30_000), ""}}},
}

func table(t testing.TB, s shape, n int) *Table[int] {
	t.Helper()
	var all []Rule[int]
	for i := range n {
		r := s.rule(pick(n, i))
		all = append(all, Rule[int]{Name: fmt.Sprint(i), Host: r.Host, Path: r.Path, Listener: r.Listener, Value: i})
	}
	built, err := Build(all)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func (r request) String() string {
	path := r.path
	if len(path) > 30 {
		path = fmt.Sprintf("%s…(%d)", path[:20], len(path))
	}
	return strings.ReplaceAll(fmt.Sprintf("%s %s %s", r.host, path, r.listener), "/", "|")
}

// 10,000 rules take at most twice the steps of 10, and no memory, for every shape and request. The
// four more are for the search among the stops of a spine, where a step compares two integers; all
// other steps look into a map or compare text.
func TestCostDoesNotGrowWithRules(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			large, small := table(t, s, many), table(t, s, few)
			for _, r := range s.requests {
				steps := func(table *Table[int]) (n int) {
					table.index.match([]byte(r.host), []byte(r.path), r.listener, &n)
					return n
				}
				a, b := steps(small), steps(large)
				t.Logf("%v: %d steps with %d rules, %d with %d", r, a, few, b, many)
				if b > 2*a+4 {
					t.Errorf("%v: %d steps with %d rules, %d with %d", r, a, few, b, many)
				}
				host, path := []byte(r.host), []byte(r.path)
				if n := testing.AllocsPerRun(50, func() { large.Match(host, path, r.listener) }); n != 0 {
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
		all = append(all, rule{Name: path, Path: path + "/*", Value: path})
	}
	built, err := Build(all)
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, r := range all {
		n := 0
		if i := built.index.match(nil, []byte(r.Value+"/x"), "", &n); built.rules[i].Value != r.Value {
			t.Fatalf("Match(%q) = %q", r.Value, built.rules[i].Value)
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
					host, path := []byte(r.host), []byte(r.path)
					b.ReportAllocs()
					for b.Loop() {
						built.Match(host, path, r.listener)
					}
				})
			}
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	var all []rule
	for i := range many {
		all = append(all, rule{Name: fmt.Sprint(i), Host: fmt.Sprintf("h%d.example.org", i%100), Path: fmt.Sprintf("/api/v%d/*", i)})
	}
	for b.Loop() {
		if _, err := Build(all); err != nil {
			b.Fatal(err)
		}
	}
}
