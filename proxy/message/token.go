package message

import "strings"

// IsToken reports whether s is a token (RFC 9110 section 5.6.2), as methods and the names of fields
// and cookies are.
func IsToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
