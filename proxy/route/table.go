package route

import (
	"errors"
	"slices"

	"mpgate/proxy/message"
)

// Table holds rules and finds the one for a request. It is immutable and may be used by any number
// of goroutines.
type Table[T any] struct {
	rules    []Rule[T] // as given to Build
	patterns []pattern // in matching order
	values   []T       // of their rules: Match reads less memory than by way of the pattern
	index    index
}

// Build makes a table. Its error joins (errors.Join) all faults: a *RuleError for each key of a
// rule that cannot be used, a *TieError for each rule that says the same as an earlier one, and an
// *UnreachableError for each rule that is never chosen.
func Build[T any](rules []Rule[T]) (*Table[T], error) {
	t, err := build(rules)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, u := range unreachable(t.patterns, len(rules)) {
		u.Name, u.By = rules[u.Index].Name, rules[u.ByIndex].Name
		errs = append(errs, u)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return t, nil
}

// build makes a table in which rules may be unreachable.
func build[T any](rules []Rule[T]) (*Table[T], error) {
	t := &Table[T]{rules: slices.Clone(rules)}
	var patterns []*pattern
	var errs []error
	for i := range rules {
		more, faults := parse(i, rules[i].Name, &rules[i].Match)
		patterns = append(patterns, more...)
		errs = append(errs, faults...)
	}
	slices.SortFunc(patterns, (*pattern).compare)
	for _, p := range patterns {
		t.patterns = append(t.patterns, *p)
		t.values = append(t.values, rules[p.rule].Value)
	}
	for _, tie := range ties(t.patterns) {
		tie.First, tie.Second = rules[tie.FirstIndex].Name, rules[tie.SecondIndex].Name
		errs = append(errs, tie)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	t.index = newIndex(t.patterns)
	return t, nil
}

// ties finds pairs of rules of which neither is more specific, one for each second rule, in the
// order of those.
func ties(patterns []pattern) (found []*TieError) {
	type identity struct{ host, path, listener, conditions string }
	first := make(map[identity]*pattern, len(patterns))
	reported := map[int32]bool{}
	for i := range patterns {
		p := &patterns[i]
		path := p.path.full
		if p.path.kind == pathRegexp {
			path = "\x00" + path
		}
		id := identity{p.host.String(), path, p.listener, p.conditions.String()}
		q, ok := first[id]
		if !ok {
			first[id] = p
			continue
		}
		if q.rule == p.rule || reported[p.rule] {
			continue
		}
		reported[p.rule] = true
		found = append(found, &TieError{FirstIndex: int(q.rule), SecondIndex: int(p.rule),
			Host: id.host, Path: p.path.text, Listener: p.listener, Conditions: id.conditions})
	}
	slices.SortFunc(found, func(a, b *TieError) int { return a.SecondIndex - b.SecondIndex })
	return found
}

// Found is the rule of a request.
type Found[T any] struct {
	Value T
	path  *pathPattern
}

// Star returns the part path[from:to] that the last star of the rule's path matched: all but the
// first slash if the rule has no path, nothing at the end if its path has no star. The path must be
// the one that was matched.
func (f *Found[T]) Star(path []byte) (from, to int) { return f.path.star(path) }

// Groups returns the positions of what the rule's path_regex and its groups matched, as
// Regexp.FindSubmatchIndex does; nil if it has none. It allocates.
func (f *Found[T]) Groups(path []byte) []int {
	if f.path.regexp == nil {
		return nil
	}
	return f.path.regexp.FindSubmatchIndex(path)
}

// Match returns the most specific rule for a request, whose host and path are canonical: the host
// is empty for a request without one, the path is "*" for OPTIONS of the server as a whole.
func (t *Table[T]) Match(q *Request) (f Found[T], ok bool) {
	i := t.index.match(q, q.Path, nil)
	if i == none {
		return f, false
	}
	return Found[T]{t.values[i], &t.patterns[i].path}, true
}

// MatchHost is Match for rules that are for the names of TLS handshakes. It allocates.
func (t *Table[T]) MatchHost(host []byte, listener string) (value T, ok bool) {
	f, ok := t.Match(hostRequest(host, listener))
	return f.Value, ok
}

// ExplainHost is Explain for rules as in MatchHost.
func (t *Table[T]) ExplainHost(host []byte, listener string) Explanation {
	return t.Explain(hostRequest(host, listener))
}

func hostRequest(host []byte, listener string) *Request {
	return &Request{Request: &message.Request{Host: host}, Listener: listener}
}

// Entry is one way to match a rule: one of its hosts with one of its paths.
type Entry[T any] struct {
	Rule       *Rule[T]
	Host, Path string // "": any; the path_regex if Regexp
	Regexp     bool
	Conditions string // in words, "" if there is none
}

// Entries lists everything in matching order: of all entries that match a request the first one is
// chosen.
func (t *Table[T]) Entries() []Entry[T] {
	list := make([]Entry[T], len(t.patterns))
	for i := range t.patterns {
		p := &t.patterns[i]
		list[i] = Entry[T]{&t.rules[p.rule], p.host.String(), p.path.text, p.path.kind == pathRegexp, p.conditions.String()}
	}
	return list
}
