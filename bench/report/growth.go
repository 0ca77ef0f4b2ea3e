package report

import (
	"fmt"

	"mpgate/bench/figures"
	"mpgate/bench/result"
)

// growthSection shows what a request costs, and what memory there is, as one thing grows.
func growthSection(g *result.Growth) section {
	return section{"growth: " + g.Of, growthTable(g), []string{
		growthBars(g, "CPU time a request by number of "+g.Of, func(i int) (figures.Spread, string) {
			cpu := g.Case.Entries[i].CPU()
			return cpu, figures.Micros(cpu.Median) + " µs"
		}),
		growthBars(g, "memory by number of "+g.Of, func(i int) (figures.Spread, string) {
			pss := g.Points[i].PSS
			if pss == 0 {
				return figures.Spread{}, ""
			}
			return figures.Of([]float64{float64(pss)}), figures.Memory(float64(pss))
		}),
	}}
}

func growthBars(g *result.Growth, title string, of func(i int) (figures.Spread, string)) string {
	var list []bar
	for i, p := range g.Points {
		spread, value := of(i)
		list = append(list, bar{fmt.Sprint(p.N), spread, value, true})
	}
	return bars(title, list)
}

func growthTable(g *result.Growth) Table {
	t := Table{Columns: []string{g.Of, "CPU us/request", "min", "max", "of the first", "PSS", "each", "ready ms", "requests/s", "rounds", "errors"}}
	for i, p := range g.Points {
		e := &g.Case.Entries[i]
		row := []string{fmt.Sprint(p.N), "-", "", "", "-", "-", "-", "-", "-"}
		if cpu := e.CPU(); cpu.N > 0 {
			copy(row[1:], []string{figures.Micros(cpu.Median), figures.Micros(cpu.Min), figures.Micros(cpu.Max)})
			row[8] = fmt.Sprintf("%.0f", e.Rate().Median)
		}
		if ratio := g.CPURatio(i); i > 0 && ratio.N > 0 {
			row[4] = fmt.Sprintf("%.2f x", ratio.Median)
		}
		if p.PSS > 0 {
			row[5] = figures.Memory(float64(p.PSS))
		}
		if each := g.Each(i); each != 0 {
			row[6] = figures.Memory(each)
		}
		if p.Ready > 0 {
			row[7] = fmt.Sprintf("%.0f", float64(p.Ready)/1e6)
		}
		t.Rows = append(t.Rows, append(row, fmt.Sprintf("%d/%d", e.CPU().N, len(e.Rounds)), fmt.Sprint(e.Errors())))
		if e.Failed != "" {
			t.Notes = append(t.Notes, fmt.Sprintf("%d: %s", p.N, e.Failed))
		}
		t.Notes = append(t.Notes, e.Invalid()...)
	}
	t.Notes = append(t.Notes, g.About, g.Verdict())
	if f := g.Case.Foreign(); f > 0.1 {
		t.Notes = append(t.Notes, quiet(f))
	}
	return t
}
