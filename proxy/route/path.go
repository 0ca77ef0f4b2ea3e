package route

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"mpgate/proxy/target"
)

type pathKind uint8

const (
	pathExact  pathKind = iota
	pathPrefix          // "/a/*": /a and all below
	pathGlob            // with stars elsewhere
	pathRegexp
	pathAny
)

// pathPattern is a path of a rule.
type pathPattern struct {
	kind   pathKind
	text   string  // as written
	full   string  // with the "/**/" before "*.js"; equal patterns have equal ones
	fixed  string  // of exact paths and prefixes: without the "/*"
	tokens []token // of globs
	regexp *regexp.Regexp
	need   need // of the regexp
}

// mostTokens is how many segments a pattern with stars may have. The recursion of globs follows
// from it.
const mostTokens = 64

// parsePath returns the pattern, or what is wrong with it.
func parsePath(s string) (p pathPattern, why string) {
	full := s
	if len(s) > 1 && s[0] == '*' && !strings.Contains(s, "/") {
		full = "/**/" + s // "*.js"
	}
	fixed, isPrefix := strings.CutSuffix(full, "/*")
	p = pathPattern{kind: pathExact, text: s, full: full, fixed: fixed}
	switch {
	case strings.Contains(fixed, "*"):
		p.kind, p.fixed = pathGlob, ""
	case isPrefix:
		p.kind = pathPrefix
	}
	switch {
	case full == "/*":
		return p, ""
	case s != "" && strings.Trim(s, "*") == "":
		return p, `stars alone are no path; write "/*", or leave path out`
	}
	if why := canonicalPath(fixed, full[len(fixed):]); why != "" {
		return p, why
	}
	if isPrefix && strings.HasSuffix(fixed, "/") {
		return p, fmt.Sprintf("an empty segment matches nothing; write %q", fixed+"*")
	}
	if p.kind == pathGlob {
		p.tokens = tokens(full)
		return p, globFault(s, full, p.tokens)
	}
	return p, ""
}

// canonicalPath returns what is wrong with a path, which must be written as mpgate matches it. A
// star in it is an ordinary character. tail is what follows it in the pattern.
func canonicalPath(path, tail string) (why string) {
	var scratch []byte
	canonical, flags, err := target.Path([]byte(path), &scratch)
	switch {
	case err != nil:
		return strings.TrimPrefix(err.Error(), "path: ") + `; "/a" is right for one path, "/a/*" for it and all below, "*.js" for an ending`
	case flags&(target.EncodedSlash|target.EncodedReserved) != 0:
		// Match finds them only in requests with the same escapes, although a server takes both
		// spellings for the same.
		return fmt.Sprintf("percent-encodings of characters that may stand in a path as they are cannot be matched; write %q",
			string(target.Decoded(canonical, &scratch))+tail)
	case string(canonical) != path:
		return fmt.Sprintf("not as mpgate matches it; write %q", string(canonical)+tail)
	}
	return ""
}

// globFault returns what is wrong with a pattern that has stars before its end.
func globFault(s, full string, list []token) (why string) {
	if len(list) > mostTokens {
		return fmt.Sprintf("has %d segments; at most %d are allowed together with a star", len(list), mostTokens)
	}
	for i, t := range list {
		switch {
		case t.kind == tokenGlob && strings.Contains(t.text, "**"):
			return `two stars stand for any number of segments, so they must be one: "/**/"`
		case t.kind != tokenDeep:
		case i == len(list)-1:
			return fmt.Sprintf("at the end, one star matches all that follows; write %q", strings.TrimSuffix(s, "*"))
		case list[i+1].kind == tokenDeep:
			return fmt.Sprintf("two stars stand for any number of segments already; write %q", strings.Replace(full, "/**/**", "/**", 1))
		case list[i+1].kind == tokenRest:
			return fmt.Sprintf("one star at the end matches all that follows; write %q", strings.TrimSuffix(full, "**/*")+"*")
		}
	}
	return ""
}

// parseRegexp returns the pattern of a path_regex, or what is wrong with it.
func parseRegexp(s string) (p pathPattern, why string) {
	re, err := regexp.Compile(s)
	if err != nil {
		return p, strings.TrimPrefix(err.Error(), "error parsing regexp: ") + `; an RE2 expression is right, as in "^/v([0-9]+)/"`
	}
	return pathPattern{kind: pathRegexp, text: s, full: s, regexp: re, need: needOf(s)}, ""
}

// rank is the order of the kinds. Patterns by segments are ordered among themselves by those.
func (p *pathPattern) rank() int {
	switch p.kind {
	case pathRegexp:
		return 1
	case pathAny:
		return 2
	}
	return 0
}

// compare puts the more specific pattern first. Two regexps are equal.
func (p *pathPattern) compare(q *pathPattern) int {
	if p.rank() != 0 || q.rank() != 0 {
		return cmp.Compare(p.rank(), q.rank())
	}
	return compareSegments(p.full, q.full)
}

// matches says the same as pathIndex, one pattern at a time.
func (p *pathPattern) matches(path []byte) bool {
	if p.kind == pathAny {
		return true
	}
	if len(path) == 0 || path[0] != '/' {
		return false
	}
	switch p.kind {
	case pathExact:
		return string(path) == p.fixed
	case pathPrefix:
		rest, ok := bytes.CutPrefix(path, []byte(p.fixed))
		return ok && (len(rest) == 0 || rest[0] == '/')
	case pathRegexp:
		return p.regexp.Match(path)
	}
	_, ok := matchTokens(p.tokens, path)
	return ok
}

// star is what the last star of the pattern matched in a path that it matches: nothing at the end
// of an exact path, and all behind the first slash where there is no pattern.
func (p *pathPattern) star(path []byte) (from, to int) {
	switch p.kind {
	case pathPrefix:
		return min(len(p.fixed)+1, len(path)), len(path)
	case pathGlob:
		s, _ := matchTokens(p.tokens, path)
		return s.from, s.to
	case pathAny:
		return min(1, len(path)), len(path)
	}
	return len(path), len(path)
}

// mismatch says what the pattern wants, for a path that does not match.
func (p *pathPattern) mismatch(path []byte) string {
	switch p.kind {
	case pathExact:
		return fmt.Sprintf("the path %q is not %q", path, p.text)
	case pathPrefix:
		return fmt.Sprintf("the path %q is neither %q nor below it", path, p.fixed)
	case pathRegexp:
		return fmt.Sprintf("the path %q does not match the expression %q", path, p.text)
	}
	return fmt.Sprintf("the path %q does not match %q", path, p.text)
}
