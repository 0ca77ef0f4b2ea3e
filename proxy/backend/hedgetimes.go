package backend

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// timeSteps is the number of classes for each doubling of a time: the quantiles are at most an
	// eighth too long.
	timeSteps = 8
	// timeClasses covers times up to an hour; longer ones are in the last class.
	timeClasses = 32 * timeSteps
	// minTimes is the number of times from which a quantile is estimated.
	minTimes = 100
	// Each second, a timeDecay-th of what is known is forgotten, down to keptTimes: with much
	// traffic an estimate depends on the last ten seconds or so, with little on more.
	timeDecay = 8
	keptTimes = 400
)

// responseTimes counts how long requests take, in classes of about the same relative width, so that
// a quantile can be estimated. note costs one atomic addition.
type responseTimes struct {
	counts [timeClasses]atomic.Int64
}

// timeClass returns the class of a time. In each doubling of microseconds, the three bits after the
// first one count.
func timeClass(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < timeSteps {
		return int(us)
	}
	shift := bits.Len64(us) - 4
	return min((shift+1)*timeSteps+int(us>>shift)-timeSteps, timeClasses-1)
}

// classEnd returns the time at which a class ends.
func classEnd(class int) time.Duration {
	if class < timeSteps {
		return time.Duration(class+1) * time.Microsecond
	}
	shift := class/timeSteps - 1
	return time.Duration(timeSteps+class%timeSteps+1) << shift * time.Microsecond
}

func (t *responseTimes) note(d time.Duration) { t.counts[timeClass(d)].Add(1) }

// quantile returns a time that a share q of the recent requests did not exceed, or 0 if too few are
// known. Then it forgets some of the older ones. One goroutine calls it, about once a second.
func (t *responseTimes) quantile(q float64) (at time.Duration) {
	var total, below int64
	var counts [timeClasses]int64
	for i := range t.counts {
		counts[i] = t.counts[i].Load()
		total += counts[i]
	}
	if total < minTimes {
		return 0
	}
	for i, n := range counts {
		if below += n; float64(below) >= q*float64(total) {
			at = classEnd(i)
			break
		}
	}
	if forget := min(total-keptTimes, total/timeDecay); forget > 0 {
		t.forget(&counts, float64(forget)/float64(total))
	}
	return at
}

// forget takes a share of each class away. What a class loses less than one of is carried to the
// next one, so that single times are forgotten as well.
func (t *responseTimes) forget(counts *[timeClasses]int64, share float64) {
	rest := 0.0
	for i, n := range counts {
		rest += share * float64(n)
		lost := min(int64(rest), n)
		rest -= float64(lost)
		if lost > 0 {
			t.counts[i].Add(-lost)
		}
	}
}
