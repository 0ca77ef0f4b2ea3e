package target

// AppendEscaped appends a value as a part of a URL: everything but unreserved characters (RFC 3986
// section 2.3) is percent-encoded.
func AppendEscaped(dst, value []byte) []byte {
	for _, c := range value {
		if unreserved(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return dst
}
