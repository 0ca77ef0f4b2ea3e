package filter

import (
	"bytes"

	"mpgate/proxy/message"
)

// Prefers reports whether the Accept fields of a request prefer media type a to b (RFC 9110 section
// 12.5.1). Types have no parameters, as in "text/html". A request without Accept prefers nothing.
func Prefers(h *message.Header, a, b string) bool { return quality(h, a) > quality(h, b) }

// quality is the weight of a media type in the Accept fields, in thousandths; that of the most
// specific range counts.
func quality(h *message.Header, mediaType string) (q int) {
	if !h.Has(message.Accept) {
		return 1000
	}
	best := 0 // how specific the range is
	for i := h.Index(message.Accept, 0); i >= 0; i = h.Index(message.Accept, i+1) {
		_, _, rest, _ := h.At(i)
		for len(rest) > 0 {
			var element []byte
			element, rest = cutUnquoted(rest, ',')
			mediaRange, parameters := cutUnquoted(element, ';')
			s := specificity(bytes.Trim(mediaRange, " \t"), mediaType)
			if s == 0 || s < best {
				continue
			}
			w, only := weightOf(parameters)
			if !only && s == exactType { // "text/html;level=1" is not every text/html
				continue
			}
			if s > best {
				best, q = s, 0
			}
			q = max(q, w)
		}
	}
	return q
}

// How specific a media range is that includes a type.
const (
	anyType   = 1 + iota // */*
	anySub               // text/*
	exactType            // text/html
)

func specificity(mediaRange []byte, mediaType string) int {
	slash := bytes.IndexByte([]byte(mediaType), '/')
	switch {
	case message.EqualFold(mediaRange, mediaType):
		return exactType
	case string(mediaRange) == "*/*":
		return anyType
	case len(mediaRange) == slash+2 && mediaRange[slash+1] == '*' && message.EqualFold(mediaRange[:slash+1], mediaType[:slash+1]):
		return anySub
	}
	return 0
}

// weightOf reads the parameters of a media range: its weight, and whether there is no other
// parameter. An invalid weight is 0.
func weightOf(parameters []byte) (q int, only bool) {
	q, only = 1000, true
	for len(parameters) > 0 {
		var p []byte
		p, parameters = cutUnquoted(parameters, ';')
		name, value, _ := bytes.Cut(bytes.Trim(p, " \t"), []byte("="))
		switch {
		case len(name) == 0:
		case message.EqualFold(name, "q"):
			return parseWeight(value), only // what follows are extensions, which no longer exist
		case message.EqualFold(name, "charset"): // says nothing about the type
		default:
			only = false
		}
	}
	return q, only
}

// parseWeight reads a qvalue (RFC 9110 section 12.4.2); 0 if it is not valid.
func parseWeight(b []byte) int {
	if len(b) == 0 || len(b) > len("0.000") || b[0] != '0' && b[0] != '1' || len(b) > 1 && b[1] != '.' {
		return 0
	}
	q, digit := int(b[0]-'0')*1000, 100
	for _, c := range b[min(2, len(b)):] {
		if c < '0' || c > '9' {
			return 0
		}
		q += int(c-'0') * digit
		digit /= 10
	}
	if q > 1000 {
		return 0
	}
	return q
}

// cutUnquoted cuts at the first separator outside of a quoted string.
func cutUnquoted(b []byte, separator byte) (before, after []byte) {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && c == separator:
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}
