package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"mpgate/bench/figures"
	"mpgate/bench/result"
)

// pathSection shows one workload over the paths of a scenario.
func pathSection(c *result.PathCase) section {
	s := section{Title: c.Name(), Table: pathTable(c)}
	switch {
	case c.Workload == "small":
		s.Charts = []string{curves("latency by percentile: "+c.Name(), pathLatencies(c))}
	case c.Event != "":
		s.Charts = []string{timeline(c)}
	default:
		s.Charts = []string{pathBars(c), timeline(c)}
	}
	return s
}

// column is one of a table of paths: its heading, and a cell for each entry.
type column struct {
	head string
	cell func(*result.PathEntry) string
}

// shown writes a spread's median, or a dash where there is none.
func shown(f figures.Spread, write func(float64) string) string {
	if f.N == 0 {
		return "-"
	}
	return write(f.Median)
}

func mbit(v float64) string    { return fmt.Sprintf("%.1f", v/1e6) }
func whole(v float64) string   { return fmt.Sprintf("%.0f", v) }
func percent(v float64) string { return fmt.Sprintf("%.1f %%", v*100) }

// extent writes smallest and largest.
func extent(f figures.Spread, write func(float64) string) string {
	if f.N == 0 {
		return "-"
	}
	return write(f.Min) + "-" + write(f.Max)
}

func pathColumns(c *result.PathCase) []column {
	columns := []column{{"way", func(e *result.PathEntry) string { return e.Variant }}}
	add := func(head string, cell func(*result.PathEntry) string) { columns = append(columns, column{head, cell}) }
	latency := func(f func(result.Latency) int64) func(*result.PathEntry) string {
		return func(e *result.PathEntry) string { return shown(e.LatencyOf(f), ms) }
	}
	large := c.Workload == "download" || c.Workload == "upload"
	if c.Workload != "small" {
		add("Mbit/s", func(e *result.PathEntry) string { return shown(e.Goodput(), mbit) })
		add("min-max", func(e *result.PathEntry) string { return extent(e.Goodput(), mbit) })
	}
	if c.Workload != "small" && c.Event == "" {
		add("of the sum", func(e *result.PathEntry) string { return shown(c.Share(e), percent) })
	}
	if large && c.Event != "" {
		add("gap ms", func(e *result.PathEntry) string { return shown(e.Gap(), whole) })
		add("min-max", func(e *result.PathEntry) string { return extent(e.Gap(), whole) })
		add("slow ms", func(e *result.PathEntry) string { return shown(e.Low(), whole) })
	}
	if c.Workload == "download" || c.Workload == "small" && c.Event == "" {
		add("first byte ms", func(e *result.PathEntry) string { return shown(e.TTFB(), ms) })
	}
	if !large {
		add("p50 ms", latency(func(l result.Latency) int64 { return l.P50 }))
		add("p99 ms", latency(func(l result.Latency) int64 { return l.P99 }))
		add("p99.9 ms", latency(func(l result.Latency) int64 { return l.P999 }))
		add("max ms", latency(func(l result.Latency) int64 { return l.Max }))
	}
	add("failed", func(e *result.PathEntry) string { n, _ := e.Failed(); return fmt.Sprint(n) })
	if c.Workload == "small" {
		add("missed", func(e *result.PathEntry) string { _, n := e.Failed(); return fmt.Sprint(n) })
	}
	for _, side := range []struct{ name, prefix string }{{"front", "front"}, {"back", "back"}} {
		if c.Side == "both" || c.Side == side.name {
			add("bytes "+side.name, func(e *result.PathEntry) string { return split(e, side.prefix, c.Workload == "upload") })
		}
	}
	if large {
		add("CPU ms/100 MB", func(e *result.PathEntry) string { return shown(e.CPU(), whole) })
	} else {
		add("CPU us/request", func(e *result.PathEntry) string { return shown(e.CPU(), whole) })
	}
	add("fallbacks", func(e *result.PathEntry) string { return fmt.Sprint(fallbacks(e)) })
	add("runs", func(e *result.PathEntry) string { return fmt.Sprintf("%d/%d", e.Valid(), len(e.Rounds)) })
	return columns
}

func fallbacks(e *result.PathEntry) (n int64) {
	for _, r := range e.Rounds {
		n += r.Fallbacks
	}
	return n
}

// split writes how the bytes were shared among the paths of a side: 52/48.
func split(e *result.PathEntry, prefix string, upload bool) string {
	var parts []string
	for _, share := range e.Split(prefix, upload) {
		parts = append(parts, fmt.Sprintf("%.0f", share*100))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, "/")
}

func pathTable(c *result.PathCase) Table {
	var t Table
	columns := pathColumns(c)
	for _, col := range columns {
		t.Columns = append(t.Columns, col.head)
	}
	for i := range c.Entries {
		var row []string
		for _, col := range columns {
			row = append(row, col.cell(&c.Entries[i]))
		}
		t.Rows = append(t.Rows, row)
	}
	t.Notes = append(t.Notes, pathsLine(c))
	for _, e := range c.Entries {
		for _, r := range e.Rounds {
			switch {
			case r.Invalid != "":
				t.Notes = append(t.Notes, fmt.Sprintf("%s, round %d, not counted: %s", e.Variant, r.N+1, r.Invalid))
			case r.Why != "" && c.Event == "":
				t.Notes = append(t.Notes, fmt.Sprintf("%s, round %d, failed: %s", e.Variant, r.N+1, r.Why))
			}
		}
	}
	t.Details = counterNotes(c)
	if !c.Realtime {
		t.Notes = append(t.Notes, "the link emulator could not be given priority: delays grew with the machine's load")
	}
	if f := c.Foreign(); f > 0.1 {
		t.Notes = append(t.Notes, quiet(f))
	}
	return t
}

// pathsLine says what the paths are like, those that are alike once.
func pathsLine(c *result.PathCase) string {
	var parts []string
	for i := 0; i < len(c.Paths); {
		k := i + 1
		for k < len(c.Paths) && c.Paths[k].About == c.Paths[i].About {
			k++
		}
		name := c.Paths[i].Name
		if k-i > 1 {
			name += " to " + c.Paths[k-1].Name
		}
		parts = append(parts, name+": "+c.Paths[i].About)
		i = k
	}
	return strings.Join(parts, "; ") + fmt.Sprintf("; congestion control %s (set by %s)", c.Congestion, c.CongestionBy)
}

// counterNotes adds up MPTCP's counters of each way's runs, by place.
func counterNotes(c *result.PathCase) (notes []string) {
	for _, e := range c.Entries {
		var places []string
		for _, place := range []string{"client", "gateway", "backend"} {
			sum := make(map[string]int64)
			for _, r := range e.Rounds {
				for k, v := range r.Counters[place] {
					sum[k] += v
				}
			}
			if len(sum) == 0 {
				continue
			}
			text := place
			for _, k := range slices.Sorted(maps.Keys(sum)) {
				text += fmt.Sprintf(" %s %d", k, sum[k])
			}
			places = append(places, text)
		}
		if len(places) > 0 {
			notes = append(notes, e.Variant+", MPTcpExt: "+strings.Join(places, "; "))
		}
	}
	return notes
}

func pathBars(c *result.PathCase) string {
	var list []bar
	for i := range c.Entries {
		e := &c.Entries[i]
		g := e.Goodput()
		value := mbit(g.Median) + " Mbit/s"
		if share := c.Share(e); share.N > 0 && e.All {
			value += ", " + percent(share.Median)
		}
		list = append(list, bar{e.Variant, g, value, e.All})
	}
	return bars("goodput: "+c.Name(), list)
}

func pathLatencies(c *result.PathCase) []line {
	var all []line
	for i := range c.Entries {
		e := &c.Entries[i]
		rounds := make([]*result.Round, 0, len(e.Rounds))
		for j := range e.Rounds {
			if r := &e.Rounds[j]; r.Invalid == "" {
				rounds = append(rounds, &result.Round{Latency: r.Latency})
			}
		}
		if best := middle(rounds, e.LatencyOf(func(l result.Latency) int64 { return l.P99 }).Median); best != nil {
			all = append(all, line{e.Variant, best.Latency.Curve})
		}
	}
	return all
}

// timeline draws goodput over time, of the middle run of each way, and the moments at which a path
// died and returned.
func timeline(c *result.PathCase) string {
	const (
		width, height            = 760.0, 320.0
		left, right, top, bottom = 62.0, 150.0, 26.0, 40.0
	)
	var all []line
	var most, end float64
	var cut, back float64
	for i := range c.Entries {
		r := c.Entries[i].Middle()
		if r == nil || len(r.Series) == 0 {
			continue
		}
		one := line{name: c.Entries[i].Variant}
		for k, v := range r.Series {
			t := float64(k+1) * r.Step.Seconds()
			one.points = append(one.points, [2]float64{t, v / 1e6})
			most, end = max(most, v/1e6), max(end, t)
		}
		cut, back = max(cut, r.Cut.Seconds()), max(back, r.Return.Seconds())
		all = append(all, one)
	}
	if most <= 0 {
		return ""
	}
	s := &svg{width: width, height: height}
	step := niceStep(most / 4)
	most = math.Ceil(most/step) * step
	x := func(t float64) float64 { return left + (width-left-right)*t/end }
	y := func(v float64) float64 { return height - bottom - (height-top-bottom)*v/most }
	for v := 0.0; v <= most+step/2; v += step {
		s.stroke(left, y(v), width-right, y(v), "grid")
		s.text(left-8, y(v)+4, "tick", "end", fmt.Sprintf("%g", v))
	}
	for t, every := 0.0, niceStep(end/8); t <= end+every/1e3; t += every {
		s.text(x(t), height-bottom+18, "tick", "middle", fmt.Sprintf("%g", t))
	}
	s.text((left+width-right)/2, height-4, "muted", "middle", "seconds")
	s.text(left-8, top-12, "muted", "end", "Mbit/s")
	for _, m := range []struct {
		at   float64
		text string
	}{{cut, "path 1: " + c.Event}, {back, "it returns"}} {
		if m.at > 0 {
			s.stroke(x(m.at), top-8, x(m.at), height-bottom, "event")
			s.text(x(m.at)+5, top-12, "muted", "start", m.text)
		}
	}
	s.lines(all, x, y, width-right)
	return s.done("goodput over time: " + c.Name())
}

// niceStep is the next of 1, 2, 5, 10, 20, … from v on.
func niceStep(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= v {
			return m * unit
		}
	}
	return 10 * unit
}

// pathConfigs is mpgate's configuration in each lab.
func pathConfigs(rep *result.Report) []pageConfig {
	var list []pageConfig
	seen := make(map[string]bool)
	for _, c := range rep.Paths {
		for _, file := range pairs(c.Configs) {
			if !seen[file.Value] {
				seen[file.Value] = true
				list = append(list, pageConfig{c.About + ", paths: " + c.Side, "mpgate", "mpgate run -c mpgate.toml", []pair{file}})
			}
		}
	}
	return list
}
