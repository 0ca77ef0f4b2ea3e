package route

import (
	"bytes"
	"math"
	"slices"
)

// globNode is a node of the tree of path patterns with stars, which has one level for each segment.
//
//	/*/objects/*  /*/objects/x  *.js  /**/.*
//
//	root ─ * ─ objects ─ (rest)
//	     │           └ x (end)
//	     └ ** ─ *.js (end)
//	          └ .* (end)
//
// A path is looked up by walking down all ways that fit, and keeping the pattern that is first in
// matching order. A node is at a fixed distance from the "**" above it, so it meets each segment of
// the path once at most; for a "**" below another one the first visit includes the later ones. Thus
// a look-up takes at most as many steps as there are nodes that fit, times the segments of the
// path.
//
// With thousands of patterns a look-up takes as long as the memory that it reads, so a node is one
// cache line.
type globNode struct {
	first    int32 // the least entry at and below this node: nothing here can be better
	min, max int32 // how many more segments the patterns at and below this node match
	end      int32
	rest     int32
	nested   int32 // a deep node below another one: its number from 1
	literal  map[string]*globNode
	lengths  uint64 // of the keys of literal: bit n, the last one for all longer ones
	// prefixes has the children by glob: by prefix, then by suffix. It is nil if there are none.
	prefixes *affixes[suffixGlobs]
	star     *globNode
	deep     *globNode
}

type suffixGlobs = affixes[globChild]

// globChild is a child for a glob. Of those with the same prefix and suffix, of which there is most
// often one, it is the first.
type globChild struct {
	node  *globNode
	next  *globChild
	glob  *glob // nil if it has nothing between two stars
	least int32 // bytes of a segment: of prefix and suffix
}

// lengthBit is the bit of a length in globNode.lengths.
func lengthBit(n int) uint64 { return 1 << min(n, 63) }

// unlimited is the number of segments that a "**" or a star at the end may match.
const unlimited = math.MaxInt32 / 2

// globBuilder makes a tree; it numbers the nested deep nodes across trees.
type globBuilder struct {
	patterns []pattern
	nested   *int
}

// build makes the node for entries, in matching order, whose patterns agree in the first at tokens.
func (b *globBuilder) build(entries []int32, at int, belowDeep bool) *globNode {
	n := &globNode{first: none, min: unlimited, end: none, rest: none}
	children := map[string][]int32{}
	for _, e := range entries {
		n.first = min(n.first, e)
		list := b.patterns[e].path.tokens
		switch {
		case at == len(list):
			n.end, n.min = e, 0
		case list[at].kind == tokenRest:
			n.rest, n.min, n.max = e, 0, unlimited
		default:
			children[list[at].text] = append(children[list[at].text], e)
		}
	}
	globs := map[string]map[string][]*globChild{}
	for text, below := range children {
		t := &b.patterns[below[0]].path.tokens[at]
		child := b.build(below, at+1, belowDeep || t.kind == tokenDeep)
		own := int32(1)
		switch t.kind {
		case tokenLiteral:
			if n.literal == nil {
				n.literal = map[string]*globNode{}
			}
			n.literal[text] = child
			n.lengths |= lengthBit(len(text))
		case tokenGlob:
			bySuffix := globs[t.glob.prefix]
			if bySuffix == nil {
				bySuffix = map[string][]*globChild{}
				globs[t.glob.prefix] = bySuffix
			}
			c := &globChild{node: child, least: int32(len(t.glob.prefix) + len(t.glob.suffix))}
			if len(t.glob.middle) > 0 {
				c.glob = &t.glob
			}
			bySuffix[t.glob.suffix] = append(bySuffix[t.glob.suffix], c)
		case tokenStar:
			n.star = child
		case tokenDeep:
			n.deep, own = child, 0
			n.max = unlimited
			if belowDeep {
				*b.nested++
				child.nested = int32(*b.nested)
			}
		}
		n.min, n.max = min(n.min, child.min+own), min(max(n.max, child.max+own), unlimited)
	}
	if len(globs) > 0 {
		n.prefixes = newPrefixes(globs)
	}
	return n
}

func newPrefixes(globs map[string]map[string][]*globChild) *affixes[suffixGlobs] {
	byPrefix := make(map[string]suffixGlobs, len(globs))
	for prefix, bySuffix := range globs {
		children := make(map[string]globChild, len(bySuffix))
		for suffix, list := range bySuffix {
			slices.SortFunc(list, func(x, y *globChild) int { return int(x.node.first) - int(y.node.first) })
			for i, c := range list[1:] {
				list[i].next = c
			}
			children[suffix] = *list[0]
		}
		byPrefix[prefix] = newAffixes(children, true)
	}
	a := newAffixes(byPrefix, false)
	return &a
}

// segment returns the i-th segment of the path, from 0.
func (s *search) segment(i int) []byte {
	from := 1
	if i > 0 {
		from = int(s.q.ends[i-1]) + 1
	}
	return s.path[from:s.q.ends[i]]
}

// findGlobs walks the tree from its root.
func (s *search) findGlobs(root *globNode) {
	if root.first >= s.best || len(s.path) == 0 || s.path[0] != '/' {
		return
	}
	if len(s.q.ends) == 0 {
		s.cutSegments()
	}
	s.walk(root, 0)
}

// cutSegments notes where the segments of the path end.
func (s *search) cutSegments() {
	ends := slices.Grow(s.q.ends, bytes.Count(s.path, []byte{'/'}))
	for at := 1; at <= len(s.path); {
		end := segmentEnd(s.path, at)
		ends = append(ends, int32(end))
		at = end + 1
	}
	s.q.ends = ends
}

// walk continues at node n with the segment at.
func (s *search) walk(n *globNode, at int) {
	left := int32(len(s.q.ends) - at)
	if n.first >= s.best || left < n.min || left > n.max {
		return
	}
	s.count(1)
	if left > 0 {
		s.walkSegment(n, at)
	}
	if d := n.deep; d != nil && d.first < s.best && s.visit(d) {
		for i := max(at, len(s.q.ends)-int(d.max)); i <= len(s.q.ends)-int(d.min); i++ {
			s.walk(d, i)
		}
	}
	if left == 0 {
		s.consider(n.end)
	}
	s.consider(n.rest)
}

// walkSegment follows the children that stand for one segment.
func (s *search) walkSegment(n *globNode, at int) {
	segment := s.segment(at)
	if n.lengths&lengthBit(len(segment)) != 0 {
		if child := n.literal[string(segment)]; child != nil {
			s.walk(child, at+1)
		}
	}
	if n.prefixes != nil && len(segment) > 0 {
		for i := n.prefixes.longest(segment); i >= 0; i = n.prefixes.items[i].shorter {
			suffixes := &n.prefixes.items[i].value
			for j := suffixes.longest(segment); j >= 0; j = suffixes.items[j].shorter {
				for child := &suffixes.items[j].value; child != nil; child = child.next {
					s.count(1)
					if child.fits(segment) && child.node.first < s.best {
						s.walk(child.node, at+1)
					}
				}
			}
		}
	}
	if n.star != nil && len(segment) > 0 {
		s.walk(n.star, at+1)
	}
}

// fits reports whether a segment that has the prefix and the suffix matches.
func (c *globChild) fits(segment []byte) bool {
	return len(segment) >= int(c.least) && (c.glob == nil || c.glob.match(segment))
}

// visit reports whether a deep node still has to be walked.
func (s *search) visit(n *globNode) bool {
	if n.nested == 0 {
		return true
	}
	word, bit := (n.nested-1)/64, uint64(1)<<((n.nested-1)%64)
	if s.q.seen[word]&bit != 0 {
		return false
	}
	s.q.seen[word] |= bit
	return true
}
