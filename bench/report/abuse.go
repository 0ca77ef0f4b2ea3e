package report

import (
	"fmt"
	"strings"
	"time"

	"mpgate/bench/figures"
	"mpgate/bench/result"
)

// abuseSections are a table for each proxy: an attack is a row.
func abuseSections(rep *result.Report) (list []section) {
	for _, p := range rep.Proxies {
		s := section{Title: p.Name + " under attack", Table: Table{Columns: []string{
			"attack", "h1 p50 ms", "h1 p99 ms", "h2 p50 ms", "h2 p99 ms", "new p99 ms", "p99 x", "answered", "lost",
			"CPU ms", "attacker ms", "CPU x", "memory +", "kept", "connections", "sent", "bars", "ended by",
		}}}
		var slower []bar
		for j := range rep.Abuse {
			a := &rep.Abuse[j]
			e := a.Entry(p.Name)
			if e == nil {
				continue
			}
			if e.Failed != "" {
				s.Table.Rows = append(s.Table.Rows, []string{a.Attack, "-"})
				s.Table.Notes = append(s.Table.Notes, a.Attack+": not measured: "+e.Failed)
				continue
			}
			s.Table.Rows = append(s.Table.Rows, abuseRow(a, e))
			if e.Foreign > 0.1 {
				s.Table.Notes = append(s.Table.Notes, a.Attack+": "+quiet(e.Foreign))
			}
			slower = append(slower, bar{a.Attack, figures.Of([]float64{e.Slower()}), fmt.Sprintf("%.1f x", e.Slower()), e.Slower() > result.MostSlower})
		}
		if len(s.Table.Rows) == 0 {
			continue
		}
		s.Charts = []string{bars("how many times the p99 of clients that do nothing wrong is what it was: "+p.Name, slower)}
		list = append(list, s)
	}
	if len(list) > 0 {
		t := &list[len(list)-1].Table
		for _, a := range rep.Abuse {
			t.Notes = append(t.Notes, a.Attack+": "+a.About)
		}
	}
	return list
}

func abuseRow(a *result.Abuse, e *result.AbuseEntry) []string {
	both := func(f func(result.Latency) int64, kind func(result.Bystanders) result.Bystander) string {
		return ms(float64(f(kind(e.Calm).Latency))) + " > " + ms(float64(f(kind(e.Under).Latency)))
	}
	p50 := func(l result.Latency) int64 { return l.P50 }
	p99 := func(l result.Latency) int64 { return l.P99 }
	h1 := func(b result.Bystanders) result.Bystander { return b.H1 }
	h2 := func(b result.Bystanders) result.Bystander { return b.H2 }
	fresh := func(b result.Bystanders) result.Bystander { return b.New }
	ratio := "-" // who only holds connections uses no CPU
	if a.Flood {
		ratio = fmt.Sprintf("%.2f", e.CPURatio())
	}
	verdict := "hold"
	if misses := e.Misses(a.Flood); len(misses) > 0 {
		verdict = "MISSED: " + strings.Join(misses, ", ")
	}
	u := e.Under
	return []string{
		a.Attack, both(p50, h1), both(p99, h1), both(p50, h2), both(p99, h2), both(p99, fresh), fmt.Sprintf("%.1f", e.Slower()),
		fmt.Sprint(u.H1.Requests + u.H2.Requests + u.New.Requests), fmt.Sprint(u.Lost()),
		whole(float64(e.CPU() / time.Millisecond)), whole(float64(e.CPUAttacker / time.Millisecond)), ratio,
		figures.Memory(float64(e.Peak - e.Before)), figures.Memory(float64(e.After - e.Before)), fmt.Sprint(e.Opened), fmt.Sprint(e.Sent), verdict, e.How(),
	}
}
