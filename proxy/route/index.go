package route

import (
	"bytes"
	"math"
)

// none is the entry that there is not. It comes after all others.
const none int32 = math.MaxInt32

// index finds patterns by host. An entry is the position of a pattern in matching order, the first
// of those that differ in their conditions only.
type index struct {
	exact   map[string]*hostEntries
	label   map[string]*hostEntries // "*.example.org" by ".example.org"
	tail    affixes[*hostEntries]   // "cloud.*" by "cloud."
	any     *hostEntries
	entries []entry
	nested  int // how many deep nodes are below others
}

// entry is what is left to compare of a pattern once host, path and listener match.
type entry struct {
	conditions conditions
	more       bool // the next one has the same host, path and listener
}

// hostEntries are the entries of one host. They are apart by listener, so that those for other
// listeners are not in the way.
type hostEntries struct {
	any   *pathIndex
	named map[string]*pathIndex
}

// pathIndex finds the entries of one host and listener by path.
type pathIndex struct {
	paths   *paths // nil if there are none, as the others
	globs   *globNode
	regexps *regexps
}

func newIndex(patterns []pattern) index {
	x := index{exact: map[string]*hostEntries{}, label: map[string]*hostEntries{}, entries: make([]entry, len(patterns))}
	for i := range patterns {
		p := &patterns[i]
		more := i+1 < len(patterns) && p.path.kind != pathRegexp && p.sameButConditions(&patterns[i+1])
		x.entries[i] = entry{p.conditions, more}
	}
	tails := map[string]*hostEntries{}
	// Patterns of one host stand side by side in matching order.
	for from := 0; from < len(patterns); {
		host := patterns[from].host
		to := from + 1
		for to < len(patterns) && patterns[to].host == host {
			to++
		}
		h := x.newHost(patterns, from, to)
		switch host.kind {
		case hostExact:
			x.exact[host.name] = h
		case hostLabel:
			x.label[host.name] = h
		case hostTail:
			tails[host.name] = h
		case hostAny:
			x.any = h
		}
		from = to
	}
	x.tail = newAffixes(tails, false)
	return x
}

func (x *index) newHost(patterns []pattern, from, to int) *hostEntries {
	byListener := map[string][]int32{}
	for i := from; i < to; i++ {
		if i > from && x.entries[i-1].more {
			continue // found by the first of them
		}
		l := patterns[i].listener
		byListener[l] = append(byListener[l], int32(i))
	}
	h := &hostEntries{}
	for listener, entries := range byListener {
		p := x.newPathIndex(patterns, entries)
		switch {
		case listener == "":
			h.any = p
		case h.named == nil:
			h.named = map[string]*pathIndex{listener: p}
		default:
			h.named[listener] = p
		}
	}
	return h
}

func (x *index) newPathIndex(patterns []pattern, entries []int32) *pathIndex {
	var fixed, globs, regexps []int32
	for _, e := range entries {
		switch patterns[e].path.kind {
		case pathGlob:
			globs = append(globs, e)
		case pathRegexp:
			regexps = append(regexps, e)
		default:
			fixed = append(fixed, e)
		}
	}
	p := new(pathIndex)
	if len(fixed) > 0 {
		p.paths = newPaths(patterns, fixed)
	}
	if len(globs) > 0 {
		b := globBuilder{patterns, &x.nested}
		p.globs = b.build(globs, 0, false)
	}
	if len(regexps) > 0 {
		p.regexps = newRegexps(patterns, regexps)
	}
	return p
}

// search is the look-up of one request.
type search struct {
	q       *Request
	path    []byte
	entries []entry
	best    int32 // of those that match so far
	steps   *int
}

// match returns the entry for a request with a path, or none. If steps is not nil it counts the
// look-ups and comparisons.
func (x *index) match(q *Request, path []byte, steps *int) int32 {
	s := search{q: q, path: path, entries: x.entries, best: none, steps: steps}
	q.ends = q.ends[:0]
	if x.nested > 0 {
		words := (x.nested + 63) / 64
		if len(q.seen) < words {
			q.seen = make([]uint64, words)
		}
		clear(q.seen[:words])
	}
	x.search(&s)
	if cap(q.ends) > keptEnds {
		q.ends = nil
	}
	return s.best
}

// keptEnds is how many ends of segments a Request keeps room for between matches.
const keptEnds = 4096

// search goes from the most specific hosts to the least, and ends with the first that has an entry
// for the request.
func (x *index) search(s *search) {
	host := s.q.Host
	if h := x.exact[string(host)]; h != nil && h.find(s) {
		return
	}
	if len(x.label) > 0 {
		if dot := bytes.IndexByte(host, '.'); dot >= 0 {
			if h := x.label[string(host[dot:])]; h != nil && h.find(s) {
				return
			}
		}
	}
	for i := x.tail.longest(host); i >= 0; i = x.tail.items[i].shorter {
		if x.tail.items[i].value.find(s) {
			return
		}
	}
	if x.any != nil {
		x.any.find(s)
	}
}

// find reports whether there is an entry.
func (h *hostEntries) find(s *search) bool {
	s.count(1)
	if len(h.named) > 0 {
		if p := h.named[s.q.Listener]; p != nil {
			p.find(s)
		}
	}
	if h.any != nil {
		h.any.find(s)
	}
	return s.best != none
}

func (p *pathIndex) find(s *search) {
	if p.paths != nil {
		p.paths.find(s)
	}
	if p.globs != nil {
		s.findGlobs(p.globs)
	}
	if p.regexps != nil {
		p.regexps.find(s)
	}
}

// consider takes the first of an entry and those that differ in their conditions only, if it holds
// and comes before what matches so far. It reports whether nothing behind the entry can be better.
func (s *search) consider(e int32) (done bool) {
	for ; e < s.best; e++ {
		one := &s.entries[e]
		if one.conditions == nil || one.conditions.hold(s.q) {
			s.best = e
			return true
		}
		s.count(1)
		if !one.more {
			return false
		}
	}
	return true
}

func (s *search) count(n int) {
	if s.steps != nil {
		*s.steps += n
	}
}
