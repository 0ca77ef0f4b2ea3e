package target

// Query gives the canonical form of raw, the query of a request target as it was received, without
// its "?". Printable characters that the grammar does not allow, and bytes from 0x80 on, are
// percent-encoded: a server decodes them to the same. Escapes stay as they are, broken ones too,
// for they are data of the application. Spaces, control characters and "#" are refused.
//
// The result is raw itself where raw is canonical.
func Query(raw []byte, scratch *[]byte) ([]byte, error) {
	n := 0
	for n < len(raw) && inQuery(raw[n]) {
		n++
	}
	if n == len(raw) {
		return raw, nil
	}
	base := len(*scratch)
	out := append(*scratch, raw[:n]...)
	for _, c := range raw[n:] {
		switch {
		case inQuery(c):
			out = append(out, c)
		case class[c] == bad:
			return nil, ErrQuery
		default:
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	*scratch = out
	return out[base:len(out):len(out)], nil
}

func inQuery(c byte) bool {
	k := class[c]
	return k == plain || k == semicolon || k == slash || k == percent || k == question
}
