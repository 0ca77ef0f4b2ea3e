package route

import (
	"cmp"
	"slices"
	"strings"
	"unsafe"
)

// affixes finds which of many texts another text begins with, or ends with, the longest first. It
// takes a binary search and one step for each that is found.
//
//	for i := a.longest(b); i >= 0; i = a.items[i].shorter { … a.items[i].value … }
type affixes[V any] struct {
	items []affix[V] // sorted: of suffixes, by their text read backwards
	end   bool       // suffixes
}

type affix[V any] struct {
	text    string
	shorter int32 // the longest item that this one begins (ends) with, -1 if there is none
	value   V
}

func newAffixes[V any](values map[string]V, end bool) affixes[V] {
	a := affixes[V]{end: end, items: make([]affix[V], 0, len(values))}
	for text, v := range values {
		a.items = append(a.items, affix[V]{text: text, shorter: -1, value: v})
	}
	slices.SortFunc(a.items, func(x, y affix[V]) int { return a.compare(x.text, y.text) })
	for i := range a.items {
		j := int32(i - 1)
		for j >= 0 && !a.has(a.items[i].text, a.items[j].text) {
			j = a.items[j].shorter
		}
		a.items[i].shorter = j
	}
	return a
}

func (a *affixes[V]) has(text, part string) bool {
	if a.end {
		return strings.HasSuffix(text, part)
	}
	return strings.HasPrefix(text, part)
}

// longest returns the index of the longest item that b begins (ends) with, or -1.
func (a *affixes[V]) longest(b []byte) int32 {
	text := stringOf(b)
	lo, hi := 0, len(a.items)
	for lo < hi {
		if mid := (lo + hi) / 2; a.compare(a.items[mid].text, text) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	// All that sorts between an affix of b and b has that affix too, so the affixes of b are among
	// the last item not behind b and those that this one has.
	i := int32(lo - 1)
	if i < 0 {
		return -1
	}
	common := a.common(a.items[i].text, text)
	for i >= 0 && len(a.items[i].text) > common {
		i = a.items[i].shorter
	}
	return i
}

// common is the length of what two texts have in common at the beginning (end).
func (a *affixes[V]) common(x, y string) (n int) {
	most := min(len(x), len(y))
	if a.end {
		for n < most && x[len(x)-1-n] == y[len(y)-1-n] {
			n++
		}
		return n
	}
	for n < most && x[n] == y[n] {
		n++
	}
	return n
}

func (a *affixes[V]) compare(x, y string) int {
	if !a.end {
		return cmp.Compare(x, y)
	}
	n := a.common(x, y)
	if n == len(x) || n == len(y) {
		return cmp.Compare(len(x), len(y))
	}
	return cmp.Compare(x[len(x)-1-n], y[len(y)-1-n])
}

// stringOf is b as a string, without a copy. It must not be kept.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
