package route

import "fmt"

// Explanation says how the route of a request was found.
type Explanation struct {
	Candidates []Candidate // the rules whose host fits, in matching order
	OtherHosts int         // how many rules are for other hosts
	Chosen     int         // index into Candidates, -1 when no rule matches
}

// Candidate is a rule that was considered, with that pair of its hosts and paths which comes
// nearest to the request.
type Candidate struct {
	Name, Host, Path, Listener string // Path is the path_regex if Regexp
	Regexp                     bool
	Conditions                 string // in words
	Matches                    bool
	Why                        string // it was chosen, or not
}

// progress is how far a pattern matches a request.
type progress uint8

const (
	otherHost progress = iota
	otherPath
	otherListener
	otherConditions
	matches
)

// progress says the same as index.match, one pattern at a time and slowly: the tests hold the one
// to the other.
func (p *pattern) progress(q *Request) progress {
	switch {
	case !p.host.matches(q.Host):
		return otherHost
	case !p.path.matches(q.Path):
		return otherPath
	case p.listener != "" && p.listener != q.Listener:
		return otherListener
	case !p.conditions.hold(q):
		return otherConditions
	}
	return matches
}

// Explain says which rules come into question for a request and why one of them is chosen. It looks
// at every rule, one by one.
func (t *Table[T]) Explain(q *Request) Explanation {
	nearest := make([]int, len(t.rules)) // the pattern of each rule that comes nearest
	reached := make([]progress, len(t.rules))
	paths := make([]int, len(t.rules)) // how many paths a rule has for this host
	for i := range t.patterns {
		p := &t.patterns[i]
		got := p.progress(q)
		if got > otherHost {
			paths[p.rule]++
		}
		if got > reached[p.rule] {
			nearest[p.rule], reached[p.rule] = i, got
		}
	}
	e := Explanation{Chosen: -1}
	for _, r := range reached {
		if r == otherHost {
			e.OtherHosts++
		}
	}
	var chosen *pattern
	for i := range t.patterns {
		p := &t.patterns[i]
		got := reached[p.rule]
		if nearest[p.rule] != i || got == otherHost {
			continue
		}
		c := Candidate{Name: t.rules[p.rule].Name, Host: p.host.String(), Path: p.path.text, Listener: p.listener,
			Regexp: p.path.kind == pathRegexp, Conditions: p.conditions.String(), Matches: got == matches}
		switch {
		case got == otherPath && paths[p.rule] > 1:
			c.Why = fmt.Sprintf("the path %q matches none of its paths", q.Path)
		case got == otherPath:
			c.Why = p.path.mismatch(q.Path)
		case got == otherListener:
			c.Why = fmt.Sprintf("the listener is %q, not %q", q.Listener, p.listener)
		case got == otherConditions:
			c.Why = p.conditions.failing(q)
		case chosen == nil:
			e.Chosen, chosen = len(e.Candidates), p
			c.Why = "chosen: nothing more specific matches"
		default:
			c.Why = fmt.Sprintf("it matches, but %q %s", e.Candidates[e.Chosen].Name, chosen.advantage(p))
		}
		e.Candidates = append(e.Candidates, c)
	}
	return e
}
