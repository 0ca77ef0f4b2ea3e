package target

import "bytes"

// Flags say what in a canonical path servers still read in two ways.
type Flags uint8

const (
	// EncodedSlash: the path holds %2F or %5C. To a server that decodes before it splits this is a
	// slash.
	EncodedSlash Flags = 1 << iota
	// EncodedReserved: the path holds the percent-encoding of a character that may stand in a path
	// as it is but is reserved (":", "@", "!", "$", "&", "'", "(", ")", "*", "+", ",", ";", "=").
	// RFC 3986 forbids to decode it; most servers do.
	EncodedReserved
	// Parameters: the path holds ";" or %3B. Some servers (Tomcat, Jetty, Spring) take it and what
	// follows it in its segment off before they look for what they serve.
	Parameters
	// RepeatedSlash: the path as received had slashes in a row; KeepSlashes gives it with them.
	RepeatedSlash
)

// What a byte means in a path or a query.
const (
	bad       = iota // refused
	plain            // stands for itself: unreserved, sub-delims but ";", ":" and "@"
	semicolon        // stands for itself, and begins parameters for some servers
	slash            // separates segments
	percent          // begins an escape
	encode           // printable, but not in the grammar: percent-encoded
	backslash        // a slash to some servers: refused in a path, encoded in a query
	question         // ends a path; may stand in a query
)

var class = func() (t [256]uint8) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = plain, plain
	}
	for _, c := range "0123456789-._~!$&'()*+,=:@" {
		t[c] = plain
	}
	for _, c := range "\"<>[]^`{|}" {
		t[c] = encode
	}
	for c := 0x80; c <= 0xff; c++ {
		t[c] = encode
	}
	t['/'], t['%'], t['\\'], t['?'], t[';'] = slash, percent, backslash, question, semicolon
	return t
}()

// unhex holds the value of a hexadecimal digit plus one, 0 for any other byte.
var unhex = func() (t [256]uint8) {
	for i, c := range "0123456789abcdef" {
		t[c] = uint8(i) + 1
	}
	for i, c := range "ABCDEF" {
		t[c] = uint8(i) + 11
	}
	return t
}()

const upperHex = "0123456789ABCDEF"

// Path gives the canonical form of raw, the path of a request target as it was received (no query):
//
//   - percent-encodings of unreserved characters are decoded, all others have upper-case digits;
//   - printable characters that the grammar does not allow, and bytes from 0x80 on, are percent-encoded;
//   - slashes in a row are one slash (KeepSlashes keeps them), and dot segments are resolved (RFC
//     3986 5.2.4), also those written with %2e.
//
// Refused are spaces, control characters and backslashes that stand for themselves, %00, broken
// escapes, dot segments that lead above the root, and dot segments that appear only to a server
// that decodes %2F and %5C first (/public/..%2fadmin), or that takes ";" for the beginning of
// parameters (/public/..;/admin, Tomcat).
//
// A path above the root could be clamped, as browsers do before they send, since mpgate forwards
// what it matched. It is refused because no ordinary client sends it, because nginx and Apache
// answer it with 400 too, and because a filter in front of mpgate may have clamped it differently.
//
// Path(Path(x)) is Path(x). The result is raw itself where raw is canonical.
func Path(raw []byte, scratch *[]byte) (canonical []byte, flags Flags, err error) {
	return canonicalPath(raw, scratch, false)
}

// KeepSlashes is the canonical form of raw with slashes in a row as they are, for servers that tell
// such paths apart. canonical is what Path made of raw. ok is false where a dot segment leads
// elsewhere depending on whether the slashes are kept: /a//../b is /a/b or /b.
func KeepSlashes(raw, canonical []byte, scratch *[]byte) (kept []byte, ok bool) {
	kept, _, err := canonicalPath(raw, scratch, true)
	if err != nil {
		return nil, false
	}
	n := 0
	for i, c := range kept {
		if c == '/' && i > 0 && kept[i-1] == '/' {
			continue
		}
		if n == len(canonical) || canonical[n] != c {
			return nil, false
		}
		n++
	}
	return kept, n == len(canonical)
}

func canonicalPath(raw []byte, scratch *[]byte, keepSlashes bool) (canonical []byte, flags Flags, err error) {
	if len(raw) == 0 || raw[0] != '/' {
		return nil, 0, ErrPathStart
	}
	i := plainPrefix(raw)
	if i == len(raw) {
		return raw, 0, nil
	}
	base := len(*scratch)
	out := append(*scratch, raw[:i]...)
	for {
		start := len(out) // of a segment, behind a slash
		begin := i
		var f Flags
		out, i, f, err = appendSegment(out, raw, i)
		flags |= f
		if err == nil {
			out, err = endSegment(out, base, start, f)
		}
		if err != nil {
			*scratch = out[:base]
			return nil, 0, err
		}
		if i == len(raw) {
			break
		}
		if i == begin {
			flags |= RepeatedSlash
		}
		if len(out) > start || i == begin && keepSlashes {
			out = append(out, '/')
		}
		i++
	}
	if bytes.Equal(out[base:], raw) {
		*scratch = out[:base]
		return raw, flags, nil
	}
	*scratch = out
	return out[base:len(out):len(out)], flags, nil
}

// plainPrefix returns the start of the first segment of raw that wants a closer look, or len(raw)
// when there is none. raw begins with a slash.
func plainPrefix(raw []byte) int {
	start := 0
	for i, c := range raw {
		switch class[c] {
		case plain:
		case slash:
			start = i + 1
			if start < len(raw) && (raw[start] == '/' || raw[start] == '.') {
				return start
			}
		default:
			return start
		}
	}
	return len(raw)
}

// appendSegment appends the canonical bytes of the segment that begins at raw[i] and returns where
// it ends: at a slash or at the end.
func appendSegment(out, raw []byte, i int) (_ []byte, end int, flags Flags, err error) {
	for ; i < len(raw); i++ {
		c := raw[i]
		switch class[c] {
		case plain:
			out = append(out, c)
		case semicolon:
			flags |= Parameters
			out = append(out, c)
		case slash:
			return out, i, flags, nil
		case encode:
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		case percent:
			v, ok := escape(raw[i:])
			switch {
			case !ok:
				return out, i, flags, ErrPathEscape
			case v == 0:
				return out, i, flags, ErrPathNUL
			case unreserved(v):
				out = append(out, v)
			default:
				switch {
				case v == '/' || v == '\\':
					flags |= EncodedSlash
				case v == ';':
					flags |= EncodedReserved | Parameters
				case class[v] == plain:
					flags |= EncodedReserved
				}
				out = append(out, '%', upperHex[v>>4], upperHex[v&15])
			}
			i += 2
		case backslash:
			return out, i, flags, ErrPathBackslash
		default:
			return out, i, flags, ErrPathControl
		}
	}
	return out, i, flags, nil
}

// endSegment looks at the complete segment out[start:]. The path begins at out[base]. A dot segment
// is taken out, with what it cancels; then, as for an empty segment, out is no longer than start.
func endSegment(out []byte, base, start int, flags Flags) ([]byte, error) {
	segment := out[start:]
	if len(segment) == 0 || segment[0] != '.' && flags&EncodedSlash == 0 {
		return out, nil
	}
	switch string(segment) {
	case ".":
		return out[:start], nil
	case "..":
		if start == base+1 {
			return out, ErrPathAboveRoot
		}
		parent := base + bytes.LastIndexByte(out[base:start-1], '/') + 1
		// For a server that decodes first, the parent is only the part behind the encoded slash.
		if hasEncodedSlash(out[parent:start]) {
			return out, ErrPathHidden
		}
		return out[:parent], nil
	}
	if hidesDots(segment) {
		return out, ErrPathHidden
	}
	return out, nil
}

// hidesDots reports whether a part of a segment, split at encoded slashes and cut at a semicolon,
// is "." or "..".
func hidesDots(segment []byte) bool {
	for {
		dots := 0
		for dots < len(segment) && segment[dots] == '.' {
			dots++
		}
		rest := segment[dots:]
		if (dots == 1 || dots == 2) && (len(rest) == 0 || rest[0] == ';' || bytes.HasPrefix(rest, []byte("%3B")) || encodedSlashAt(rest) == 0) {
			return true
		}
		i := encodedSlashAt(rest)
		if i < 0 {
			return false
		}
		segment = rest[i+3:]
	}
}

func hasEncodedSlash(b []byte) bool { return encodedSlashAt(b) >= 0 }

// encodedSlashAt returns the index of the first %2F or %5C in canonical bytes, or -1.
func encodedSlashAt(b []byte) int {
	for i := 0; ; i++ {
		n := bytes.IndexByte(b[i:], '%')
		if n < 0 {
			return -1
		}
		i += n
		if s := string(b[i : i+3]); s == "%2F" || s == "%5C" {
			return i
		}
	}
}

// escape returns the byte that the percent-encoding at the beginning of b stands for.
func escape(b []byte) (v byte, ok bool) {
	if len(b) < 3 {
		return 0, false
	}
	hi, lo := unhex[b[1]], unhex[b[2]]
	if hi == 0 || lo == 0 {
		return 0, false
	}
	return (hi-1)<<4 | (lo - 1), true
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// Decoded gives the path as a server sees it that decodes what Path's flags are about: %2F and %5C
// are slashes (in a row they are one), and reserved characters stand for themselves. It is for
// matching only: where it leads to another route than canonical itself, the client asks for one
// policy and a server may serve what another one guards, and the request is refused. canonical must
// come from Path.
func Decoded(canonical []byte, scratch *[]byte) []byte {
	base := len(*scratch)
	out := *scratch
	for i := 0; i < len(canonical); i++ {
		c := canonical[i]
		if v, ok := escape(canonical[i:]); c == '%' && ok && (v == '/' || v == '\\' || v == ';' || class[v] == plain) {
			c = v
			i += 2
		}
		if c == '\\' {
			c = '/'
		}
		if c == '/' && len(out) > base && out[len(out)-1] == '/' {
			continue
		}
		out = append(out, c)
	}
	*scratch = out
	return out[base:len(out):len(out)]
}

// WithoutParameters gives the path as a server sees it that takes parameters off: in each segment
// what begins with ";". Slashes in a row that this leaves are one. Like Decoded, whose result it
// also takes, it is for matching only. An encoded semicolon is not looked for: servers that decode
// it first see what this makes of Decoded.
func WithoutParameters(path []byte, scratch *[]byte) []byte {
	base := len(*scratch)
	out := *scratch
	inside := false // of parameters
	for _, c := range path {
		switch {
		case c == '/':
			inside = false
			if len(out) > base && out[len(out)-1] == '/' {
				continue
			}
		case c == ';':
			inside = true
		}
		if !inside {
			out = append(out, c)
		}
	}
	*scratch = out
	return out[base:len(out):len(out)]
}
