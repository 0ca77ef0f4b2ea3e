package route

import (
	"cmp"
	"slices"
	"unsafe"
)

// affixes finds which of many texts another text begins with, or ends with, the longest first.
//
//	for i := a.longest(b); i >= 0; i = a.items[i].shorter { … a.items[i].value … }
//
// It searches by bisection among the lengths that the texts have, not among the texts, and looks
// into a map at each (Waldvogel, Varghese, Turner, Plattner, "Scalable High Speed IP Routing
// Lookups", 1997). 10,000 endings of file names have some ten lengths, so that takes three or four
// look-ups. So that a longer text is found by way of a shorter one, found has the beginnings (ends)
// of the texts, too, as far as the search comes by them.
type affixes[V any] struct {
	items   []affix[V] // sorted: of suffixes, by their text read backwards
	lengths []int      // of the items, each once, ascending
	found   map[string]int32
	end     bool // suffixes
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
		a.lengths = append(a.lengths, len(text))
	}
	slices.Sort(a.lengths)
	a.lengths = slices.Compact(a.lengths)
	slices.SortFunc(a.items, func(x, y affix[V]) int { return a.compare(x.text, y.text) })
	for i := range a.items {
		j := int32(i - 1)
		for j >= 0 && !a.has(a.items[i].text, a.items[j].text) {
			j = a.items[j].shorter
		}
		a.items[i].shorter = j
	}
	a.index()
	return a
}

// index fills found: for each item, what longest looks up on its way to the length of it.
func (a *affixes[V]) index() {
	if len(a.items) < 2 {
		return
	}
	a.found = make(map[string]int32, len(a.items))
	for i := range a.items {
		text := a.items[i].text
		for lo, hi := 0, len(a.lengths); lo < hi; {
			mid := (lo + hi) / 2
			n := a.lengths[mid]
			if n > len(text) {
				hi = mid
				continue
			}
			item := int32(i)
			for item >= 0 && len(a.items[item].text) > n {
				item = a.items[item].shorter
			}
			a.found[a.cut(text, n)] = item
			lo = mid + 1
		}
	}
}

func (a *affixes[V]) has(text, part string) bool {
	return len(text) >= len(part) && a.cut(text, len(part)) == part
}

// cut is the first (last) n bytes of a text.
func (a *affixes[V]) cut(text string, n int) string {
	if a.end {
		return text[len(text)-n:]
	}
	return text[:n]
}

// longest returns the index of the longest item that b begins (ends) with, or -1.
func (a *affixes[V]) longest(b []byte) int32 {
	text := stringOf(b)
	switch len(a.items) {
	case 0:
		return -1
	case 1:
		if !a.has(text, a.items[0].text) {
			return -1
		}
		return 0
	}
	longest := int32(-1)
	for lo, hi := 0, len(a.lengths); lo < hi; {
		mid := (lo + hi) / 2
		n := a.lengths[mid]
		if n > len(text) {
			hi = mid
		} else if item, ok := a.found[a.cut(text, n)]; ok {
			longest, lo = item, mid+1
		} else {
			hi = mid
		}
	}
	return longest
}

func (a *affixes[V]) compare(x, y string) int {
	if !a.end {
		return cmp.Compare(x, y)
	}
	for x != "" && y != "" && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	if x == "" || y == "" {
		return cmp.Compare(len(x), len(y))
	}
	return cmp.Compare(x[len(x)-1], y[len(y)-1])
}

// stringOf is b as a string, without a copy. It must not be kept.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
