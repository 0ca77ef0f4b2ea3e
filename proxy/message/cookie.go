package message

import "bytes"

// Cookie returns the value of the first cookie with that name in the Cookie fields (RFC 6265
// section 4.2.1), without quotes around it; nil if there is none.
func (h *Header) Cookie(name string) []byte {
	for i := h.Index(Cookie, 0); i >= 0; i = h.Index(Cookie, i+1) {
		for rest := h.slice(h.fields[i].text); len(rest) > 0; {
			pair := rest
			if j := bytes.IndexByte(rest, ';'); j >= 0 {
				pair, rest = rest[:j], rest[j+1:]
			} else {
				rest = nil
			}
			pair = bytes.Trim(pair, " \t")
			j := bytes.IndexByte(pair, '=')
			if j < 0 || string(pair[:j]) != name {
				continue
			}
			value := pair[j+1:]
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return value
		}
	}
	return nil
}
