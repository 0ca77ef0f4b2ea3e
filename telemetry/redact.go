package telemetry

import (
	"bytes"
	"strconv"
)

// appendPath appends the target as received, less the values of the query parameters to hide.
func appendPath(b, path []byte, redact []string) []byte {
	return appendRedacted(b, path, redact, appendEscaped[[]byte])
}

// appendRedacted is appendPath with the function that escapes.
func appendRedacted(b, path []byte, redact []string, appendEscaped func(b, s []byte) []byte) []byte {
	query := -1
	if len(redact) > 0 {
		query = bytes.IndexByte(path, '?')
	}
	if query < 0 {
		return appendEscaped(b, path)
	}
	b = appendEscaped(b, path[:query+1])
	for rest := path[query+1:]; ; {
		pair, more, found := bytes.Cut(rest, []byte{'&'})
		if name, _, hasValue := bytes.Cut(pair, []byte{'='}); hasValue && hidden(name, redact) {
			b = appendEscaped(b, name)
			b = append(b, "=***"...)
		} else {
			b = appendEscaped(b, pair)
		}
		if !found {
			return b
		}
		b = append(b, '&')
		rest = more
	}
}

func hidden(name []byte, redact []string) bool {
	for _, want := range redact {
		if sameName(name, want) {
			return true
		}
	}
	return false
}

// sameName compares a parameter's name as a server would decode it, without regard to case.
func sameName(name []byte, want string) bool {
	for i := 0; i < len(want); i++ {
		if len(name) == 0 {
			return false
		}
		c, used := name[0], 1
		if c == '%' && len(name) >= 3 {
			if v, err := strconv.ParseUint(string(name[1:3]), 16, 8); err == nil {
				c, used = byte(v), 3
			}
		} else if c == '+' {
			c = ' '
		}
		if lower(c) != lower(want[i]) {
			return false
		}
		name = name[used:]
	}
	return len(name) == 0
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
