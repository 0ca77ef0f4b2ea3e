package route

import (
	"strings"
	"time"
)

// RegexpCost measures how long the path_regex of the table occupy a request that none of them
// matches, and returns for how many rules of one host that is. The request is the slowest of some
// whose paths, of about 64 bytes, begin and end as the expressions want. It takes up to a second.
func (t *Table[T]) RegexpCost() (rules int, perRequest time.Duration) {
	deadline := time.Now().Add(time.Second)
	forAny := 0
	var costOfAny time.Duration
	if t.index.any != nil {
		forAny, costOfAny = t.index.any.regexpCost(deadline)
	}
	rules, perRequest = forAny, costOfAny
	worst := func(h *hostEntries) {
		n, d := h.regexpCost(deadline)
		if d += costOfAny; n > 0 && d > perRequest {
			rules, perRequest = n+forAny, d
		}
	}
	for _, h := range t.index.exact {
		worst(h)
	}
	for _, h := range t.index.label {
		worst(h)
	}
	for i := range t.index.tail.items {
		worst(t.index.tail.items[i].value)
	}
	return rules, perRequest
}

// regexpCost is that of the listener that has most to do.
func (h *hostEntries) regexpCost(deadline time.Time) (rules int, d time.Duration) {
	for _, p := range h.named {
		if n, cost := p.regexps.cost(deadline); cost > d {
			rules, d = n, cost
		}
	}
	if h.any != nil {
		n, cost := h.any.regexps.cost(deadline)
		rules, d = rules+n, d+cost
	}
	return rules, d
}

// samples is how many expressions are asked what a path that keeps them busy looks like.
const samples = 16

func (x *regexps) cost(deadline time.Time) (rules int, d time.Duration) {
	if x == nil {
		return 0, 0
	}
	var all []*regexpRule
	for i := range x.byPrefix.items {
		for j := range x.byPrefix.items[i].value {
			all = append(all, &x.byPrefix.items[i].value[j])
		}
	}
	for i := range x.others {
		all = append(all, &x.others[i])
	}
	for i := 0; i < len(all); i += max(1, len(all)/samples) {
		path := sample(all[i].need)
		best := time.Duration(0)
		for run := range 3 { // the fastest: the others were disturbed
			start := time.Now()
			x.tryAll(path)
			if took := time.Since(start); run == 0 || took < best {
				best = took
			}
			if time.Now().After(deadline) {
				break
			}
		}
		d = max(d, best)
	}
	return len(all), d
}

// sample is a path that has what an expression needs.
func sample(n need) string {
	begin := n.prefix
	if begin == "" {
		begin = "/"
	}
	end := n.middle + n.suffix
	fill := max(0, 64-len(begin)-len(end))
	return begin + strings.Repeat("a/segment-", 7)[:min(fill, 70)] + end
}

// tryAll does what find does with a path that no expression matches.
func (x *regexps) tryAll(path string) (matches int) {
	try := func(list []regexpRule) {
		for i := range list {
			if list[i].matches(path) {
				matches++
			}
		}
	}
	for i := x.byPrefix.longest([]byte(path)); i >= 0; i = x.byPrefix.items[i].shorter {
		try(x.byPrefix.items[i].value)
	}
	try(x.others)
	return matches
}
