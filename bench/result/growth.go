package result

import (
	"fmt"
	"math"
	"time"

	"mpgate/bench/figures"
)

// Growth is what mpgate costs as one thing grows. Its case has an entry for each size.
type Growth struct {
	// Of is one of: open connections, routes by host, routes by path, servers, listeners.
	Of     string        `json:"of"`
	About  string        `json:"about"`
	Case   Case          `json:"case"`
	Points []GrowthPoint `json:"points"`
}

// GrowthPoint is one size; its figures are those of the entry of the same index.
type GrowthPoint struct {
	N     int           `json:"n"`
	PSS   int64         `json:"pss_bytes"` // after the last round
	Ready time.Duration `json:"ready_ns"`  // from the exec to the first answer
	Open  int           `json:"still_open,omitempty"`
}

// Each is the memory of one more: the slope from the smallest size to point i; 0 where there is
// none.
func (g *Growth) Each(i int) float64 {
	first, p := g.Points[0], g.Points[i]
	if first.PSS == 0 || p.PSS == 0 || p.N == first.N {
		return 0
	}
	return float64(p.PSS-first.PSS) / float64(p.N-first.N)
}

// CPURatio is the cost of a request at point i divided by that at the smallest size, round by
// round.
func (g *Growth) CPURatio(i int) figures.Spread {
	return g.Case.Entries[i].CPURatio(&g.Case.Entries[0])
}

// Verdict says how the cost of a request grows, from the smallest size to the largest that was
// measured.
func (g *Growth) Verdict() string {
	last := -1
	for i := range g.Points {
		if g.CPURatio(i).N > 0 {
			last = i
		}
	}
	if last < 1 {
		return "not measured"
	}
	ratio, times := g.CPURatio(last).Median, float64(g.Points[last].N)/float64(g.Points[0].N)
	exponent := math.Log(ratio) / math.Log(times)
	how := "grows in proportion"
	switch {
	case ratio < 1.1:
		how = "does not grow"
	case exponent < 0.15:
		how = "grows about as the logarithm"
	case exponent < 0.4:
		how = "grows less than the square root"
	case exponent < 0.7:
		how = "grows about as the square root"
	case exponent < 0.9:
		how = "grows less than in proportion"
	}
	return fmt.Sprintf("CPU a request %s: %.2f times from %d to %d (exponent %.2f)", how, ratio, g.Points[0].N, g.Points[last].N, exponent)
}
