package migrate

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

// Marks in an alternative of an expression. They are in the private use area of Unicode.
const (
	anyText    = '\ue000' // .*
	anySegment = '\ue001' // [^/]*
	atBegin    = '\ue002'
	atEnd      = '\ue003'
)

// mostAlternatives is how many alternatives of one expression are written out.
const mostAlternatives = 64

// parseExpression parses an expression of nginx, as far as it is also one of RE2.
func parseExpression(expr string, fold bool) (*syntax.Regexp, error) {
	flags := syntax.Perl
	if fold {
		flags |= syntax.FoldCase
	}
	return syntax.Parse(expr, flags)
}

// globs returns path patterns of mpgate that match what an expression matches; nil if there are
// none. Letters that may have either case are in lower case.
func globs(re *syntax.Regexp) (paths []string) {
	for _, alt := range alternatives(re) {
		list := globsOf(alt)
		if list == nil {
			return nil
		}
		for _, g := range list {
			if !slices.Contains(paths, g) {
				paths = append(paths, g)
			}
		}
	}
	return paths
}

// literals returns the texts that an anchored expression matches, nil if it matches others.
func literals(re *syntax.Regexp) (texts []string) {
	for _, alt := range alternatives(re) {
		body, begins := strings.CutPrefix(alt, string(atBegin))
		body, ends := strings.CutSuffix(body, string(atEnd))
		if !begins || !ends || strings.ContainsAny(body, string([]rune{anyText, anySegment, atBegin, atEnd})) {
			return nil
		}
		texts = append(texts, body)
	}
	return texts
}

// alternatives writes an expression out as texts with marks; nil if that is not possible.
func alternatives(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return []string{""}
	case syntax.OpLiteral:
		s := string(re.Rune)
		if re.Flags&syntax.FoldCase != 0 {
			s = strings.ToLower(s)
		}
		return []string{s}
	case syntax.OpBeginText, syntax.OpBeginLine:
		return []string{string(atBegin)}
	case syntax.OpEndText, syntax.OpEndLine:
		return []string{string(atEnd)}
	case syntax.OpCapture:
		return alternatives(re.Sub[0])
	case syntax.OpQuest:
		if sub := alternatives(re.Sub[0]); sub != nil && len(sub) < mostAlternatives {
			return append(sub, "")
		}
	case syntax.OpStar, syntax.OpPlus:
		return repeated(re.Sub[0])
	case syntax.OpCharClass:
		return oneOf(re.Rune, re.Flags&syntax.FoldCase != 0)
	case syntax.OpAlternate:
		return union(re.Sub)
	case syntax.OpConcat:
		return product(re.Sub)
	}
	return nil
}

// repeated is what .* and [^/]* mean; no other repetition has a mark.
func repeated(sub *syntax.Regexp) []string {
	switch sub.Op {
	case syntax.OpCapture:
		return repeated(sub.Sub[0])
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{string(anyText)}
	case syntax.OpCharClass:
		if slices.Equal(sub.Rune, []rune{0, '/' - 1, '/' + 1, unicode.MaxRune}) {
			return []string{string(anySegment)}
		}
	}
	return nil
}

// oneOf writes out a class of few characters.
func oneOf(ranges []rune, fold bool) (out []string) {
	for i := 0; i+1 < len(ranges); i += 2 {
		if ranges[i+1]-ranges[i] > 16 || len(out) > 16 {
			return nil
		}
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			c := string(r)
			if fold || unicode.IsUpper(r) && inRanges(ranges, unicode.ToLower(r)) {
				c = strings.ToLower(c)
			}
			if !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	return out
}

func inRanges(ranges []rune, r rune) bool {
	for i := 0; i+1 < len(ranges); i += 2 {
		if ranges[i] <= r && r <= ranges[i+1] {
			return true
		}
	}
	return false
}

func union(subs []*syntax.Regexp) (out []string) {
	for _, s := range subs {
		more := alternatives(s)
		if more == nil || len(out)+len(more) > mostAlternatives {
			return nil
		}
		out = append(out, more...)
	}
	return out
}

func product(subs []*syntax.Regexp) []string {
	out := []string{""}
	for _, s := range subs {
		more := alternatives(s)
		if more == nil || len(out)*len(more) > mostAlternatives {
			return nil
		}
		var next []string
		for _, a := range out {
			for _, b := range more {
				next = append(next, a+b)
			}
		}
		out = next
	}
	return out
}

// globsOf turns one alternative into patterns.
func globsOf(alt string) []string {
	s, begins := strings.CutPrefix(alt, string(atBegin))
	s, ends := strings.CutSuffix(s, string(atEnd))
	if strings.ContainsAny(s, string([]rune{atBegin, atEnd})+"*") {
		return nil
	}
	if !begins {
		s = string(anyText) + s
	}
	if !ends {
		s += string(anyText)
	}
	for double := strings.Repeat(string(anyText), 2); strings.Contains(s, double); {
		s = strings.ReplaceAll(s, double, string(anyText))
	}
	if s == string(anyText) || s == "/"+string(anyText) {
		return []string{"/*"}
	}
	if rest, ok := strings.CutPrefix(s, string(anyText)); ok {
		if s = "/**/*" + rest; strings.HasPrefix(rest, "/") {
			s = "/**" + rest
		}
	}
	s, open := strings.CutSuffix(s, string(anyText))
	s = strings.ReplaceAll(s, "/"+string(anyText)+"/", "/**/")
	s = strings.ReplaceAll(s, "/"+string(anyText), "/**/*")
	s = strings.ReplaceAll(s, string(anySegment), "*")
	if strings.ContainsRune(s, anyText) || !strings.HasPrefix(s, "/") {
		return nil
	}
	return finish(s, open)
}

// finish adds what follows a pattern, and shortens it; open: any text may follow.
func finish(s string, open bool) []string {
	last := s[strings.LastIndexByte(s, '/')+1:]
	switch {
	case open && last == "":
		return []string{s + "*"}
	case open && strings.Contains(last, "*"), last == "*":
		return nil
	case open && strings.HasPrefix(last, "."):
		return []string{s + "*", s + "*/*"}
	case open:
		return []string{s + "/*"} // by segment, as for a location without an expression
	}
	if rest, ok := strings.CutPrefix(s, "/**/*"); ok && rest != "" && !strings.ContainsAny(rest, "/*") {
		return []string{"*" + rest}
	}
	return []string{s}
}
