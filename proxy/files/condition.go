package files

import (
	"net/http"
	"time"

	"mpgate/proxy/message"
)

// Verdict is what the conditions of a request lead to.
type Verdict uint8

const (
	Send        Verdict = iota // the file
	NotModified                // 304
	Failed                     // 412
)

// Evaluate evaluates the conditions of a GET or HEAD for a file that exists, in the order of RFC
// 9110 section 13.2.2. A date that is invalid, or is given twice, is no condition.
func Evaluate(h *message.Header, v *Validator) Verdict {
	if matched, present := listed(h, "If-Match", v.ETag, true); present {
		if !matched {
			return Failed
		}
	} else if t, ok := date(h, "If-Unmodified-Since"); ok && !v.Modified.IsZero() && v.Modified.After(t) {
		return Failed
	}
	if matched, present := listed(h, "If-None-Match", v.ETag, false); present {
		if matched {
			return NotModified
		}
	} else if t, ok := date(h, "If-Modified-Since"); ok && !v.Modified.IsZero() && !v.Modified.After(t) {
		return NotModified
	}
	return Send
}

// rangeHolds evaluates If-Range: false means that the range does not count (RFC 9110 section
// 13.1.5).
func rangeHolds(h *message.Header, v *Validator, now time.Time) bool {
	value, n := single(h, "If-Range")
	switch {
	case n == 0:
		return true
	case n > 1 || len(value) == 0:
		return false
	case value[0] == '"':
		return string(value) == v.ETag
	}
	t, ok := parseDate(value)
	return ok && v.settled(now) && t.Equal(v.Modified)
}

// listed reports whether a field of entity tags is present, and has the tag or is "*". A weak tag
// in it matches only if the comparison need not be strong (RFC 9110 section 8.8.3.2).
func listed(h *message.Header, name, tag string, strong bool) (matched, present bool) {
	for i := range h.Len() {
		if _, n, value, ok := h.At(i); ok && message.EqualFold(n, name) {
			present = true
			matched = matched || tagListed(value, tag, strong)
		}
	}
	return matched, present
}

func tagListed(list []byte, tag string, strong bool) bool {
	if string(list) == "*" {
		return true
	}
	for {
		for len(list) > 0 && (list[0] == ' ' || list[0] == '\t' || list[0] == ',') {
			list = list[1:]
		}
		weak := len(list) > 2 && list[0] == 'W' && list[1] == '/'
		if weak {
			list = list[2:]
		}
		n := tagLength(list)
		if n == 0 {
			return false // the end, or something that is not an entity tag
		}
		if string(list[:n]) == tag && !(weak && strong) {
			return true
		}
		list = list[n:]
	}
}

// tagLength is the length of the opaque tag at the beginning of b, with its quotes; 0 if there is
// none.
func tagLength(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c <= ' ' || c == 0x7f:
			return 0
		}
	}
	return 0
}

// date returns the date in a field that is there once.
func date(h *message.Header, name string) (time.Time, bool) {
	value, n := single(h, name)
	if n != 1 {
		return time.Time{}, false
	}
	return parseDate(value)
}

const timeFormat = http.TimeFormat

// parseDate reads the three forms of a date (RFC 9110 section 5.6.7).
func parseDate(value []byte) (time.Time, bool) {
	if len(value) < len("Sun Nov  6 08:49:37 1994") || len(value) > len("Wednesday, 06-Nov-94 08:49:37 GMT") {
		return time.Time{}, false
	}
	for _, layout := range [...]string{timeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		if t, err := time.Parse(layout, string(value)); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// single returns the value of a field, and how often it is there.
func single(h *message.Header, name string) (value []byte, n int) {
	for i := range h.Len() {
		if _, field, v, ok := h.At(i); ok && message.EqualFold(field, name) {
			value, n = v, n+1
		}
	}
	return value, n
}
