package route

import (
	"bytes"
	"fmt"
	"strings"

	"mpgate/proxy/message"
)

// cookieCondition wants a cookie. The Cookie fields are read as RFC 6265 section 4.2.1 has them: a
// pair that is not a token, "=" and cookie octets, maybe in quotes, counts as absent. Names and
// values have case; quotes do not count. Of several cookies with that name one must have the value.
type cookieCondition struct{ expectation }

func newCookie(name, value string) (condition, *fault) {
	if !message.IsToken(name) {
		return nil, &fault{"cookie." + name, value, fmt.Sprintf("%q is not the name of a cookie", name)}
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r > 0x7f || !cookieOctet(byte(r)) }) {
		return nil, &fault{"cookie." + name, value, `no cookie has such a value: it has no spaces, quotes, commas, semicolons or backslashes, and only ASCII`}
	}
	return &cookieCondition{expectation{name, value}}, nil
}

func (c *cookieCondition) look(q *Request) (first []byte, present, equal bool) {
	h := &q.Header
	for i := h.Index(message.Cookie, 0); i >= 0; i = h.Index(message.Cookie, i+1) {
		_, _, rest, _ := h.At(i)
		for len(rest) > 0 {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, []byte{';'})
			value, ok := cookieValue(bytes.Trim(pair, " \t"), c.name)
			if !ok {
				continue
			}
			if !present {
				first, present = value, true
			}
			if string(value) == c.value {
				return first, true, true
			}
		}
	}
	return first, present, false
}

// cookieValue returns the value of a valid cookie pair that has the name.
func cookieValue(pair []byte, name string) (value []byte, ok bool) {
	if len(pair) <= len(name) || pair[len(name)] != '=' || string(pair[:len(name)]) != name {
		return nil, false
	}
	value = pair[len(name)+1:]
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	for _, c := range value {
		if !cookieOctet(c) {
			return nil, false
		}
	}
	return value, true
}

// cookieOctet reports whether c may stand in the value of a cookie (RFC 6265 section 4.1.1).
func cookieOctet(c byte) bool {
	return '!' <= c && c <= '~' && c != '"' && c != ',' && c != ';' && c != '\\'
}

func (c *cookieCondition) holds(q *Request) bool {
	_, present, equal := c.look(q)
	return c.met(present, equal)
}

func (c *cookieCondition) key() string { return "cookie " + c.name }

func (c *cookieCondition) got(q *Request) string {
	first, present, _ := c.look(q)
	return gotValue(first, present)
}

func (c *cookieCondition) implies(other condition) bool {
	o, ok := other.(*cookieCondition)
	return ok && c.expectation.implies(o.expectation)
}
