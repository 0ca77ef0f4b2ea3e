package telemetry

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"
)

// plain has the bytes that need no escaping in a JSON string and in a terminal.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// appendEscaped appends the inside of a JSON string. As in encoding/json, a byte that is not part
// of valid UTF-8 becomes U+FFFD, and U+2028 and U+2029 are escaped; so are DEL and the C1 controls,
// which a terminal would act on.
func appendEscaped[S []byte | string](b []byte, s S) []byte {
	n := len(b)
	b = slices.Grow(b, len(s))[:n+len(s)]
	value, i := b[n:], 0
	for ; len(s)-i >= 8; i += 8 {
		w := word(s[i : i+8])
		if !plainWord(w) {
			break
		}
		binary.LittleEndian.PutUint64(value[i:], w)
	}
	for ; i < len(value); i++ {
		c := s[i]
		if !plain[c] {
			return appendEscapedRest(b[:n+i], s[i:])
		}
		value[i] = c
	}
	return b
}

// word holds the first eight bytes of s.
func word[S []byte | string](s S) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

const ones, highs = 0x0101010101010101, 0x8080808080808080 // in each byte of a word

// plainWord reports whether the eight bytes are plain.
func plainWord(w uint64) bool {
	return (w|(w-0x20*ones)|(w+ones)|differ(w, '"')|differ(w, '\\'))&highs == 0
}

// differ sets the high bit of the bytes that equal c, in a word of ASCII.
func differ(w uint64, c byte) uint64 { return (w ^ uint64(c)*ones) - ones }

// appendEscapedRest appends what begins with a byte that is not plain.
func appendEscapedRest[S []byte | string](b []byte, s S) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case plain[c]:
			b = append(b, c)
			i++
		case c < utf8.RuneSelf:
			b = appendEscapedByte(b, c)
			i++
		default:
			r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			switch {
			case r == utf8.RuneError && size == 1:
				b = append(b, `\ufffd`...)
			case r < 0xa0 || r == 0x2028 || r == 0x2029:
				b = append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			default:
				b = append(b, s[i:i+size]...)
			}
			i += size
		}
	}
	return b
}

func appendEscapedByte(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
