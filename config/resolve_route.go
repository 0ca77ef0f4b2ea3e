package config

import (
	"fmt"
	"strings"
)

func (l *loader) route(r *rawRoute) Route {
	out := Route{
		Name:              l.name(r.Name),
		Backend:           r.Backend.V,
		EncodedSlash:      oneOf(l, r.EncodedSlash, Reject, Keep),
		DuplicateSlashes:  oneOf(l, r.DuplicateSlashes, Merge, Keep),
		UnsafeHeaderNames: oneOf(l, r.UnsafeHeaderNames, Drop, Keep),
		Match: Match{
			Host:     l.matchHost(r.Match.Host, true),
			Path:     r.Match.Path.V,
			Listener: r.Match.Listener.V,
			SNI:      l.matchHost(r.Match.SNI, false),
		},
	}
	if r.Backend.V == "" {
		l.fault(r.Backend.At, `is missing; name the [[backend]] that answers, for example backend = "api"`)
	}
	if p := r.Match.Path; p.V != "" {
		if problem := pathProblem(p.V); problem != "" {
			l.wrong(p, problem)
			out.Match.Path = ""
		} else if strings.Contains(p.V, ";") {
			l.warn(p.At, `has a ";"%s, where parameters begin for some servers: a request is answered with 400 unless its path without them leads to the same route`, p.got())
		}
	}
	if r.Match.SNI.V != "" {
		for _, other := range []str{r.Match.Host, r.Match.Path} {
			if other.V != "" {
				l.fault(other.At, "stands beside sni%s, whose bytes are passed on unopened: nobody sees this; leave one of the two out", other.got())
			}
		}
	}
	return out
}

// pathProblem checks the path of a match, which must be canonical as requests are made to be before they are matched: another form would never
// match. It is "what is wrong; what would be right", "" for nothing.
func pathProblem(p string) string {
	if p == "" || p[0] != '/' {
		return `does not begin with /; must be for example "/api" or "/api/*"`
	}
	body := p
	if rest, ok := strings.CutSuffix(p, "/*"); ok {
		body = rest
	}
	if strings.Contains(body, "*") {
		return `has a * elsewhere than at the end after a slash; write "/api/*" for /api and all below it`
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
			return fmt.Sprintf("has the segment %q; write the path that it leads to", s)
		case strings.HasPrefix(s, ".;") || strings.HasPrefix(s, "..;"):
			return fmt.Sprintf("has the segment %q, a dot segment to some servers; no request with it is let through", s)
		case s == "" && i > 0 && (i < len(segments)-1 || body != p):
			return `has an empty segment ("//"); write one slash`
		}
	}
	return ""
}

// pathByte checks the byte at i: RFC 3986's pchar, and escapes in the one form that requests are brought to.
func pathByte(p string, i int) string {
	c := p[i]
	switch {
	case c == '/' || isPchar(c):
		return ""
	case c == '?' || c == '#':
		return fmt.Sprintf("has a %q; a match is of the path alone, without query and fragment", string(c))
	case c == '\\' || c < ' ' || c == 0x7f:
		return fmt.Sprintf("has the byte %q; no request with it is let through", string(rune(c)))
	case c != '%':
		return fmt.Sprintf("has the byte %q as it is; write it as %%%02X", string(rune(c)), c)
	}
	if i+2 >= len(p) || strings.IndexByte(upperHex, p[i+1]) < 0 || strings.IndexByte(upperHex, p[i+2]) < 0 {
		return "has a % that is not followed by two upper-case hexadecimal digits; write %25 for a percent sign"
	}
	b := byte(strings.IndexByte(upperHex, p[i+1])<<4 | strings.IndexByte(upperHex, p[i+2]))
	switch {
	case b == 0:
		return "has %00; no request with it is let through"
	case b == '/' || b == '\\':
		return fmt.Sprintf("has %s, an encoded slash; leave it and what is behind it out: a match ends before it", p[i:i+3])
	case isPchar(b) || b == '*':
		return fmt.Sprintf("has %s; write it as %q", p[i:i+3], string(rune(b)))
	}
	return ""
}

// isPchar reports what may stand in a segment as it is (RFC 3986 3.3) but for the *, which is a sign of the match.
func isPchar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()+,;=:@", c) >= 0
}

const upperHex = "0123456789ABCDEF"
