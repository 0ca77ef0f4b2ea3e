package route

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
)

// paths finds exact paths, and the longest of many path prefixes, in a time that follows from the
// path alone. Patterns with stars before their end are in a globNode.
//
// Prefixes are keys that end with a slash ("/a/*" is "/a/", "/*" is "/", any path is ""), and form
// a tree by segment. It is cut into spines: a spine runs from where it begins always on to the
// child with the most keys below it, down to a leaf. So it is one string, that of its last key, and
// the keys on its way are prefixes of that: stops.
//
//	/api/, /api/v1/, /api/v1/users/, /api/v2/, /static/       spine 0  /api/v1/users/    stops at 5, 8, 14
//	                                                          spine 1  /api/v2/          from spine 0 at 5 by "v2", stop at 8
//	                                                          spine 2  /static/          from spine 0 at 1 by "static", stop at 8
//
// To find a path is to compare it with a spine, to take the deepest stop that lies within what they
// have in common, and to continue with the branch that leads off there, if there is one. A branch
// has at most half of the keys that its spine has below that point, so a path meets at most
// log2(keys) branches, and no more than it has segments. A chain of 10,000 nested prefixes is one
// spine.
type paths struct {
	exact    map[string]int32
	spines   []spine
	branches map[branch]int32
	longest  int // the longest segment that a branch leads off by
	first    int32
}

type spine struct {
	key   string
	stops []stop
	from  branch // that leads here; of the first spine with spine -1
}

type stop struct {
	length int32 // of the key
	entry  int32
}

type branch struct {
	spine, at int32
	segment   string
}

// find considers the exact path, then the prefixes from the longest on, until one is chosen.
func (p *paths) find(s *search) {
	if p.first >= s.best {
		return
	}
	s.count(1)
	if len(p.exact) > 0 {
		if entry, ok := p.exact[string(s.path)]; ok && s.consider(entry) {
			return // of all that match a path, the one that is it comes first
		}
	}
	for id, at := p.deepest(s); id >= 0; {
		sp := &p.spines[id]
		for i := sp.stop(at, s); i >= 0; i-- {
			if s.consider(sp.stops[i].entry) {
				return
			}
		}
		id, at = sp.from.spine, int(sp.from.at)
	}
}

// deepest returns the last spine that has a part of the path, and how much of it.
func (p *paths) deepest(s *search) (id int32, at int) {
	path := s.path
	for {
		sp := &p.spines[id]
		s.count(1)
		if at < len(sp.key) {
			at = sp.common(path, at)
		}
		if at >= len(sp.key) || at >= len(path) {
			return id, at
		}
		segment := path[at:]
		if end := bytes.IndexByte(segment[:min(len(segment), p.longest+1)], '/'); end >= 0 {
			segment = segment[:end]
		}
		if len(segment) > p.longest {
			return id, at
		}
		next, ok := p.branches[branch{spine: id, at: int32(at), segment: string(segment)}]
		if !ok {
			return id, at
		}
		id, at = next, at+len(segment)+1
	}
}

// common returns how much of the spine's key the path has, in whole segments, given that it has
// from bytes of it. A path has a slash behind its end: /a is found by the key "/a/". So the result
// may be one more than the path's length.
func (s *spine) common(path []byte, from int) int {
	n := min(len(s.key), len(path))
	i := from
	for i+8 <= n {
		k := s.key[i : i+8]
		word := uint64(k[0]) | uint64(k[1])<<8 | uint64(k[2])<<16 | uint64(k[3])<<24 |
			uint64(k[4])<<32 | uint64(k[5])<<40 | uint64(k[6])<<48 | uint64(k[7])<<56
		if diff := word ^ binary.LittleEndian.Uint64(path[i:]); diff != 0 {
			i += bits.TrailingZeros64(diff) / 8
			return s.boundary(i, from)
		}
		i += 8
	}
	for i < n && s.key[i] == path[i] {
		i++
	}
	if i == len(path) && i > 0 && i < len(s.key) && s.key[i] == '/' {
		i++
	}
	return s.boundary(i, from)
}

// boundary goes back from i to the end of a segment of the key, but not behind from, which is one.
func (s *spine) boundary(i, from int) int {
	for i > from && s.key[i-1] != '/' {
		i--
	}
	return i
}

// stop returns the index of the last stop not beyond at, or -1.
func (s *spine) stop(at int, of *search) int {
	// The shortest keys are 0, 1, 3, 5, … bytes long, so the stop sought is not far from the
	// beginning when at is small.
	lo, hi := 0, min(len(s.stops), (at+1)/2+1)
	for lo < hi {
		of.count(1)
		if mid := (lo + hi) / 2; int(s.stops[mid].length) <= at {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// newPaths makes the tree of some entries, in matching order, all with different paths.
func newPaths(patterns []pattern, entries []int32) *paths {
	p := &paths{first: entries[0]}
	var keys []prefix
	for _, e := range entries {
		switch path := &patterns[e].path; path.kind {
		case pathExact:
			if p.exact == nil {
				p.exact = map[string]int32{}
			}
			p.exact[path.fixed] = e
		case pathPrefix:
			keys = append(keys, prefix{path.fixed + "/", e})
		case pathAny:
			keys = append(keys, prefix{"", e})
		}
	}
	slices.SortFunc(keys, func(a, b prefix) int { return cmp.Compare(a.key, b.key) })
	for queue := []group{{keys: keys, from: branch{spine: -1}}}; len(queue) > 0; queue = queue[1:] {
		id := int32(len(p.spines))
		if id > 0 {
			if p.branches == nil {
				p.branches = map[branch]int32{}
			}
			p.branches[queue[0].from] = id
			p.longest = max(p.longest, len(queue[0].from.segment))
		}
		s, off := newSpine(id, queue[0])
		s.from = queue[0].from
		p.spines = append(p.spines, s)
		queue = append(queue, off...)
	}
	return p
}

type prefix struct {
	key   string
	entry int32
}

// group is a run of sorted keys that have their first at bytes in common, and the branch that leads
// to it.
type group struct {
	keys []prefix
	at   int
	from branch
}

// newSpine runs down a group along the heaviest children and returns the other ones as groups.
func newSpine(id int32, g group) (s spine, off []group) {
	rest, at := g.keys, g.at
	for len(rest) > 0 {
		if len(rest[0].key) == at {
			s.key = rest[0].key
			s.stops = append(s.stops, stop{length: int32(at), entry: rest[0].entry})
			rest = rest[1:]
			continue
		}
		var heavy group
		for len(rest) > 0 {
			child := firstChild(id, rest, at)
			rest = rest[len(child.keys):]
			if len(child.keys) > len(heavy.keys) {
				child, heavy = heavy, child
			}
			if len(child.keys) > 0 {
				off = append(off, child)
			}
		}
		rest, at = heavy.keys, heavy.at
	}
	return s, off
}

// firstChild returns the keys that have the first one's segment behind at.
func firstChild(id int32, keys []prefix, at int) group {
	end := at + strings.IndexByte(keys[0].key[at:], '/') + 1
	segment := keys[0].key[at:end]
	same := func(k prefix) bool { return strings.HasPrefix(k.key[at:], segment) }
	n := len(keys)
	if !same(keys[n-1]) {
		n, _ = slices.BinarySearchFunc(keys, true, func(k prefix, _ bool) int {
			if same(k) {
				return -1
			}
			return 0
		})
	}
	return group{keys: keys[:n], at: end, from: branch{spine: id, at: int32(at), segment: segment[:len(segment)-1]}}
}
