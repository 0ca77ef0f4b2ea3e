package config

import (
	"slices"
	"strings"
)

// reserved are the fields that mpgate writes itself: those that frame the message or belong to the
// connection, and those that say who the client is.
var reserved = []string{
	"connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
	"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id",
}

// headerName is the name of a header field that tells a server who the client is.
func headerName(s, _ string) (string, string) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && c != '-' || i == 0 && c == '-' {
			return "", `is not a valid header field name; must be of letters, digits and -, for example "X-Client-Subject"`
		}
	}
	if slices.Contains(reserved, strings.ToLower(s)) {
		return "", `is a field that mpgate writes itself; choose another, for example "X-Client-Subject"`
	}
	return s, ""
}

// fieldName is the name of any header field (RFC 9110 section 5.1).
func fieldName(s, _ string) (string, string) {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return "", `is not a valid header field name; must be for example "X-Frame-Options"`
		}
	}
	return s, ""
}

// folded makes a codec of names whose letters may be upper or lower case.
func folded(c codec) codec {
	c.fold = true
	return c
}
