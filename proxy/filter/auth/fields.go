package auth

import (
	"errors"
	"fmt"
	"strings"

	"mpgate/proxy/message"
)

// fields are the names of header fields that only a filter may set: a client must not be able to
// send them to a server.
type fields [][]byte

// newFields checks the names of fields that servers will trust.
func newFields(names []string) (f fields, err error) {
	for _, name := range names {
		if err := CheckField(name); err != nil {
			return nil, err
		}
		f = append(f, []byte(name))
	}
	return f, nil
}

// CheckField reports why a filter cannot set a field of that name on a request.
func CheckField(name string) error {
	if name == "" {
		return errors.New("a header field needs a name")
	}
	for _, c := range []byte(name) {
		if !alnum(c) && c != '-' {
			return fmt.Errorf("invalid header field name %q: want letters, digits and -", name)
		}
	}
	if reserved[message.Lookup([]byte(name))] {
		return fmt.Errorf("the header field %s is set by mpgate itself, or frames the message", name)
	}
	switch strings.ToLower(name) {
	case "content-range", "max-forwards", "range", "x-forwarded-method", "x-forwarded-port", "x-forwarded-prefix",
		"x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl", "x-forwarded-uri":
		return fmt.Errorf("the header field %s is about the message, not about the user", name)
	}
	return nil
}

// reserved are fields that frame a message, belong to one connection, or say where a request comes
// from.
var reserved = map[message.ID]bool{
	message.Connection: true, message.ContentLength: true, message.ContentEncoding: true, message.ContentType: true,
	message.Date: true, message.Expect: true, message.Forwarded: true, message.Host: true, message.HTTP2Settings: true,
	message.KeepAlive: true, message.ProxyConnection: true, message.ProxyAuthenticate: true, message.TE: true,
	message.Trailer: true, message.TransferEncoding: true, message.Upgrade: true, message.Via: true, message.CDNLoop: true,
	message.XForwardedFor: true, message.XForwardedHost: true, message.XForwardedProto: true, message.XRealIP: true,
	message.XRequestID: true,
}

// names are for messages.
func (f fields) names() (list []string) {
	for _, name := range f {
		list = append(list, string(name))
	}
	return list
}

// strip takes the fields off a head or a trailer of a client, however their names are spelled:
// servers that hand fields to programs as variables (RFC 3875 section 4.1.18) cannot tell
// Remote_User from Remote-User.
func (f fields) strip(h *message.Header) {
	if len(f) == 0 {
		return
	}
	for i := range h.Len() {
		_, name, _, ok := h.At(i)
		if !ok {
			continue
		}
		for _, own := range f {
			if alike(name, own) {
				h.DelAt(i)
				break
			}
		}
	}
}

// alike compares names without regard to case, and takes all bytes that are neither letters nor
// digits as the same.
func alike(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x != y && (alnum(x) || alnum(y)) && (x|0x20 != y|0x20 || !alnum(x) || !alnum(y)) {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// fieldValue reports whether s can be the value of a field as it is: no control character, and no
// white space around it, which a recipient would take off.
func fieldValue[T string | []byte](s T) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return len(s) == 0 || s[0] != ' ' && s[len(s)-1] != ' '
}
