package route

import "strings"

// unreachable finds rules that are never chosen because for each of their patterns there is one of
// another rule that comes first and matches at least the same. It finds none that only several
// rules together make unreachable. Names are left to the caller.
func unreachable(patterns []pattern, rules int) (found []*UnreachableError) {
	covered := make([]*UnreachableError, rules)
	open := make([]bool, rules)
	for from := 0; from < len(patterns); {
		to := from + 1
		// A pattern for other hosts that comes first never has all hosts of this one.
		for to < len(patterns) && patterns[to].host == patterns[from].host {
			to++
		}
		c := newCoverage(patterns[from:to])
		for i := range c.patterns {
			p := &c.patterns[i]
			if open[p.rule] {
				continue
			}
			q := c.before(i)
			if q == nil {
				open[p.rule] = true
			} else if covered[p.rule] == nil {
				covered[p.rule] = &UnreachableError{Index: int(p.rule), ByIndex: int(q.rule), Pattern: p.String(), ByPattern: q.String()}
			}
		}
		from = to
	}
	for i, u := range covered {
		if u != nil && !open[i] {
			found = append(found, u)
		}
	}
	return found
}

// coverage looks for a pattern that comes before another one of the same host and matches all that
// this one does.
type coverage struct {
	patterns []pattern
	// Positions in patterns, by what those must have that they cover.
	prefixes map[string][]int  // by fixed
	globs    map[anchor][]int  // by their rarest anchor
	regexps  map[string][]int  // by the expression
	same     map[sameKey][]int // those with conditions, by the first one
	group    []int             // of each: the first that differs in its conditions only
}

// sameKey is a condition in a group of patterns that differ in their conditions only.
type sameKey struct {
	group     int
	condition string
}

func newCoverage(patterns []pattern) *coverage {
	c := &coverage{patterns: patterns, prefixes: map[string][]int{}, globs: map[anchor][]int{}, regexps: map[string][]int{},
		same: map[sameKey][]int{}, group: make([]int, len(patterns))}
	frequency := map[anchor]int{}
	for i := range patterns {
		for _, a := range patterns[i].path.anchors() {
			frequency[a]++
		}
	}
	for i := range patterns {
		p := &patterns[i]
		c.group[i] = i
		if i > 0 && p.sameButConditions(&patterns[i-1]) {
			c.group[i] = c.group[i-1]
		}
		if len(p.conditions) > 0 {
			key := sameKey{c.group[i], wide(p.conditions[0])}
			c.same[key] = append(c.same[key], i)
		}
		switch p.path.kind {
		case pathPrefix:
			c.prefixes[p.path.fixed] = append(c.prefixes[p.path.fixed], i)
		case pathRegexp:
			c.regexps[p.path.full] = append(c.regexps[p.path.full], i)
		case pathGlob:
			var rarest anchor
			for _, a := range p.path.anchors() {
				if rarest == (anchor{}) || frequency[a] < frequency[rarest] {
					rarest = a
				}
			}
			c.globs[rarest] = append(c.globs[rarest], i)
		}
	}
	return c
}

// before returns the pattern that covers the i-th, nil if there is none.
func (c *coverage) before(i int) *pattern {
	p := &c.patterns[i]
	find := func(candidates []int) *pattern {
		for _, j := range candidates {
			if j >= i {
				break
			}
			if q := &c.patterns[j]; q.rule != p.rule && (q.listener == "" || q.listener == p.listener) &&
				q.path.covers(&p.path) && p.conditions.implies(q.conditions) {
				return q
			}
		}
		return nil
	}
	for _, one := range p.conditions {
		for _, key := range narrow(one) {
			if q := find(c.same[sameKey{c.group[i], key}]); q != nil {
				return q
			}
		}
	}
	// What covers an exact path or a prefix comes later, but for the same one.
	begin := p.path.full
	switch p.path.kind {
	case pathExact, pathPrefix, pathAny:
		return nil
	case pathRegexp:
		begin = p.path.need.prefix
		if q := find(c.regexps[p.path.full]); q != nil {
			return q
		}
	}
	if q := find(c.prefixes[""]); q != nil {
		return q
	}
	for at := range len(begin) {
		if at > 0 && begin[at] == '/' {
			if q := find(c.prefixes[begin[:at]]); q != nil {
				return q
			}
		}
	}
	for _, a := range p.path.included() {
		if q := find(c.globs[a]); q != nil {
			return q
		}
	}
	return nil
}

// wide is what a condition that is implied by another one has in common with it, see narrow.
func wide(c condition) string {
	switch c.(type) {
	case methods, clients:
		return c.key()
	}
	return c.key() + " " + c.want()
}

// narrow lists that of all conditions which c may imply.
func narrow(c condition) []string {
	return []string{c.key(), c.key() + " " + c.want(), c.key() + " " + expectation{value: "*"}.want()}
}

// anchor is something that a glob wants of a segment: its text, how it begins, or how it ends. A
// pattern can only be covered by one whose anchors it has too. The zero anchor wants nothing.
type anchor struct {
	kind anchorKind
	text string
}

type anchorKind uint8

const (
	anchorNone anchorKind = iota
	anchorWhole
	anchorBegin
	anchorEnd
)

// anchors lists what a glob wants.
func (p *pathPattern) anchors() (list []anchor) {
	for _, t := range p.tokens {
		switch {
		case t.kind == tokenLiteral:
			list = append(list, anchor{anchorWhole, t.text})
		case t.kind == tokenGlob && t.glob.prefix != "":
			list = append(list, anchor{anchorBegin, t.glob.prefix})
		case t.kind == tokenGlob && t.glob.suffix != "":
			list = append(list, anchor{anchorEnd, t.glob.suffix})
		}
	}
	return list
}

// included lists the anchors that a pattern which covers this glob may have.
func (p *pathPattern) included() []anchor {
	list := []anchor{{}}
	for _, t := range p.tokens {
		begin, end := t.glob.prefix, t.glob.suffix
		if t.kind == tokenLiteral {
			list = append(list, anchor{anchorWhole, t.text})
			begin, end = t.text, t.text
		}
		for n := range len(begin) {
			list = append(list, anchor{anchorBegin, begin[:n+1]})
		}
		for n := range len(end) {
			list = append(list, anchor{anchorEnd, end[n:]})
		}
	}
	return list
}

// covers reports whether p matches all paths that q matches. It may miss that.
func (p *pathPattern) covers(q *pathPattern) bool {
	switch {
	case p.kind == q.kind && p.full == q.full:
		return true
	case p.kind == pathRegexp || p.kind == pathExact:
		return false
	case p.kind == pathAny:
		return true
	case q.kind == pathAny:
		return false
	case p.kind == pathPrefix && q.kind == pathRegexp:
		return p.fixed == "" || strings.HasPrefix(q.need.prefix, p.fixed+"/")
	case p.kind == pathPrefix:
		return strings.HasPrefix(q.full, p.fixed+"/")
	case q.kind != pathGlob:
		return false // what a glob covers of these comes before it
	}
	// The last segments first: they tell most patterns apart.
	if w, n := &p.tokens[len(p.tokens)-1], &q.tokens[len(q.tokens)-1]; w.kind != tokenRest && (n.kind == tokenRest || !w.includes(n)) {
		return false
	}
	i := inclusion{wide: p.tokens, narrow: q.tokens}
	return i.from(0, 0)
}

// inclusion decides whether the wide pattern matches all that the narrow one does.
type inclusion struct {
	wide, narrow []token
	known        map[[2]int]bool // results where a "**" gives two ways to go on
}

// from decides it for the tokens from w and n on.
func (x *inclusion) from(w, n int) bool {
	if w == len(x.wide) || n == len(x.narrow) || x.wide[w].kind != tokenDeep && x.narrow[n].kind != tokenDeep {
		return x.decide(w, n)
	}
	at := [2]int{w, n}
	result, ok := x.known[at]
	if !ok {
		result = x.decide(w, n)
		if x.known == nil {
			x.known = map[[2]int]bool{}
		}
		x.known[at] = result
	}
	return result
}

func (x *inclusion) decide(w, n int) bool {
	wideEnd, narrowEnd := w == len(x.wide), n == len(x.narrow)
	switch {
	case wideEnd:
		return narrowEnd
	case x.wide[w].kind == tokenRest:
		return true
	case narrowEnd:
		return x.wide[w].kind == tokenDeep && x.from(w+1, n)
	case x.narrow[n].kind == tokenRest:
		return false // it matches any number of segments, and what follows in the wide one does not
	case x.narrow[n].kind == tokenDeep && x.wide[w].kind == tokenDeep:
		return x.from(w, n+1)
	case x.narrow[n].kind == tokenDeep:
		// None of its segments, or one and then the same again. These are not empty: only the last
		// segment of a path is, and a "**" always has something behind it.
		return x.wide[w].kind == tokenStar && x.from(w, n+1) && x.from(w+1, n)
	case x.wide[w].kind == tokenDeep:
		return x.from(w+1, n) || x.from(w, n+1)
	}
	return x.wide[w].includes(&x.narrow[n]) && x.from(w+1, n+1)
}

// includes reports whether a token matches every segment that another one does, both of one
// segment. It may miss that.
func (t *token) includes(u *token) bool {
	switch {
	case t.kind == tokenStar:
		return u.text != ""
	case t.text == u.text:
		return true
	case t.kind != tokenGlob:
		return false
	case u.kind == tokenLiteral:
		return t.glob.match([]byte(u.text))
	case u.kind == tokenGlob && len(t.glob.middle) == 0:
		a, b := &t.glob, &u.glob
		return len(a.prefix) <= len(b.prefix) && b.prefix[:len(a.prefix)] == a.prefix &&
			len(a.suffix) <= len(b.suffix) && b.suffix[len(b.suffix)-len(a.suffix):] == a.suffix
	}
	return false
}
