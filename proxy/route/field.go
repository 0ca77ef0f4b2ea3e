package route

import (
	"fmt"
	"net/textproto"
	"strings"

	"mpgate/proxy/message"
)

// fieldCondition wants a header field. Names are compared without regard to case, values byte by
// byte: of several fields with that name one must have the value, a list in one field is not split.
type fieldCondition struct {
	expectation
	id        message.ID
	forwarded bool // what a proxy says about the client; counts from trusted peers only
}

func newField(name, value string) (condition, *fault) {
	key := "header." + name
	if !message.IsToken(name) {
		return nil, &fault{key, value, fmt.Sprintf("%q is not a field name", name)}
	}
	if strings.Trim(value, " \t") != value || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return nil, &fault{key, value, "no field has such a value: it has no control characters, and no spaces around it"}
	}
	c := &fieldCondition{expectation: expectation{textproto.CanonicalMIMEHeaderKey(name), value}, id: message.Lookup([]byte(name))}
	switch c.id {
	case message.Upgrade:
		c.value = strings.ToLower(value) // names of protocols have no case (RFC 9110 section 7.8)
	case message.Host:
		return nil, &fault{key, value, "use host instead"}
	case message.Connection, message.ContentLength, message.Expect, message.HTTP2Settings, message.KeepAlive,
		message.PersistentAuth, message.ProxyAuthenticate, message.ProxyAuthorization, message.ProxyConnection, message.TE,
		message.Trailer, message.TransferEncoding:
		return nil, &fault{key, value, "belongs to the connection or the framing of the message and cannot be matched"}
	case message.Forwarded, message.XRealIP:
		c.forwarded = true
	}
	const forwarded = "x-forwarded-"
	c.forwarded = c.forwarded || len(name) > len(forwarded) && strings.EqualFold(name[:len(forwarded)], forwarded)
	return c, nil
}

// look returns the first value, and whether the field is there and with the value that is wanted.
func (c *fieldCondition) look(q *Request) (first []byte, present, equal bool) {
	if c.id == message.Upgrade { // the codec takes it off
		return q.Upgrade, q.Upgrade != nil, message.EqualFold(q.Upgrade, c.value)
	}
	if c.forwarded && !q.TrustedPeer {
		return nil, false, false
	}
	h := &q.Header
	if c.id != message.Other && !h.Has(c.id) {
		return nil, false, false
	}
	for i := range h.Len() {
		id, name, value, ok := h.At(i)
		if !ok || id != c.id || id == message.Other && !message.EqualFold(name, c.name) {
			continue
		}
		if !present {
			first, present = value, true
		}
		if string(value) == c.value {
			return first, true, true
		}
	}
	return first, present, false
}

func (c *fieldCondition) holds(q *Request) bool {
	_, present, equal := c.look(q)
	return c.met(present, equal)
}

func (c *fieldCondition) key() string { return "header " + c.name }

func (c *fieldCondition) got(q *Request) string {
	first, present, _ := c.look(q)
	if !present && c.forwarded && !q.TrustedPeer {
		return "none: the peer is not a trusted proxy"
	}
	return gotValue(first, present)
}

func (c *fieldCondition) implies(other condition) bool {
	o, ok := other.(*fieldCondition)
	return ok && c.expectation.implies(o.expectation)
}
