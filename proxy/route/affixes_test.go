package route

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// All that a text begins (ends) with are found, the longest first, whatever lengths there are.
func TestAffixes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func(most int) string {
		b := make([]byte, rnd.IntN(most+1))
		for i := range b {
			b[i] = "ab"[rnd.IntN(2)]
		}
		return string(b)
	}
	for round := range 3_000 {
		values := map[string]int{}
		for range rnd.IntN(40) {
			values[word(1+round%12)] = 0
		}
		end := round%2 == 0
		has := strings.HasPrefix
		if end {
			has = strings.HasSuffix
		}
		a := newAffixes(values, end)
		for range 20 {
			text := word(14)
			var want, got []string
			for n := len(text); n >= 0; n-- {
				part := text[:n]
				if end {
					part = text[len(text)-n:]
				}
				if _, ok := values[part]; ok {
					want = append(want, part)
				}
			}
			for i := a.longest([]byte(text)); i >= 0; i = a.items[i].shorter {
				got = append(got, a.items[i].text)
				if !has(text, a.items[i].text) {
					t.Fatalf("%q of %q", a.items[i].text, text)
				}
			}
			if strings.Join(got, " ") != strings.Join(want, " ") || len(got) != len(want) {
				t.Fatalf("%q of %v (end: %v): got %q, want %q", text, values, end, got, want)
			}
		}
	}
}
