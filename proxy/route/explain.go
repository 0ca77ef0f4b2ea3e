package route

import "fmt"

// Explanation says how the route of a request was found.
type Explanation struct {
	Candidates []Candidate // the rules whose host fits, in matching order
	OtherHosts int         // how many rules are for other hosts
	Chosen     int         // index into Candidates, -1 when no rule matches
}

// Candidate is a rule that was considered.
type Candidate struct {
	Name, Host, Path, Listener string // of the rule
	Matches                    bool
	Why                        string // it was chosen, or not
}

// Explain says which rules come into question for a request and why one of them is chosen. It looks
// at every rule, one by one.
func (t *Table[T]) Explain(host, path []byte, listener string) Explanation {
	e := Explanation{Chosen: -1}
	var chosen pattern
	for i, p := range t.patterns {
		if !p.matchesHost(string(host)) {
			e.OtherHosts++
			continue
		}
		r := &t.rules[i]
		c := Candidate{Name: r.Name, Host: r.Host, Path: r.Path, Listener: r.Listener}
		switch {
		case !p.matchesPath(string(path)):
			c.Why = fmt.Sprintf("the path %q is not %q", path, p.path)
			if p.pathKind == pathPrefix {
				c.Why = fmt.Sprintf("the path %q is neither %q nor below it", path, p.path)
			}
		case !p.matchesListener(listener):
			c.Why = fmt.Sprintf("the listener is %q, not %q", listener, p.listener)
		case e.Chosen < 0:
			e.Chosen, chosen = len(e.Candidates), p
			c.Matches, c.Why = true, "chosen: nothing more specific matches"
		default:
			c.Matches, c.Why = true, fmt.Sprintf("it matches, but %q %s", e.Candidates[e.Chosen].Name, chosen.advantage(p))
		}
		e.Candidates = append(e.Candidates, c)
	}
	return e
}

// advantage says why p comes before q, which matches the same request.
func (p pattern) advantage(q pattern) string {
	switch {
	case p.hostKind != q.hostKind && p.hostKind == hostExact:
		return "names the host exactly"
	case p.hostKind != q.hostKind:
		return "names the host by a wildcard"
	case p.pathKind != q.pathKind && p.pathKind == pathExact:
		return "names the path exactly"
	case p.pathKind != q.pathKind || p.path != q.path:
		return "has the longer path"
	}
	return "names the listener"
}
