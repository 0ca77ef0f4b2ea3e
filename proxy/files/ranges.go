package files

import (
	"bytes"
	"math"
	"time"

	"mpgate/proxy/message"
)

// Range is a part of a file, in bytes.
type Range struct{ Start, Length int64 }

// maxRanges is how many ranges of a request count. A request for more gets the whole file, as does
// one for more bytes than the file has, by ranges that overlap (RFC 9110 section 14.2).
const maxRanges = 32

// Ranges returns the ranges that a GET asks for. ok is false if it asks for none, or in a way that
// is ignored: then the whole file is sent. No range and true means that none can be satisfied.
func Ranges(h *message.Header, v *Validator, size int64, now time.Time) (list []Range, ok bool) {
	value, n := single(h, "Range")
	if n != 1 || !rangeHolds(h, v, now) {
		return nil, false
	}
	return parseRange(value, size)
}

func parseRange(value []byte, size int64) (list []Range, ok bool) {
	unit, set, found := bytes.Cut(value, []byte("="))
	if !found || !message.EqualFold(unit, "bytes") {
		return nil, false
	}
	var sum int64
	seen := 0
	for len(set) > 0 {
		var spec []byte
		spec, set, _ = bytes.Cut(set, []byte(","))
		if spec = bytes.Trim(spec, " \t"); len(spec) == 0 {
			continue // RFC 9110 section 5.6.1
		}
		r, valid := parseSpec(spec, size)
		if seen++; !valid || seen > maxRanges {
			return nil, false
		}
		if r.Length > 0 {
			list = append(list, r)
			sum += r.Length
		} else if size == 0 && spec[0] == '-' {
			return nil, false // the whole of an empty file, for which Content-Range has no form
		}
	}
	return list, seen > 0 && sum <= size
}

// parseSpec reads an int-range or a suffix-range. A range of length 0 cannot be satisfied.
func parseSpec(spec []byte, size int64) (r Range, valid bool) {
	from, to, found := bytes.Cut(spec, []byte("-"))
	if !found {
		return r, false
	}
	first, hasFirst, ok1 := position(from)
	last, hasLast, ok2 := position(to)
	switch {
	case !ok1 || !ok2 || !hasFirst && !hasLast || hasFirst && hasLast && last < first:
		return r, false
	case !hasFirst: // the last bytes
		n := min(last, size)
		return Range{size - n, n}, true
	case first >= size:
		return r, true
	case !hasLast || last >= size:
		last = size - 1
	}
	return Range{first, last - first + 1}, true
}

// position reads digits; a number beyond int64 is as good as the largest one.
func position(b []byte) (n int64, present, ok bool) {
	for _, c := range b {
		switch {
		case c < '0' || c > '9':
			return 0, false, false
		case n > (math.MaxInt64-9)/10:
			n = math.MaxInt64
		default:
			n = n*10 + int64(c-'0')
		}
	}
	return n, len(b) > 0, true
}
