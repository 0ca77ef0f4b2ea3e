package config

import (
	"cmp"
	"fmt"
	"strings"

	"mpgate/proxy/target"
)

// matchPath parses the path of a match.
func matchPath(s, _ string) (string, string) {
	if problem := pathProblem(s); problem != "" {
		return "", problem
	}
	return s, ""
}

// pathGlob parses a path with wildcards: * stands for any text within a segment, and ** for any
// number of segments. A pattern that begins with * matches the end of a path.
func pathGlob(s, _ string) (string, string) {
	if problem := notPath(s); problem != "" {
		return "", problem
	}
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

// exactPath parses a path without wildcards.
func exactPath(s, dir string) (string, string) {
	if s != "" && s[0] != '/' && !strings.Contains(s, "*") && notPath(s) == "" {
		return "", "does not begin with /; write " + quote("/"+s)
	}
	if s, problem := matchPath(s, dir); problem != "" || !strings.Contains(s, "*") {
		return s, problem
	}
	return "", `has a *; must be one path, for example "/healthz"`
}

// pathProblem checks the path of a match. The path must have the canonical form of package target,
// in which requests are matched: any other form would never match. It returns a problem of the form
// "what is wrong; what would be right", "" for none.
func pathProblem(p string) string {
	if problem := notPath(p); problem != "" {
		return problem
	}
	if p == "" || p[0] != '/' {
		return `does not begin with /; must be for example "/api" or "/api/*"`
	}
	body, isPrefix := strings.CutSuffix(p, "/*")
	if strings.Contains(body, "*") {
		return `has a * that is not at the end after a slash; write "/api/*" for /api and all below it`
	}
	if body == "" {
		return ""
	}
	for i := 0; i < len(body); i++ {
		if problem := pathByteProblem(body[i:]); problem != "" {
			return problem
		}
	}
	return segmentProblem(body, isPrefix)
}

// segmentProblem checks the segments of a path whose bytes are canonical.
func segmentProblem(path string, isPrefix bool) string {
	var scratch []byte
	canonical, flags, err := target.Path([]byte(path), &scratch)
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case segment == "." || segment == "..":
			return fmt.Sprintf("has the segment %q; write the path that it resolves to", segment)
		case err == target.ErrPathHidden && strings.HasPrefix(segment, "."):
			return fmt.Sprintf("has the segment %q, a dot segment to some servers; requests with it are refused", segment)
		}
	}
	switch {
	case flags&target.RepeatedSlash != 0 || isPrefix && strings.HasSuffix(path, "/"):
		return `has an empty segment ("//"); write one slash`
	case err != nil:
		return strings.TrimPrefix(err.Error(), "path: ")
	case string(canonical) != path:
		return fmt.Sprintf("is not as requests are matched; write %q", canonical)
	}
	return ""
}

// pathByteProblem checks the byte, or the percent-encoding, that a part of a path begins with.
func pathByteProblem(rest string) string {
	c, size := rest[0], 1
	switch {
	case c == '/':
		return ""
	case c == '?' || c == '#':
		return fmt.Sprintf("has a %q; only the path is matched, without query and fragment", string(c))
	case c == '%' && !isEscape(rest):
		return "has a % that is not followed by two upper-case hexadecimal digits; write %25 for a percent sign"
	case c == '%':
		size = 3
	}
	var scratch []byte
	canonical, flags, err := target.Path([]byte("/x"+rest[:size]), &scratch)
	switch {
	case c == ' ' || c >= 0x80:
		return fmt.Sprintf("has the byte %q unescaped; write it as %%%02X", string(rune(c)), c)
	case err == target.ErrPathNUL:
		return "has %00; requests with it are refused"
	case err != nil:
		return fmt.Sprintf("has the byte %q; requests with it are refused", string(rune(c)))
	case flags&target.EncodedSlash != 0:
		return fmt.Sprintf("has %s, an encoded slash; leave out what follows it: a match ends before it", rest[:size])
	case flags&target.EncodedReserved != 0:
		return fmt.Sprintf("has %s; write it as %q", rest[:size], target.Decoded(canonical, &scratch)[2:])
	case string(canonical[2:]) == rest[:size]:
		return ""
	case size == 3:
		return fmt.Sprintf("has %s; write it as %q", rest[:size], canonical[2:])
	}
	return fmt.Sprintf("has the byte %q unescaped; write it as %s", string(rune(c)), canonical[2:])
}

// notPath says what is right in place of a URL or a regular expression; "" for any other.
func notPath(p string) string {
	switch _, host, path := cutURL(p); {
	case host != "":
		return fmt.Sprintf("is a URL; write only the path, %q, and the host in match.host", cmp.Or(path, "/"))
	case strings.HasPrefix(p, "^"):
		return "is a regular expression; write it as path_regex"
	case strings.HasPrefix(p, "~"):
		return "is nginx's form of a regular expression; write the expression alone as path_regex"
	}
	return ""
}

// isEscape reports whether s begins with a percent sign and two upper-case hexadecimal digits.
func isEscape(s string) bool {
	const digits = "0123456789ABCDEF"
	return len(s) > 2 && strings.IndexByte(digits, s[1]) >= 0 && strings.IndexByte(digits, s[2]) >= 0
}
