// Package figures holds the arithmetic of the benchmarks: medians with their spread, ratios paired
// round by round, latency histograms, and how sizes and durations are written.
package figures

import (
	"math"
	"slices"
)

// Spread is what several rounds of one measurement come to.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// Of summarises values; the zero Spread (N = 0) stands for none at all.
func Of(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Clone(values)
	slices.Sort(v)
	n := len(v)
	median := v[n/2]
	if n%2 == 0 {
		median = (v[n/2-1] + v[n/2]) / 2
	}
	return Spread{Median: median, Min: v[0], Max: v[n-1], N: n}
}

// Width is how far the rounds lie apart, as a share of the median: 0.1 is 10 %.
func (s Spread) Width() float64 {
	if s.N == 0 || s.Median == 0 {
		return 0
	}
	return (s.Max - s.Min) / s.Median
}

// Paired summarises a[i]/b[i] over the rounds that both have. Dividing round by round cancels what
// changes slowly (a neighbour on the machine, a clock that throttles), because the rounds of one
// number lie next to each other in time.
func Paired(a, b map[int]float64) Spread {
	var ratios []float64
	for round, x := range a {
		if y, ok := b[round]; ok && y > 0 && !math.IsNaN(x) {
			ratios = append(ratios, x/y)
		}
	}
	return Of(ratios)
}
