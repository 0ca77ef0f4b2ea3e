package target

import "bytes"

// AppendParam appends the value of the first parameter with that name in a query, decoded: percent
// escapes and "+" as a space, as HTML forms are encoded. An invalid escape stays as it is.
func AppendParam(dst, query []byte, name string) []byte {
	for len(query) > 0 {
		pair := query
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			pair, query = query[:i], query[i+1:]
		} else {
			query = nil
		}
		key, value := pair, []byte(nil)
		if i := bytes.IndexByte(pair, '='); i >= 0 {
			key, value = pair[:i], pair[i+1:]
		}
		if formEqual(key, name) {
			return appendForm(dst, value)
		}
	}
	return dst
}

// appendForm appends b decoded.
func appendForm(dst, b []byte) []byte {
	for len(b) > 0 {
		c, n := formByte(b)
		dst, b = append(dst, c), b[n:]
	}
	return dst
}

// formEqual reports whether b, decoded, is s.
func formEqual(b []byte, s string) bool {
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
