package figures

import (
	"math/bits"
	"time"
)

// subBuckets is the number of linear steps in each power of two: 64 of them bound the error of a
// percentile to 1.6 %.
const (
	subBits    = 6
	subBuckets = 1 << subBits
)

// Histogram counts durations in buckets that grow with the value (log-linear, microsecond
// resolution at the low end). The zero value is ready; it is not safe for concurrent use: keep one
// a goroutine and Add them up.
type Histogram struct {
	Counts []uint64 `json:"counts"`
	N      uint64   `json:"n"`
	Max    int64    `json:"max_us"`
}

// bucket gives the index for v microseconds: below subBuckets exact, above 64 steps for each power
// of two.
func bucket(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

// upper gives the largest value that falls into bucket i.
func upper(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	shift := i/subBuckets - 1
	return (uint64(subBuckets+i%subBuckets)+1)<<shift - 1
}

// Record counts d; a negative one counts as 0.
func (h *Histogram) Record(d time.Duration) {
	us := max(d.Microseconds(), 0)
	i := bucket(uint64(us))
	if i >= len(h.Counts) {
		h.Counts = append(h.Counts, make([]uint64, i+1-len(h.Counts))...)
	}
	h.Counts[i]++
	h.N++
	h.Max = max(h.Max, us)
}

// Add counts all that o counted.
func (h *Histogram) Add(o *Histogram) {
	if len(o.Counts) > len(h.Counts) {
		h.Counts = append(h.Counts, make([]uint64, len(o.Counts)-len(h.Counts))...)
	}
	for i, c := range o.Counts {
		h.Counts[i] += c
	}
	h.N += o.N
	h.Max = max(h.Max, o.Max)
}

// Percentile gives the value below which p percent of the recorded durations lie (p = 100: the
// largest).
func (h *Histogram) Percentile(p float64) time.Duration {
	if h.N == 0 {
		return 0
	}
	want := uint64(p/100*float64(h.N) + 0.5)
	want = min(max(want, 1), h.N)
	var seen uint64
	for i, c := range h.Counts {
		if seen += c; seen >= want {
			return time.Duration(min(int64(upper(i)), h.Max)) * time.Microsecond
		}
	}
	return time.Duration(h.Max) * time.Microsecond
}
