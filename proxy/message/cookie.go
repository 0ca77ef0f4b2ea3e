package message

import (
	"bytes"
	"iter"
)

// Cookie returns the value of the first cookie with that name; nil if there is none.
func (h *Header) Cookie(name string) []byte {
	for value := range h.Cookies(name) {
		return value
	}
	return nil
}

// Cookies returns the values of the cookies with that name, without quotes around them. The Cookie
// fields are read as RFC 6265 section 4.2.1 says: a pair that is not a token, "=" and cookie octets
// counts as absent. Names and values are case-sensitive.
func (h *Header) Cookies(name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := h.Index(Cookie, 0); i >= 0; i = h.Index(Cookie, i+1) {
			for rest := h.slice(h.fields[i].text); len(rest) > 0; {
				var pair []byte
				pair, rest, _ = bytes.Cut(rest, []byte{';'})
				if value, ok := cookieValue(bytes.Trim(pair, " \t"), name); ok && !yield(value) {
					return
				}
			}
		}
	}
}

// cookieValue returns the value of a valid pair that has the name.
func cookieValue(pair []byte, name string) (value []byte, ok bool) {
	if len(pair) <= len(name) || pair[len(name)] != '=' || string(pair[:len(name)]) != name {
		return nil, false
	}
	value = pair[len(name)+1:]
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	for _, c := range value {
		if !IsCookieOctet(c) {
			return nil, false
		}
	}
	return value, true
}

// IsCookieOctet reports whether c can be part of the value of a cookie (RFC 6265 section 4.1.1).
func IsCookieOctet(c byte) bool {
	return '!' <= c && c <= '~' && c != '"' && c != ',' && c != ';' && c != '\\'
}
