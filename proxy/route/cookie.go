package route

import (
	"fmt"
	"strings"

	"mpgate/proxy/message"
)

// cookieCondition wants a cookie; see message.Header.Cookies. Of several cookies with that name one
// must have the value.
type cookieCondition struct{ expectation }

func newCookie(name, value string) (condition, *fault) {
	if !message.IsToken(name) {
		return nil, &fault{"cookie." + name, value, fmt.Sprintf("%q is not the name of a cookie", name)}
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r > 0x7f || !message.IsCookieOctet(byte(r)) }) {
		return nil, &fault{"cookie." + name, value, `is not a valid cookie value: only ASCII is allowed, without spaces, quotes, commas, semicolons and backslashes`}
	}
	return &cookieCondition{expectation{name, value}}, nil
}

func (c *cookieCondition) look(q *Request) (first []byte, present, equal bool) {
	for value := range q.Header.Cookies(c.name) {
		if !present {
			first, present = value, true
		}
		if string(value) == c.value {
			return first, true, true
		}
	}
	return first, present, false
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
