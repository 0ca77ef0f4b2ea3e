package report

import (
	"fmt"
	"slices"

	"mpgate/bench/figures"
	"mpgate/bench/result"
)

// baselineOf is the entry that others are compared with.
func baselineOf(rep *result.Report, c *result.Case) string {
	if c.Baseline != "" {
		return c.Baseline
	}
	return rep.Baseline
}

// coded says that answers of the case have a content coding.
func coded(c *result.Case) bool {
	return slices.ContainsFunc(c.Entries, func(e result.Entry) bool { return e.Sent > 0 })
}

// codedColumns are those of a case that is coded.
var codedColumns = []string{"CPU ms/MiB", "body sent", "of it"}

func codedCells(c *result.Case, e *result.Entry) []string {
	cells := []string{shown(e.CPUPerMiB(c.Body), tenths), "-", "-"}
	if e.Sent > 0 {
		cells[1], cells[2] = figures.Size(e.Sent), percent(float64(e.Sent)/float64(c.Body))
	}
	return cells
}

func tenths(v float64) string { return fmt.Sprintf("%.1f", v) }

// comparisonTable has a row for each variant of each case.
func comparisonTable(rep *result.Report) (Table, string) {
	t := Table{Columns: []string{"", "CPU time", "ratio", "smallest", "largest", "size"}}
	rounds := 0
	for i := range rep.Cases {
		c := &rep.Cases[i]
		base := c.Entry(c.Baseline)
		for j := range c.Entries {
			e := &c.Entries[j]
			if e.CPU().N == 0 || base == nil {
				continue
			}
			rounds = max(rounds, len(e.Rounds))
			row := []string{c.Title + ": " + e.Proxy, cost(c, e), "1", "", "", ""}
			if ratio := e.CPURatio(base); e != base && ratio.N > 0 {
				copy(row[2:], []string{fmt.Sprintf("%.2f", ratio.Median), fmt.Sprintf("%.2f", ratio.Min), fmt.Sprintf("%.2f", ratio.Max)})
			}
			if e.Sent > 0 {
				row[1] = shown(e.CPUPerMiB(c.Body), tenths) + " ms/MiB"
				row[5] = percent(float64(e.Sent) / float64(c.Body))
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t, fmt.Sprintf("CPU time of the proxy's processes a request, or a MiB before compression, and its ratio to that of the row with 1: medians of %d interleaved rounds", rounds)
}
