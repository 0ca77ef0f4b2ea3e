// Package failover measures, in a lab of namespaces, how a path failure affects a transfer over two
// paths: with the manager of package paths on one side, and with the kernel alone.
//
//  1. a lab: two places, two links of 100 Mbit/s
//  2. runs, alternately with and without the manager, each on a connection of its own: a transfer;
//     after Warm one link fails; after Away it comes back
//  3. from the times and sizes of the receiver's reads: the largest gap, how long the rate was below
//     half of one path's, and when it was back at its old value
package failover

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"mpgate/internal/lab"
	"mpgate/mptcp/paths"
)

// Event is how a path is taken away, at the managed side.
type Event uint8

const (
	// LinkDown: its interface goes down.
	LinkDown Event = iota
	// Silence: all its packets vanish.
	Silence
	// Nothing happens: what is counted are paths that were given up all the same.
	Nothing
)

func (e Event) String() string { return [...]string{"link down", "silence", "nothing"}[min(e, 2)] }

// Options of a measurement.
type Options struct {
	Event Event
	// Side of the managed place: a listener's (Front) or a dialler's (Back).
	Side paths.Side
	// Receive: the managed side receives; otherwise it sends.
	Receive bool
	Path    lab.Path // of both links; no rate: 100 Mbit/s
	Runs    int      // 0: 1
	// Kernel: as many runs without a manager between those with one.
	Kernel bool
	// Warm, Away and After are the times before the cut, without the path, and after its
	// return (0: 1.5 s, 2 s and 1.5 s).
	Warm, Away, After time.Duration
	// Late is for how long the link is up again before it has routes.
	Late time.Duration
	// Failover, FailoverActive if not set.
	Failover paths.Failover
	Log      func(format string, args ...any) // nil: none
}

// Run is what one run showed.
type Run struct {
	Managed bool
	// Gap is the largest between two reads, from the cut to the return.
	Gap time.Duration
	// Low is for how long the rate was below half of one path's, in steps of Step.
	Low time.Duration
	// Back is how long after the return of the path nine tenths of the rate before the
	// cut were reached, in steps; negative: not in this run.
	Back time.Duration
	// Before is the rate before the cut, bit/s.
	Before float64
	// Done is when the manager had ended the subflows of the path, from the cut on.
	Done time.Duration
	// Rates in steps from the cut on, for a second, Mbit/s.
	Rates []int
	// Cuts that the manager made.
	Cuts []paths.Cut
	// HeldUp counts those of them in whose silence the lab itself stalled for 10 ms or more.
	HeldUp int
	Err    error
}

// Step of the rates.
const Step = 25 * time.Millisecond

// Report of a measurement.
type Report struct {
	Options    Options
	Congestion lab.Congestion
	Runs       []Run
}

// Values of the managed runs, or of the others, that did not fail.
func (r *Report) Values(managed bool, of func(Run) time.Duration) []time.Duration {
	var v []time.Duration
	for _, run := range r.Runs {
		if run.Managed == managed && run.Err == nil {
			v = append(v, of(run))
		}
	}
	slices.Sort(v)
	return v
}

// before is the mean rate before the cut, bit/s.
func (r *Report) before(managed bool) (mean float64) {
	n := 0
	for _, run := range r.Runs {
		if run.Managed == managed && run.Err == nil {
			mean += run.Before
			n++
		}
	}
	return mean / float64(n)
}

// Failed counts the runs that failed.
func (r *Report) Failed() int {
	n := 0
	for _, run := range r.Runs {
		if run.Err != nil {
			n++
		}
	}
	return n
}

// Quantile of sorted values by the nearest rank: the least value that so many are not
// above; 0.5 is the median.
func Quantile(v []time.Duration, q float64) time.Duration {
	if len(v) == 0 {
		return 0
	}
	return v[max(int(math.Ceil(q*float64(len(v))))-1, 0)]
}

func (r *Report) String() string {
	direction := "sends"
	if r.Options.Receive {
		direction = "receives"
	}
	s := fmt.Sprintf("%s, %s side %s, %v, congestion %s (%s)\n", r.Options.Event, r.Options.Side, direction,
		cmp.Or(2*r.Options.Path.Delay, 0), r.Congestion.Name, r.Congestion.Means)
	for _, managed := range []bool{false, true} {
		who := map[bool]string{false: "kernel alone", true: "mpgate"}[managed]
		n := len(r.Values(managed, func(r Run) time.Duration { return r.Gap }))
		if n == 0 {
			continue
		}
		s += fmt.Sprintf("  %-12s  %2d runs, median / p95 / worst", who, n)
		for _, c := range columns {
			v := r.Values(managed, c.of)
			s += fmt.Sprintf("  %s %v / %v / %v", c.name, never(Quantile(v, .5)), never(Quantile(v, .95)), never(Quantile(v, 1)))
		}
		s += fmt.Sprintf("  %.0f Mbit/s before\n", r.before(managed)/1e6)
	}
	return s + fmt.Sprintf("  failed: %d\n", r.Failed())
}

// columns of the printed report.
var columns = []struct {
	name string
	of   func(Run) time.Duration
}{
	{"gap", func(r Run) time.Duration { return r.Gap }},
	{"low", func(r Run) time.Duration { return r.Low }},
	{"back", func(r Run) time.Duration {
		if r.Back < 0 {
			return time.Hour
		}
		return r.Back
	}},
	{"done after", func(r Run) time.Duration { return r.Done }},
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

func never(d time.Duration) string {
	if d >= time.Hour {
		return "never"
	}
	return round(d).String()
}

// arrival is one read.
type arrival struct {
	at    time.Time
	bytes int
}

// judge makes a Run of the receiver's reads.
func judge(reads []arrival, rate float64, cut, back, end time.Time) Run {
	var r Run
	last := cut
	for _, a := range reads {
		if a.at.After(cut) && a.at.Before(back) {
			r.Gap = max(r.Gap, a.at.Sub(last))
			last = a.at
		}
	}
	r.Gap = max(r.Gap, back.Sub(last))
	between := func(from, to time.Time) float64 {
		n := 0
		for _, a := range reads {
			if a.at.After(from) && !a.at.After(to) {
				n += a.bytes
			}
		}
		return float64(n) * 8 / to.Sub(from).Seconds()
	}
	r.Before = between(cut.Add(-500*time.Millisecond), cut)
	for t := cut; t.Add(Step).Before(back); t = t.Add(Step) {
		now := between(t, t.Add(Step))
		if now < rate/2 {
			r.Low += Step
		}
		if t.Sub(cut) < time.Second {
			r.Rates = append(r.Rates, int(now/1e6))
		}
	}
	// Whole: over 200 ms, so that a burst does not count.
	const window = 8 * Step
	r.Back = -1
	for t := back; t.Add(window).Before(end); t = t.Add(Step) {
		if between(t, t.Add(window)) >= 0.9*r.Before {
			r.Back = t.Sub(back)
			break
		}
	}
	return r
}
