package route

import "bytes"

// queryCondition wants a parameter of the query. Names and values are decoded as HTML forms are
// encoded: percent-encodings, and "+" for a space. An invalid escape stands for itself. Of several
// parameters with that name one must have the value.
type queryCondition struct{ expectation }

func (c *queryCondition) look(q *Request) (first []byte, present, equal bool) {
	for rest := q.Query; len(rest) > 0; {
		var pair []byte
		pair, rest, _ = bytes.Cut(rest, []byte{'&'})
		name, value, _ := bytes.Cut(pair, []byte{'='})
		if len(pair) == 0 || !decodesTo(name, c.name) {
			continue
		}
		if !present {
			first, present = value, true
		}
		if decodesTo(value, c.value) {
			return first, true, true
		}
	}
	return first, present, false
}

func (c *queryCondition) holds(q *Request) bool {
	_, present, equal := c.look(q)
	return c.met(present, equal)
}

func (c *queryCondition) key() string { return "query " + c.name }

func (c *queryCondition) got(q *Request) string {
	first, present, _ := c.look(q)
	return gotValue(appendDecoded(nil, first), present)
}

func (c *queryCondition) implies(other condition) bool {
	o, ok := other.(*queryCondition)
	return ok && c.expectation.implies(o.expectation)
}

// decodesTo reports whether b, decoded, is s.
func decodesTo(b []byte, s string) bool {
	i := 0
	for len(b) > 0 {
		c, n := decodeByte(b)
		if i == len(s) || s[i] != c {
			return false
		}
		i, b = i+1, b[n:]
	}
	return i == len(s)
}

func appendDecoded(dst, b []byte) []byte {
	for len(b) > 0 {
		c, n := decodeByte(b)
		dst, b = append(dst, c), b[n:]
	}
	return dst
}

// decodeByte decodes the first byte of b, which is written with n bytes.
func decodeByte(b []byte) (c byte, n int) {
	switch {
	case b[0] == '+':
		return ' ', 1
	case b[0] == '%' && len(b) > 2:
		hi, ok := unhex(b[1])
		lo, ok2 := unhex(b[2])
		if ok && ok2 {
			return hi<<4 | lo, 3
		}
	}
	return b[0], 1
}

func unhex(c byte) (v byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
