package result

import (
	"fmt"
	"strings"

	"mpgate/bench/figures"
)

// Name describes a case in a few words; it is the heading of its table.
func (c *Case) Name() string {
	var parts []string
	if c.Title != "" {
		parts = append(parts, c.Title)
	}
	parts = append(parts, c.Protocol, figures.Size(c.Body), string(c.Transport))
	if c.Streams > 0 {
		parts = append(parts, fmt.Sprintf("%d x %d streams", c.Connections, c.Streams))
	} else if c.Close {
		parts = append(parts, "one connection a request")
	} else {
		parts = append(parts, "keep-alive")
	}
	if c.Log {
		parts = append(parts, "access log to a file")
	} else {
		parts = append(parts, "no access log")
	}
	if c.Rate > 0 {
		parts = append(parts, fmt.Sprintf("%.0f requests/s", c.Rate))
	}
	return strings.Join(parts, ", ")
}

// Entry finds a proxy's entry, nil if it is not in this case.
func (c *Case) Entry(proxy string) *Entry {
	for i := range c.Entries {
		if c.Entries[i].Proxy == proxy {
			return &c.Entries[i]
		}
	}
	return nil
}

// perRound maps the number of each valid round to what f makes of it.
func (e *Entry) perRound(f func(*Round) float64) map[int]float64 {
	m := make(map[int]float64)
	for i := range e.Rounds {
		if r := &e.Rounds[i]; r.Invalid == "" && r.Requests > 0 {
			m[r.N] = f(r)
		}
	}
	return m
}

func spread(m map[int]float64) figures.Spread {
	v := make([]float64, 0, len(m))
	for _, x := range m {
		v = append(v, x)
	}
	return figures.Of(v)
}

func cpuMicros(r *Round) float64 { return float64(r.CPU.Nanoseconds()) / 1e3 / float64(r.Requests) }

// CPU is the figure: microseconds of the proxy's CPU time for each request that it answered.
func (e *Entry) CPU() figures.Spread { return spread(e.perRound(cpuMicros)) }

// CPUPerGiB is milliseconds of CPU time for each GiB that the load generator received, parts of
// answers included.
func (e *Entry) CPUPerGiB() figures.Spread {
	return spread(e.perRound(func(r *Round) float64 { return float64(r.CPU) / 1e6 / (float64(max(1, r.Bytes)) / (1 << 30)) }))
}

// CPUPerMiB is milliseconds of CPU time for each MiB of bodies as the backend sent them, before
// they were compressed.
func (e *Entry) CPUPerMiB(body int64) figures.Spread {
	return spread(e.perRound(func(r *Round) float64 { return cpuMicros(r) / 1e3 / (float64(body) / (1 << 20)) }))
}

// Rate is requests a second.
func (e *Entry) Rate() figures.Spread {
	return spread(e.perRound(func(r *Round) float64 { return float64(r.Requests) / r.Wall.Seconds() }))
}

// Cores is how many CPUs the proxy kept busy.
func (e *Entry) Cores() figures.Spread {
	return spread(e.perRound(func(r *Round) float64 { return r.CPU.Seconds() / r.Wall.Seconds() }))
}

// RSS is resident memory at the end of a round, of the whole process tree.
func (e *Entry) RSS() figures.Spread {
	return spread(e.perRound(func(r *Round) float64 { return float64(r.RSS) }))
}

// LatencyOf is one percentile over the rounds, in microseconds.
func (e *Entry) LatencyOf(f func(Latency) int64) figures.Spread {
	return spread(e.perRound(func(r *Round) float64 { return float64(f(r.Latency)) }))
}

// CPURatio is the cost of e divided by that of o, round by round.
func (e *Entry) CPURatio(o *Entry) figures.Spread {
	return figures.Paired(e.perRound(cpuMicros), o.perRound(cpuMicros))
}

// Invalid lists the rounds that were not averaged, one line each.
func (e *Entry) Invalid() []string {
	var lines []string
	for _, r := range e.Rounds {
		if r.Invalid != "" {
			lines = append(lines, fmt.Sprintf("%s, round %d: %s", e.Proxy, r.N+1, r.Invalid))
		}
	}
	return lines
}

// Errors adds up the rounds' errors, those of invalid rounds included.
func (e *Entry) Errors() int64 {
	var n int64
	for _, r := range e.Rounds {
		n += r.Errors.Total()
	}
	return n
}

// Foreign is the largest share of the machine that others used during a round of the case: a
// measure of how quiet it was.
func (c *Case) Foreign() float64 {
	var most float64
	for _, e := range c.Entries {
		for _, r := range e.Rounds {
			most = max(most, r.Foreign+r.Steal)
		}
	}
	return most
}
