// Package report shows a result: as aligned tables for the terminal, and as one self-contained HTML
// page. Both say the same, and both are made from package result alone.
package report

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"mpgate/bench/figures"
	"mpgate/bench/result"
)

// Table is rows under a heading; the first column is text, the rest figures.
type Table struct {
	Columns []string
	Rows    [][]string
	Notes   []string
	Details []string // on the page only, folded
}

// caseTable is the comparison of one case.
func caseTable(rep *result.Report, c *result.Case) Table {
	compared := rep.Baseline + " costs"
	if c.Baseline != "" {
		compared = "of " + c.Baseline
	}
	t := Table{Columns: []string{"proxy", "CPU us/request", "min", "max", compared, "min", "max", "requests/s", "cores", "p50 ms", "p99 ms", "p99.9 ms", "RSS", "rounds", "errors"}}
	if c.Body >= large {
		t.Columns = append(t.Columns, "CPU ms/GiB")
	}
	if coded(c) {
		t.Columns = append(t.Columns, codedColumns...)
	}
	base := c.Entry(baselineOf(rep, c))
	for i := range c.Entries {
		e := &c.Entries[i]
		if e.Failed != "" {
			t.Rows = append(t.Rows, []string{e.Proxy, "-"})
			t.Notes = append(t.Notes, e.Proxy+": not measured: "+e.Failed)
			continue
		}
		cpu := e.CPU()
		row := []string{e.Proxy, "-", "", "", "-", "", "", "-", "-", "-", "-", "-", "-"}
		if cpu.N > 0 {
			copy(row[1:], []string{figures.Micros(cpu.Median), figures.Micros(cpu.Min), figures.Micros(cpu.Max)})
			row[7] = fmt.Sprintf("%.0f", e.Rate().Median)
			row[8] = fmt.Sprintf("%.2f", e.Cores().Median)
			row[9] = ms(e.LatencyOf(func(l result.Latency) int64 { return l.P50 }).Median)
			row[10] = ms(e.LatencyOf(func(l result.Latency) int64 { return l.P99 }).Median)
			row[11] = ms(e.LatencyOf(func(l result.Latency) int64 { return l.P999 }).Median)
			row[12] = figures.Memory(e.RSS().Median)
		}
		if base != nil && base != e {
			r := base.CPURatio(e)
			if c.Baseline != "" {
				r = e.CPURatio(base)
			}
			if r.N > 0 {
				copy(row[4:], []string{fmt.Sprintf("%.2f x", r.Median), fmt.Sprintf("%.2f", r.Min), fmt.Sprintf("%.2f", r.Max)})
			}
		}
		row = append(row, fmt.Sprintf("%d/%d", cpu.N, len(e.Rounds)), fmt.Sprint(e.Errors()))
		if c.Body >= large {
			row = append(row, shown(e.CPUPerGiB(), whole))
		}
		if coded(c) {
			row = append(row, codedCells(c, e)...)
		}
		t.Rows = append(t.Rows, row)
		t.Notes = append(t.Notes, e.Invalid()...)
		for _, n := range e.Notes {
			t.Notes = append(t.Notes, e.Proxy+": "+n)
		}
	}
	if f := c.Foreign(); f > 0.1 {
		t.Notes = append(t.Notes, quiet(f))
	}
	return t
}

func quiet(foreign float64) string {
	return fmt.Sprintf("the machine was not quiet: other programs or the hypervisor used up to %.0f %% of it in a round", foreign*100)
}

func ms(us float64) string { return figures.Millis(time.Duration(us) * time.Microsecond) }

func idleTable(rep *result.Report) Table {
	t := Table{Columns: []string{"proxy", "connections", "idle for", "PSS before", "PSS after", "bytes a connection", "still open"}}
	for _, i := range rep.Idle {
		if i.Failed != "" {
			t.Rows = append(t.Rows, []string{i.Proxy, fmt.Sprint(i.Connections), i.Rest.String(), "-"})
			t.Notes = append(t.Notes, fmt.Sprintf("%s, %d connections: %s", i.Proxy, i.Connections, i.Failed))
			continue
		}
		t.Rows = append(t.Rows, []string{i.Proxy, fmt.Sprint(i.Connections), i.Rest.String(), figures.Memory(float64(i.PSSBefore)), figures.Memory(float64(i.PSSAfter)), fmt.Sprintf("%.0f", i.PerConn), fmt.Sprint(i.Open)})
	}
	t.Notes = append(t.Notes, "memory of the process tree; the kernel's own for each socket comes on top and is the same for all")
	return t
}

func startupTable(rep *result.Report) Table {
	t := Table{Columns: []string{"proxy", "ms to the first answer", "min", "max", "starts"}}
	for _, s := range rep.Startup {
		if s.Failed != "" {
			t.Rows = append(t.Rows, []string{s.Proxy, "-"})
			t.Notes = append(t.Notes, s.Proxy+": "+s.Failed)
			continue
		}
		v := make([]float64, len(s.Times))
		for i, d := range s.Times {
			v[i] = float64(d) / 1e6
		}
		f := figures.Of(v)
		t.Rows = append(t.Rows, []string{s.Proxy, fmt.Sprintf("%.1f", f.Median), fmt.Sprintf("%.1f", f.Min), fmt.Sprintf("%.1f", f.Max), fmt.Sprint(f.N)})
	}
	return t
}

// section is a titled table, with drawings for the page.
type section struct {
	Title  string
	Table  Table
	Charts []string
}

func sections(rep *result.Report) []section {
	var all []section
	for i := range rep.Cases {
		c := &rep.Cases[i]
		all = append(all, section{c.Name(), caseTable(rep, c), []string{caseChart(rep, c), curves("latency by percentile: "+c.Name(), latencySeries(c))}})
	}
	for i := range rep.Growth {
		all = append(all, growthSection(&rep.Growth[i]))
	}
	for i := range rep.Paths {
		all = append(all, pathSection(&rep.Paths[i]))
	}
	all = append(all, abuseSections(rep)...)
	if len(rep.Idle) > 0 {
		all = append(all, section{"memory of idle keep-alive connections (plain h1, TCP)", idleTable(rep), []string{idleChart(rep)}})
	}
	if len(rep.Startup) > 0 {
		all = append(all, section{"start-up: from exec to the first answered request", startupTable(rep), nil})
	}
	return all
}

func machineLine(rep *result.Report) string {
	m := rep.Machine
	where := fmt.Sprintf("%d x %s", m.CPUs, m.CPU)
	if m.Virtual != "" {
		where += " (" + m.Virtual + ")"
	}
	return fmt.Sprintf("%s, %s, Linux %s, %s, %s", where, figures.Memory(float64(m.Memory)), m.Kernel, m.OS, m.Go)
}

// Text writes the report for a terminal.
func Text(w io.Writer, rep *result.Report) {
	fmt.Fprintf(w, "bench %s, %s\n%s\n", rep.Verb, rep.Started.Format("2006-01-02 15:04 MST"), machineLine(rep))
	who := ""
	if len(rep.Paths) > 0 {
		who = "this host's own " // that of the paths stands with them
	}
	fmt.Fprintf(w, "%scongestion control %s, load before the run %s\n", who, rep.Machine.Sysctls["net.ipv4.tcp_congestion_control"], rep.Machine.Load)
	for _, p := range rep.Proxies {
		fmt.Fprintf(w, "  %-10s %s\n", p.Name, p.Version)
	}
	for _, s := range rep.Skipped {
		fmt.Fprintf(w, "  %-10s skipped: %s\n", s.Name, s.Why)
	}
	for _, s := range sections(rep) {
		fmt.Fprintf(w, "\n%s\n", s.Title)
		s.Table.text(w)
	}
	fmt.Fprintln(w)
	for _, m := range rep.Method {
		fmt.Fprintf(w, "- %s\n", m)
	}
	fmt.Fprintf(w, "\n%.0f s in all\n", rep.Seconds)
}

// text aligns the columns: the first to the left, the others to the right.
func (t Table) text(w io.Writer) {
	width := make([]int, len(t.Columns))
	for _, row := range append([][]string{t.Columns}, t.Rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range append([][]string{t.Columns}, t.Rows...) {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString("  " + cell + pad)
			} else {
				line.WriteString("  " + pad + cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
	for _, n := range t.Notes {
		fmt.Fprintln(w, "  * "+n)
	}
}
