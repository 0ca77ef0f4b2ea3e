package files

import "bytes"

// appendName appends the name of the file for a canonical path, relative to the root: "/a/b%20c" is
// "a/b c", "/a/" is "a", and "/" is "". dir means that the path ends with a slash. ok is false if
// the path cannot be the name of a file that is served:
//
//   - a segment is empty, "." or "..";
//   - an escape is invalid, or stands for NUL or for a slash;
//   - a segment begins with a dot, as hidden files do. The exception is /.well-known/ (RFC 8615).
func appendName(dst, path []byte) (name []byte, dir, ok bool) {
	if len(path) == 0 || path[0] != '/' {
		return dst, false, false
	}
	path = path[1:]
	for first := true; len(path) > 0; first = false {
		segment, rest, more := bytes.Cut(path, slash)
		if !first {
			dst = append(dst, '/')
		}
		start := len(dst)
		if dst, ok = appendDecoded(dst, segment); !ok {
			return dst, false, false
		}
		if decoded := dst[start:]; len(decoded) == 0 || decoded[0] == '.' && !(first && string(decoded) == ".well-known") {
			return dst, false, false
		}
		dir, path = more && len(rest) == 0, rest
	}
	return dst, dir || len(dst) == 0, true
}

var slash = []byte("/")

// appendDecoded appends a segment without percent-encoding.
func appendDecoded(dst, segment []byte) (_ []byte, ok bool) {
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c == '%' {
			if i+2 >= len(segment) {
				return dst, false
			}
			high, low := unhex(segment[i+1]), unhex(segment[i+2])
			if high < 0 || low < 0 {
				return dst, false
			}
			c = byte(high<<4 | low)
			i += 2
		}
		if c == 0 || c == '/' {
			return dst, false
		}
		dst = append(dst, c)
	}
	return dst, true
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
