package route

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// tokenKind is what a segment of a path pattern is, the most specific first.
type tokenKind uint8

const (
	tokenLiteral tokenKind = iota // this segment
	tokenGlob                     // "*.js": a segment that fits the text around the stars
	tokenStar                     // "*": one segment, not empty
	tokenDeep                     // "**": any number of segments, also none
	tokenRest                     // "*" at the end: whatever follows, also nothing
)

// token is a segment of a path pattern.
type token struct {
	kind tokenKind
	text string // as written
	glob glob   // for tokenGlob
}

// glob is a pattern for one segment, cut at its stars.
type glob struct {
	prefix, suffix string
	middle         []string // what stands between two stars
}

// tokens cuts a path pattern, which begins with a slash, into segments.
func tokens(pattern string) (list []token) {
	for rest, more := pattern, true; more; {
		var t token
		t, rest, more = nextToken(rest)
		if t.kind == tokenGlob {
			t.glob = newGlob(t.text)
		}
		list = append(list, t)
	}
	return list
}

// nextToken cuts the first segment off a path pattern, without its glob. The rest begins with a
// slash if there is more.
func nextToken(pattern string) (t token, rest string, more bool) {
	t.text = pattern[1:]
	if i := strings.IndexByte(t.text, '/'); i >= 0 {
		t.text, rest, more = t.text[:i], t.text[i:], true
	}
	switch {
	case t.text == "*" && !more:
		t.kind = tokenRest
	case t.text == "*":
		t.kind = tokenStar
	case t.text == "**":
		t.kind = tokenDeep
	case strings.Contains(t.text, "*"):
		t.kind = tokenGlob
	}
	return t, rest, more
}

func newGlob(s string) glob {
	pieces := strings.Split(s, "*")
	last := len(pieces) - 1
	return glob{prefix: pieces[0], suffix: pieces[last], middle: pieces[1:last]}
}

// compareSegments orders path patterns segment by segment, the more specific first.
func compareSegments(a, b string) int {
	if a == b {
		return 0
	}
	same := 0
	for same < len(a) && same < len(b) && a[same] == b[same] {
		same++
	}
	from := strings.LastIndexByte(a[:same], '/')
	for a, b = a[from:], b[from:]; ; {
		t, restA, moreA := nextToken(a)
		u, restB, moreB := nextToken(b)
		if c := t.compare(&u); c != 0 || !moreA || !moreB {
			return cmp.Or(c, boolCompare(moreA, moreB))
		}
		a, b = restA, restB
	}
}

// compare puts the more specific token first: of two globs the one with the longer text before its
// first star, then behind its last, then between. What remains equal is ordered by its text, which
// decides nothing unless both match.
func (t *token) compare(u *token) int {
	if t.kind != u.kind {
		return cmp.Compare(t.kind, u.kind)
	}
	if t.kind == tokenGlob && t.text != u.text {
		a, b := newGlob(t.text), newGlob(u.text)
		if c := cmp.Or(
			cmp.Compare(len(b.prefix), len(a.prefix)),
			cmp.Compare(len(b.suffix), len(a.suffix)),
			cmp.Compare(len(strings.Join(b.middle, "")), len(strings.Join(a.middle, ""))),
		); c != 0 {
			return c
		}
	}
	return cmp.Compare(t.text, u.text)
}

// match reports whether a segment fits.
func (g *glob) match(segment []byte) bool {
	_, ok := g.lastStar(segment)
	return ok
}

// lastStar returns where what the last star matches begins; it ends where the suffix begins. The
// stars before it match as little as possible.
func (g *glob) lastStar(segment []byte) (from int, ok bool) {
	end := len(segment) - len(g.suffix)
	if end < len(g.prefix) || string(segment[:len(g.prefix)]) != g.prefix || string(segment[end:]) != g.suffix {
		return 0, false
	}
	from = len(g.prefix)
	for _, piece := range g.middle {
		i := indexOf(segment[from:end], piece)
		if i < 0 {
			return 0, false
		}
		from += i + len(piece)
	}
	return from, true
}

func indexOf(b []byte, s string) int {
	if len(s) == 1 {
		return bytes.IndexByte(b, s[0])
	}
	return strings.Index(stringOf(b), s)
}

// matchOne reports whether one segment fits a token that stands for one.
func (t *token) matchOne(segment []byte) bool {
	switch t.kind {
	case tokenLiteral:
		return string(segment) == t.text
	case tokenGlob:
		return t.glob.match(segment)
	case tokenStar:
		return len(segment) > 0
	}
	return false
}

// span is a part of a path: path[from:to].
type span struct{ from, to int }

// matchTokens matches a path with one pattern, and returns what its last star matched. Each "**"
// matches as little as possible. A mismatch goes back to the last "**" only, which suffices, so the
// time is at most the number of segments times that of tokens.
func matchTokens(list []token, path []byte) (star span, ok bool) {
	if len(path) == 0 || path[0] != '/' {
		return span{}, false
	}
	wanted := lastStarToken(list)
	// The last "**": its token, where it begins, and where it ends at present.
	deep, deepFrom, deepAt := -1, 0, 0
	i, at := 0, 1
	for {
		switch {
		case i < len(list) && list[i].kind == tokenRest:
			if i == wanted {
				star = span{min(at, len(path)), len(path)}
			}
			return star, true
		case i < len(list) && list[i].kind == tokenDeep && at <= len(path):
			deep, deepFrom, deepAt = i, at, at
			if i == wanted {
				star = span{at, at}
			}
			i++
			continue
		case i == len(list) && at > len(path):
			return star, true
		case i < len(list) && at <= len(path):
			end := segmentEnd(path, at)
			if list[i].matchOne(path[at:end]) {
				if i == wanted {
					star = list[i].star(path, at, end)
				}
				i, at = i+1, end+1
				continue
			}
		}
		if deep < 0 || deepAt > len(path) {
			return span{}, false
		}
		end := segmentEnd(path, deepAt)
		if deep == wanted {
			star = span{deepFrom, end}
		}
		deepAt = end + 1
		i, at = deep+1, deepAt
	}
}

// star is what the last star of a token matched in the segment path[from:to].
func (t *token) star(path []byte, from, to int) span {
	if t.kind != tokenGlob {
		return span{from, to}
	}
	begin, _ := t.glob.lastStar(path[from:to])
	return span{from + begin, to - len(t.glob.suffix)}
}

// lastStarToken is the index of the last token with a star, -1 if there is none.
func lastStarToken(list []token) int {
	for i, t := range slices.Backward(list) {
		if t.kind != tokenLiteral {
			return i
		}
	}
	return -1
}

// segmentEnd is where the segment that begins at from ends.
func segmentEnd(path []byte, from int) int {
	if i := bytes.IndexByte(path[from:], '/'); i >= 0 {
		return from + i
	}
	return len(path)
}
