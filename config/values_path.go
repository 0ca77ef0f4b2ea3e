package config

import (
	"fmt"
	"strings"
)

// matchPath is the path of a match.
func matchPath(s, _ string) (string, string) {
	if problem := pathProblem(s); problem != "" {
		return "", problem
	}
	return s, ""
}

// pathGlob is a path in which * stands for any text within a segment, and ** for any number of
// segments, or *.x for every path that ends so.
func pathGlob(s, _ string) (string, string) {
	literal := strings.ReplaceAll(s, "*", "x")
	if strings.HasPrefix(s, "*") {
		literal = "/" + literal
	}
	if problem := pathProblem(literal); problem != "" {
		return "", problem
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment != "**" && strings.Count(segment, "*") > 1 {
			return "", fmt.Sprintf(`has the segment %q; write one * in a segment, or ** alone for any number of segments`, segment)
		}
	}
	return s, ""
}

// exactPath is one path.
func exactPath(s, dir string) (string, string) {
	if s, problem := matchPath(s, dir); problem != "" || !strings.Contains(s, "*") {
		return s, problem
	}
	return "", `has a *; must be one path, for example "/healthz"`
}

// pathProblem checks the path of a match, which must be canonical, as that of a request is made
// before it is matched: another form would never match. It is "what is wrong; what would be right",
// "" for nothing.
func pathProblem(p string) string {
	if p == "" || p[0] != '/' {
		return `does not begin with /; must be for example "/api" or "/api/*"`
	}
	body := p
	if rest, ok := strings.CutSuffix(p, "/*"); ok {
		body = rest
	}
	if strings.Contains(body, "*") {
		return `has a * that is not at the end after a slash; write "/api/*" for /api and all below it`
	}
	for i := 0; i < len(body); i++ {
		if problem := pathByte(body, i); problem != "" {
			return problem
		}
	}
	segments := strings.Split(body, "/")
	for i, s := range segments {
		switch {
		case s == "." || s == "..":
			return fmt.Sprintf("has the segment %q; write the path that it resolves to", s)
		case strings.HasPrefix(s, ".;") || strings.HasPrefix(s, "..;"):
			return fmt.Sprintf("has the segment %q, a dot segment to some servers; requests with it are refused", s)
		case s == "" && i > 0 && (i < len(segments)-1 || body != p):
			return `has an empty segment ("//"); write one slash`
		}
	}
	return ""
}

// pathByte checks the byte at i: RFC 3986's pchar, and escapes in their canonical form.
func pathByte(p string, i int) string {
	c := p[i]
	switch {
	case c == '/' || isPchar(c):
		return ""
	case c == '?' || c == '#':
		return fmt.Sprintf("has a %q; only the path is matched, without query and fragment", string(c))
	case c == '\\' || c < ' ' || c == 0x7f:
		return fmt.Sprintf("has the byte %q; requests with it are refused", string(rune(c)))
	case c != '%':
		return fmt.Sprintf("has the byte %q as it is; write it as %%%02X", string(rune(c)), c)
	}
	if i+2 >= len(p) || strings.IndexByte(upperHex, p[i+1]) < 0 || strings.IndexByte(upperHex, p[i+2]) < 0 {
		return "has a % that is not followed by two upper-case hexadecimal digits; write %25 for a percent sign"
	}
	b := byte(strings.IndexByte(upperHex, p[i+1])<<4 | strings.IndexByte(upperHex, p[i+2]))
	switch {
	case b == 0:
		return "has %00; requests with it are refused"
	case b == '/' || b == '\\':
		return fmt.Sprintf("has %s, an encoded slash; leave out what follows it: a match ends before it", p[i:i+3])
	case isPchar(b) || b == '*':
		return fmt.Sprintf("has %s; write it as %q", p[i:i+3], string(rune(b)))
	}
	return ""
}

// isPchar reports what may be in a segment as it is (RFC 3986 3.3), except for the *, which has a
// meaning in a match.
func isPchar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()+,;=:@", c) >= 0
}

const upperHex = "0123456789ABCDEF"
