// Package split divides requests among named choices by weight, such as the backends of a route of
// which one gets 5 %.
//
// With a key the same choice is made each time, in every process and in whatever order the choices
// are listed: it is the one with the best score, which follows from a hash of the key and the name,
// and from the weight (weighted rendezvous hashing). So when the share of one choice grows and
// those of the others keep their proportions, keys move to that one only.
package split

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Choice is a name and its weight. The shares are the weights divided by their sum.
type Choice struct {
	Name   string
	Weight float64 // 0: never chosen
}

// Split is a set of choices, immutable.
type Split struct {
	choices []choice
	sum     float64
}

type choice struct {
	index  int // as given to New
	seed   uint64
	weight float64
}

// New makes a Split. The weights must be finite and not negative, and one positive; the names must
// be different.
func New(choices []Choice) (*Split, error) {
	s := new(Split)
	seen := map[string]bool{}
	for i, c := range choices {
		switch {
		case !(c.Weight >= 0) || math.IsInf(c.Weight, 0):
			return nil, fmt.Errorf("the weight of %q is not a number from 0 on (got %v)", c.Name, c.Weight)
		case seen[c.Name]:
			return nil, fmt.Errorf("%q is listed twice", c.Name)
		}
		seen[c.Name] = true
		if c.Weight > 0 {
			s.choices = append(s.choices, choice{i, hash(offset64, c.Name), c.Weight})
			s.sum += c.Weight
		}
	}
	if len(s.choices) == 0 {
		return nil, fmt.Errorf("no choice has a weight above 0")
	}
	if math.IsInf(s.sum, 0) {
		return nil, fmt.Errorf("the sum of the weights is not finite")
	}
	slices.SortFunc(s.choices, func(a, b choice) int { return cmp.Compare(b.weight, a.weight) })
	return s, nil
}

// Choose returns the index of the choice for a key, as given to New. An empty key is none, and the
// choice random.
func (s *Split) Choose(key []byte) int {
	if len(key) == 0 {
		return s.random(rand.Float64() * s.sum)
	}
	h := hash(offset64, key)
	best, score := 0, math.Inf(1)
	for i := range s.choices {
		c := &s.choices[i]
		// -ln(u)/weight has an exponential distribution with the rate weight, so it is the least
		// with the probability weight/sum.
		if x := -math.Log(unit(mix(h^c.seed))) / c.weight; x < score {
			best, score = c.index, x
		}
	}
	return best
}

// random returns the choice at a point from 0 to the sum of the weights.
func (s *Split) random(at float64) int {
	for i := range s.choices {
		if at -= s.choices[i].weight; at < 0 {
			return s.choices[i].index
		}
	}
	return s.choices[0].index // at was the sum, rounded
}

// unit maps a hash to a number above 0 and below 1.
func unit(h uint64) float64 { return (float64(h>>11) + 0.5) / (1 << 53) }

// FNV-1a, then a finalizer: FNV alone leaves the high bits of short keys alike. Neither may change,
// or all keys are divided anew.
const (
	offset64 = 14695981039346656037
	prime64  = 1099511628211
)

func hash[T string | []byte](h uint64, s T) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime64
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
