package route

import (
	"fmt"
	"testing"
	"time"
)

func TestRegexpCost(t *testing.T) {
	cost := func(n int, expression string) (int, time.Duration) {
		var all []rule
		for i := range n {
			all = append(all, rule{Name: fmt.Sprint(i), Match: Match{PathRegex: fmt.Sprintf(expression, i), Hosts: []string{"a"}}})
		}
		return buildAll(t, append(all, newRules("- - -", "b ~^/x -", "- ~^/y -")...)).RegexpCost()
	}
	// None of the first kind can be ruled out before it is tried, of the second all but one.
	n, slow := cost(2000, "[0-9]+x%d?[^/]$")
	m, fast := cost(2000, "^/x%d/[0-9]+x?[^/]$")
	t.Logf("2000 expressions: %v, with different beginnings %v", slow, fast)
	if n != 2001 || m != 2001 {
		t.Errorf("%d and %d rules, want 2001", n, m)
	}
	if slow < 2000*20*time.Nanosecond || slow > time.Minute || fast > slow/2 {
		t.Errorf("2000 expressions take %v, with different beginnings %v", slow, fast)
	}
	if n, d := buildRules(t, "- /a -").RegexpCost(); n != 0 || d != 0 {
		t.Errorf("a table without expressions: %d, %v", n, d)
	}
}

func buildAll(t *testing.T, all []rule) *Table[string] {
	t.Helper()
	table, err := Build(all)
	if err != nil {
		t.Fatal(err)
	}
	return table
}
