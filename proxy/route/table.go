package route

import (
	"bytes"
	"errors"
	"slices"
)

// Table holds rules and finds the one for a request. It is immutable and may be used by any number
// of goroutines.
type Table[T any] struct {
	rules    []Rule[T] // in matching order
	patterns []pattern // of them
	index    index
}

// Build makes a table. Its error joins (errors.Join) all faults: a *RuleError for each key of a
// rule that cannot be used, and a *TieError for each rule that says the same as an earlier one.
func Build[T any](rules []Rule[T]) (*Table[T], error) {
	var errs []error
	first := make(map[pattern]int, len(rules))
	order := make([]int, 0, len(rules))
	patterns := make([]pattern, len(rules))
	for i := range rules {
		r := &rules[i]
		p, faults := parse(i, r)
		if len(faults) > 0 {
			errs = append(errs, faults...)
			continue
		}
		if j, ok := first[p]; ok {
			errs = append(errs, &TieError{First: rules[j].Name, Second: r.Name, FirstIndex: j, SecondIndex: i,
				Host: r.Host, Path: r.Path, Listener: r.Listener})
			continue
		}
		first[p], patterns[i] = i, p
		order = append(order, i)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(order, func(a, b int) int { return patterns[a].before(patterns[b]) })
	t := &Table[T]{rules: make([]Rule[T], len(order)), patterns: make([]pattern, len(order))}
	for i, from := range order {
		t.rules[i], t.patterns[i] = rules[from], patterns[from]
	}
	t.index = newIndex(t.patterns)
	return t, nil
}

// Match returns the value of the most specific rule for a request. Host and path are canonical;
// host is empty for a request without one, path is "*" for OPTIONS of the server as a whole.
func (t *Table[T]) Match(host, path []byte, listener string) (value T, ok bool) {
	i := t.index.match(host, path, listener, nil)
	if i < 0 {
		return value, false
	}
	return t.rules[i].Value, true
}

// Rules returns the rules in matching order: of all that match a request the first one is chosen.
func (t *Table[T]) Rules() []Rule[T] { return slices.Clone(t.rules) }

// none is the rule that there is not.
const none int32 = -1

// index finds rules by host; a rule is its position in matching order.
type index struct {
	exact    map[string]*hostRules
	wildcard map[string]*hostRules // by what follows the first dot
	any      *hostRules
}

// hostRules are the rules of one host. They are apart by listener, so that rules for other
// listeners are not in the way.
type hostRules struct {
	any   *paths
	named map[string]*paths
}

func newIndex(patterns []pattern) index {
	x := index{exact: map[string]*hostRules{}, wildcard: map[string]*hostRules{}}
	// Rules of one host stand side by side in matching order.
	for from := 0; from < len(patterns); {
		p := patterns[from]
		to := from + 1
		for to < len(patterns) && patterns[to].hostKind == p.hostKind && patterns[to].host == p.host {
			to++
		}
		h := newHostRules(patterns, from, to)
		switch p.hostKind {
		case hostExact:
			x.exact[p.host] = h
		case hostWildcard:
			x.wildcard[p.host] = h
		case hostAny:
			x.any = h
		}
		from = to
	}
	return x
}

func newHostRules(patterns []pattern, from, to int) *hostRules {
	byListener := map[string][]int32{}
	for i := from; i < to; i++ {
		l := patterns[i].listener
		byListener[l] = append(byListener[l], int32(i))
	}
	h := &hostRules{}
	for listener, rules := range byListener {
		p := newPaths(patterns, rules)
		switch {
		case listener == "":
			h.any = p
		case h.named == nil:
			h.named = map[string]*paths{listener: p}
		default:
			h.named[listener] = p
		}
	}
	return h
}

// match returns the rule for a request, or none. Where steps is not nil it counts the look-ups and
// comparisons.
func (x *index) match(host, path []byte, listener string, steps *int) int32 {
	if h := x.exact[string(host)]; h != nil {
		if rule := h.match(path, listener, steps); rule != none {
			return rule
		}
	}
	if len(x.wildcard) > 0 {
		if dot := bytes.IndexByte(host, '.'); dot >= 0 {
			if h := x.wildcard[string(host[dot+1:])]; h != nil {
				if rule := h.match(path, listener, steps); rule != none {
					return rule
				}
			}
		}
	}
	if x.any == nil {
		return none
	}
	return x.any.match(path, listener, steps)
}

func (h *hostRules) match(path []byte, listener string, steps *int) int32 {
	count(steps, 1)
	rule, length := none, -1
	if h.any != nil {
		rule, length = h.any.find(path, steps)
	}
	if len(h.named) == 0 {
		return rule
	}
	if p := h.named[listener]; p != nil {
		// With equally long paths the rule that names the listener is the more specific one.
		if named, n := p.find(path, steps); n >= length {
			return named
		}
	}
	return rule
}

func count(steps *int, n int) {
	if steps != nil {
		*steps += n
	}
}
