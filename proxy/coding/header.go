package coding

import (
	"bytes"

	"mpgate/proxy/message"
)

// Vary says in the head of a response that it depends on Accept-Encoding.
func Vary(h *message.Header) {
	for i := h.Index(message.Vary, 0); i >= 0; i = h.Index(message.Vary, i+1) {
		_, _, value, _ := h.At(i)
		if HasElement(value, "*") || HasElement(value, "Accept-Encoding") {
			return
		}
	}
	h.AddString(message.Vary, "Accept-Encoding")
}

// HasElement reports whether a comma-separated list has an element, in any case. Parameters of
// elements do not count.
func HasElement(list []byte, element string) bool {
	for len(list) > 0 {
		var e []byte
		e, list, _ = bytes.Cut(list, comma)
		e, _, _ = bytes.Cut(e, semicolon)
		if message.EqualFold(trim(e), element) {
			return true
		}
	}
	return false
}

// WeakenETag makes a strong validator weak: the bytes change, the meaning does not (RFC 9110
// section 8.8.1).
func WeakenETag(h *message.Header) {
	tag := h.Get(message.ETag)
	if len(tag) == 0 || tag[0] != '"' {
		return
	}
	h.Set(message.ETag, append([]byte("W/"), tag...))
}
