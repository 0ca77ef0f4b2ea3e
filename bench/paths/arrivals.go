//go:build linux

package paths

import (
	"time"
)

// Step of the series: goodput over time is in these.
const Step = 100 * time.Millisecond

// arrivals are the reads of one receiver.
type arrivals struct {
	at   []time.Time
	size []int
}

func (a *arrivals) add(n int) {
	a.at = append(a.at, time.Now())
	a.size = append(a.size, n)
}

// bytes that arrived from one moment until before another.
func (a *arrivals) bytes(from, to time.Time) (n int64) {
	for i, t := range a.at {
		if !t.Before(from) && t.Before(to) {
			n += int64(a.size[i])
		}
	}
	return n
}

// goodput in bit/s between two moments.
func (a *arrivals) goodput(from, to time.Time) float64 {
	return float64(a.bytes(from, to)) * 8 / to.Sub(from).Seconds()
}

// gap is the longest time between two reads from one moment to another, the two moments standing
// for reads.
func (a *arrivals) gap(from, to time.Time) time.Duration {
	last, most := from, time.Duration(0)
	for _, t := range a.at {
		if t.Before(from) || t.After(to) {
			continue
		}
		most = max(most, t.Sub(last))
		last = t
	}
	return max(most, to.Sub(last))
}

// series is bit/s in each Step.
func (a *arrivals) series(from, to time.Time) []float64 {
	s := make([]float64, max(0, to.Sub(from)/Step))
	for i, t := range a.at {
		if k := int(t.Sub(from) / Step); !t.Before(from) && k < len(s) {
			s[k] += float64(a.size[i]) * 8 / Step.Seconds()
		}
	}
	return s
}

// low is for how long the rate was below a bound, in steps.
func (a *arrivals) low(from, to time.Time, below float64) (d time.Duration) {
	for _, rate := range a.series(from, to) {
		if rate < below {
			d += Step
		}
	}
	return d
}
