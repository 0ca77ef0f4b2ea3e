package target

import "bytes"

// AppendParam appends the value of the first parameter with that name in a query, decoded: percent
// escapes and "+" as a space, as HTML forms are encoded. An invalid escape stays as it is.
func AppendParam(dst, query []byte, name string) []byte {
	for len(query) > 0 {
		var key, value []byte
		key, value, query = NextParam(query)
		if FormEqual(key, name) {
			return AppendForm(dst, value)
		}
	}
	return dst
}

// NextParam cuts the first parameter off a query. Name and value are as received.
func NextParam(query []byte) (name, value, rest []byte) {
	pair, rest, _ := bytes.Cut(query, []byte{'&'})
	name, value, _ = bytes.Cut(pair, []byte{'='})
	return name, value, rest
}

// AppendForm appends b decoded.
func AppendForm(dst, b []byte) []byte {
	for len(b) > 0 {
		c, n := formByte(b)
		dst, b = append(dst, c), b[n:]
	}
	return dst
}

// FormEqual reports whether b, decoded, is s.
func FormEqual(b []byte, s string) bool {
	i := 0
	for len(b) > 0 {
		c, n := formByte(b)
		if i == len(s) || s[i] != c {
			return false
		}
		i, b = i+1, b[n:]
	}
	return i == len(s)
}

// formByte decodes the first byte of b, which takes n bytes.
func formByte(b []byte) (c byte, n int) {
	switch b[0] {
	case '+':
		return ' ', 1
	case '%':
		if v, ok := escape(b); ok {
			return v, 3
		}
	}
	return b[0], 1
}
