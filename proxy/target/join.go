package target

import "bytes"

// Joined checks a path that was joined of pieces of canonical paths. It must be canonical, too: a
// piece that would be a dot segment, or a part of an escape, in its new place is an attempt to
// reach another resource. Slashes in a row become one, or only those at the beginning if
// keepSlashes is set; the result lies in the memory of path.
func Joined(path []byte, keepSlashes bool, scratch *[]byte) (canonical []byte, flags Flags, ok bool) {
	path = mergeSlashes(path, keepSlashes)
	canonical, flags, err := canonicalPath(path, scratch, true)
	if err != nil || !bytes.Equal(canonical, path) {
		return nil, flags, false
	}
	return path, flags, true
}

// MergeSlashes makes one slash of several in a row, in place.
func MergeSlashes(path []byte) []byte { return mergeSlashes(path, false) }

func mergeSlashes(path []byte, onlyFirst bool) []byte {
	n := 0
	for i, c := range path {
		if c == '/' && n > 0 && path[i-1] == '/' && (n == 1 || !onlyFirst) {
			continue
		}
		path[n] = c
		n++
	}
	return path[:n]
}

// OffsetOf returns where the byte n of a canonical path is in the same path with slashes in a row,
// as from KeepSlashes. The slashes in a row belong to what comes before.
func OffsetOf(kept, canonical []byte, n int) int {
	if len(kept) == len(canonical) {
		return n
	}
	for i := 0; i < len(kept); i++ {
		if kept[i] == '/' && i > 0 && kept[i-1] == '/' {
			continue
		}
		if n == 0 {
			return i
		}
		n--
	}
	return len(kept)
}
