package result

import (
	"fmt"
	"strings"
	"time"

	"mpgate/bench/figures"
)

// PathCase is one workload over the paths of one scenario.
type PathCase struct {
	Scenario     string        `json:"scenario"`
	About        string        `json:"about"`
	Side         string        `json:"several_paths"` // front | back | both
	Workload     string        `json:"workload"`      // download | upload | parallel | small
	Congestion   string        `json:"congestion_control"`
	CongestionBy string        `json:"congestion_control_set_by"` // default | namespace | route
	Paths        []PathSpec    `json:"paths"`
	Event        string        `json:"event,omitempty"` // what happens to path 1
	Returns      bool          `json:"returns,omitempty"`
	Length       time.Duration `json:"run_ns"`
	Rate         float64       `json:"rate,omitempty"`
	// Realtime is false if delays may grow with the machine's load.
	Realtime bool              `json:"emulator_realtime"`
	Configs  map[string]string `json:"mpgate_configurations"`
	Entries  []PathEntry       `json:"entries"`
}

// PathSpec is a path as it was asked for.
type PathSpec struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

// PathEntry is one way to use the paths.
type PathEntry struct {
	Variant string      `json:"variant"`
	Alone   bool        `json:"alone"` // plain TCP on one path: the goodputs of these make the sum
	All     bool        `json:"all_paths"`
	Rounds  []PathRound `json:"rounds"`
}

// PathRound is one run. Times are from its begin.
type PathRound struct {
	N     int           `json:"round"`
	Wall  time.Duration `json:"wall_ns"`
	Bytes int64         `json:"bytes"`
	// Goodput in bit/s at the receiver, without the beginning.
	Goodput float64         `json:"goodput_bits"`
	TTFB    []time.Duration `json:"ttfb_ns,omitempty"`
	Latency Latency         `json:"latency"`
	// Gap is the largest between two reads, from the cut on.
	Gap time.Duration `json:"gap_ns"`
	// Low is how long after the cut the rate was below half of what the other path carries.
	Low       time.Duration               `json:"low_ns"`
	Cut       time.Duration               `json:"cut_ns,omitempty"`
	Return    time.Duration               `json:"return_ns,omitempty"`
	Requests  int64                       `json:"requests"`
	Failed    int64                       `json:"failed"`
	Missed    int64                       `json:"missed"` // due at the fixed rate, and never sent
	Why       string                      `json:"why_failed,omitempty"`
	CPU       time.Duration               `json:"gateway_cpu_ns"`
	Foreign   float64                     `json:"foreign_cpu_share"`
	Links     []PathLink                  `json:"links"`
	Front     PathSpoken                  `json:"front"`
	Back      PathSpoken                  `json:"back"`
	Fallbacks int64                       `json:"fallbacks"` // counted by all places
	Counters  map[string]map[string]int64 `json:"counters"`  // MPTcpExt* by place, what changed
	Step      time.Duration               `json:"step_ns,omitempty"`
	Series    []float64                   `json:"series_bits,omitempty"` // goodput in each step
	Invalid   string                      `json:"invalid,omitempty"`
}

// PathLink is what a link carried: from its dialling side, and back to it, whole frames.
type PathLink struct {
	Name     string `json:"name"`
	There    uint64 `json:"bytes_there"`
	Back     uint64 `json:"bytes_back"`
	Lost     uint64 `json:"packets_lost"`
	Overflow uint64 `json:"packets_overflow"`
	Silenced uint64 `json:"packets_silenced"`
}

// Sub is what was carried since before.
func (l PathLink) Sub(b PathLink) PathLink {
	return PathLink{l.Name, l.There - b.There, l.Back - b.Back, l.Lost - b.Lost, l.Overflow - b.Overflow, l.Silenced - b.Silenced}
}

// PathSpoken counts the connections of one side of the gateway.
type PathSpoken struct {
	MPTCP    int64 `json:"mptcp"`
	Plain    int64 `json:"plain"`
	FellBack int64 `json:"fell_back"` // of MPTCP, later
}

var workloadNames = map[string]string{
	"download": "one large download", "upload": "one large upload", "parallel": "100 parallel downloads of 256 KiB", "small": "requests of 1 KiB",
}

var sideNames = map[string]string{"front": "paths in front", "back": "paths behind", "both": "paths on both sides"}

// Name is the heading of a case.
func (c *PathCase) Name() string {
	parts := []string{c.About, sideNames[c.Side], workloadNames[c.Workload], c.Congestion}
	if c.Rate > 0 {
		parts[2] += fmt.Sprintf(" at %.0f/s", c.Rate)
	}
	return strings.Join(parts, ", ")
}

// Line is a run in a few words, for whoever watches.
func (r *PathRound) Line() string {
	var b strings.Builder
	if r.Goodput > 0 {
		fmt.Fprintf(&b, "%6.1f Mbit/s", r.Goodput/1e6)
	} else {
		fmt.Fprintf(&b, "p99 %7.1f ms", float64(r.Latency.P99)/1e3)
	}
	if r.Cut > 0 && r.Goodput > 0 {
		fmt.Fprintf(&b, "  gap %4d ms", r.Gap.Milliseconds())
	}
	if r.Failed+r.Missed > 0 {
		fmt.Fprintf(&b, "  failed %d, missed %d", r.Failed, r.Missed)
	}
	if r.Invalid != "" {
		b.WriteString("  NOT COUNTED: " + r.Invalid)
	}
	return b.String()
}

func (e *PathEntry) perRound(f func(*PathRound) (float64, bool)) map[int]float64 {
	m := make(map[int]float64)
	for i := range e.Rounds {
		if r := &e.Rounds[i]; r.Invalid == "" {
			if v, ok := f(r); ok {
				m[r.N] = v
			}
		}
	}
	return m
}

func (e *PathEntry) of(f func(*PathRound) (float64, bool)) figures.Spread {
	return spread(e.perRound(f))
}

func goodput(r *PathRound) (float64, bool) { return r.Goodput, true }

// Goodput is in bit/s.
func (e *PathEntry) Goodput() figures.Spread { return e.of(goodput) }

// Gap and Low are in milliseconds.
func (e *PathEntry) Gap() figures.Spread {
	return e.of(func(r *PathRound) (float64, bool) { return float64(r.Gap) / 1e6, true })
}

// Low: see PathRound.
func (e *PathEntry) Low() figures.Spread {
	return e.of(func(r *PathRound) (float64, bool) { return float64(r.Low) / 1e6, true })
}

// TTFB is the median over all connections of all valid runs, in microseconds.
func (e *PathEntry) TTFB() figures.Spread {
	var v []float64
	for _, r := range e.Rounds {
		if r.Invalid == "" {
			for _, d := range r.TTFB {
				v = append(v, float64(d)/1e3)
			}
		}
	}
	return figures.Of(v)
}

// LatencyOf is one percentile over the runs, in microseconds.
func (e *PathEntry) LatencyOf(f func(Latency) int64) figures.Spread {
	return e.of(func(r *PathRound) (float64, bool) { return float64(f(r.Latency)), r.Requests > 0 })
}

// CPU of the gateway: microseconds a request where there are many, else milliseconds for each 100
// MB that arrived.
func (e *PathEntry) CPU() figures.Spread {
	return e.of(func(r *PathRound) (float64, bool) {
		if r.Requests > 1 {
			return float64(r.CPU) / 1e3 / float64(r.Requests), true
		}
		return float64(r.CPU) / 1e6 / (float64(r.Bytes) / 1e8), r.Bytes > 0
	})
}

// Sum is, round by round, what the paths carry alone: the sum of the goodputs of plain TCP on each.
// Rounds in which one is missing have none.
func (c *PathCase) Sum() map[int]float64 {
	var sum map[int]float64
	for i := range c.Entries {
		e := &c.Entries[i]
		if !e.Alone {
			continue
		}
		one := e.perRound(goodput)
		if sum == nil {
			sum = one
			continue
		}
		for n := range sum {
			if v, ok := one[n]; ok {
				sum[n] += v
			} else {
				delete(sum, n)
			}
		}
	}
	return sum
}

// Share of the sum.
func (c *PathCase) Share(e *PathEntry) figures.Spread {
	return figures.Paired(e.perRound(goodput), c.Sum())
}

// Failed adds up the runs' failed and missed requests, those of runs that do not count included.
func (e *PathEntry) Failed() (failed, missed int64) {
	for _, r := range e.Rounds {
		failed += r.Failed
		missed += r.Missed
	}
	return failed, missed
}

// Valid counts the runs that are averaged.
func (e *PathEntry) Valid() int { return e.of(func(*PathRound) (float64, bool) { return 0, true }).N }

// Split is the share of each link of a side (by the prefix of its name) in what all of them carried
// in the direction of the data.
func (e *PathEntry) Split(prefix string, upload bool) []float64 {
	var bytes []float64
	var sum float64
	for _, r := range e.Rounds {
		if r.Invalid != "" {
			continue
		}
		k := 0
		for _, l := range r.Links {
			if !strings.HasPrefix(l.Name, prefix) {
				continue
			}
			if k == len(bytes) {
				bytes = append(bytes, 0)
			}
			v := float64(l.Back)
			if upload {
				v = float64(l.There)
			}
			bytes[k] += v
			sum += v
			k++
		}
	}
	for i := range bytes {
		if sum > 0 {
			bytes[i] /= sum
		}
	}
	return bytes
}

// Middle is the valid run whose goodput is nearest to the median, for the plot; nil if there is
// none.
func (e *PathEntry) Middle() *PathRound {
	want := e.Goodput().Median
	var best *PathRound
	distance := func(r *PathRound) float64 { return max(r.Goodput-want, want-r.Goodput) }
	for i := range e.Rounds {
		if r := &e.Rounds[i]; r.Invalid == "" && (best == nil || distance(r) < distance(best)) {
			best = r
		}
	}
	return best
}

// Foreign is the largest share of the machine that others used during a run of the case.
func (c *PathCase) Foreign() float64 {
	var most float64
	for _, e := range c.Entries {
		for _, r := range e.Rounds {
			most = max(most, r.Foreign)
		}
	}
	return most
}
