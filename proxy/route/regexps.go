package route

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// regexps finds the first of many expressions that a path matches. An expression that says what a
// path begins with is found by that; all others are tried one by one, after a look at what they say
// of the path's end or middle.
type regexps struct {
	byPrefix affixes[[]regexpRule] // in matching order
	others   []regexpRule          // in matching order
	first    int32
}

type regexpRule struct {
	need   need
	regexp *regexp.Regexp
	entry  int32
}

func newRegexps(patterns []pattern, indices []int32) *regexps {
	x := &regexps{first: indices[0]}
	byPrefix := map[string][]regexpRule{}
	for _, i := range indices {
		p := &patterns[i].path
		r := regexpRule{need: p.need, regexp: p.regexp, entry: i}
		if r.need.prefix == "" {
			x.others = append(x.others, r)
		} else {
			byPrefix[r.need.prefix] = append(byPrefix[r.need.prefix], r)
		}
	}
	x.byPrefix = newAffixes(byPrefix, false)
	return x
}

func (x *regexps) find(s *search) {
	if x.first >= s.best || len(s.path) == 0 || s.path[0] != '/' {
		return
	}
	s.count(1)
	for i := x.byPrefix.longest(s.path); i >= 0; i = x.byPrefix.items[i].shorter {
		s.tryRegexps(x.byPrefix.items[i].value)
	}
	s.tryRegexps(x.others)
}

func (s *search) tryRegexps(list []regexpRule) {
	text := stringOf(s.path)
	for i := range list {
		r := &list[i]
		if r.entry >= s.best {
			return
		}
		s.count(1)
		if r.matches(text) {
			s.consider(r.entry)
		}
	}
}

// matches reports whether the expression matches a path that begins as it must.
func (r *regexpRule) matches(path string) bool {
	return strings.HasSuffix(path, r.need.suffix) && strings.Contains(path, r.need.middle) && r.regexp.MatchString(path)
}

// need is what a text must have for an expression to match. It is cheaper to look for.
type need struct{ prefix, suffix, middle string }

// needOf derives it from the literals of an expression: "^/v" is a prefix, `\.php$` a suffix.
func needOf(expression string) (n need) {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return n
	}
	list := appendPieces(nil, re.Simplify())
	last := len(list) - 1
	if last > 0 && list[0].op == syntax.OpBeginText {
		n.prefix, list[1].used = list[1].text, true
	}
	if last > 0 && list[last].op == syntax.OpEndText {
		n.suffix, list[last-1].used = list[last-1].text, true
	}
	for _, p := range list {
		if !p.used && len(p.text) > len(n.middle) {
			n.middle = p.text
		}
	}
	return n
}

// piece is a part of an expression: a text, or anything else.
type piece struct {
	text string
	op   syntax.Op
	used bool
}

// appendPieces appends what an expression consists of in a row. Groups are opened, and texts that
// follow each other are one.
func appendPieces(list []piece, re *syntax.Regexp) []piece {
	switch re.Op {
	case syntax.OpConcat, syntax.OpCapture:
		for _, sub := range re.Sub {
			list = appendPieces(list, sub)
		}
		return list
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 || slices.Contains(re.Rune, utf8.RuneError) {
			break
		}
		if last := len(list) - 1; last >= 0 && list[last].op == syntax.OpLiteral && list[last].text != "" {
			list[last].text += string(re.Rune)
			return list
		}
		return append(list, piece{text: string(re.Rune), op: re.Op})
	}
	return append(list, piece{op: re.Op})
}
