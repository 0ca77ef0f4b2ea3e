package backend

import (
	"bytes"

	"mpgate/proxy/message"
)

// Authenticates reports whether a request's header contains credentials that authenticate a
// connection, not only the request: those of NTLM, Negotiate and Kerberos.
func Authenticates(h *message.Header) bool {
	return namesScheme(h, message.Authorization) || namesScheme(h, message.ProxyAuthorization)
}

// isChallenge reports whether a response asks for such credentials, or contains a part of them.
func isChallenge(h *message.Header) bool {
	return namesScheme(h, message.WWWAuthenticate) || namesScheme(h, message.ProxyAuthenticate)
}

// declaresAuthenticated reports whether a response declares its connection authenticated.
func declaresAuthenticated(h *message.Header) bool {
	for i := h.Index(message.PersistentAuth, 0); i >= 0; i = h.Index(message.PersistentAuth, i+1) {
		if _, _, value, _ := h.At(i); !message.EqualFold(bytes.TrimSpace(value), "false") {
			return true
		}
	}
	return false
}

// schemes are prefixes of the names of the schemes: Negotiate and Nego2, NTLM, Kerberos.
var schemes = [...]string{"nego", "ntlm", "kerberos"}

// namesScheme reports whether an element of the fields begins with such a scheme. It does not
// recognize commas in quoted strings: a connection with an unnecessary owner costs little.
func namesScheme(h *message.Header, id message.ID) bool {
	for i := h.Index(id, 0); i >= 0; i = h.Index(id, i+1) {
		_, _, value, _ := h.At(i)
		for more := true; more; {
			var element []byte
			element, value, more = bytes.Cut(value, comma)
			element = bytes.TrimLeft(element, " \t")
			for _, s := range schemes {
				if len(element) >= len(s) && message.EqualFold(element[:len(s)], s) {
					return true
				}
			}
		}
	}
	return false
}

var comma = []byte{','}
