//go:build linux

package paths

import (
	"context"
	"fmt"
	"slices"

	"mpgate/bench/result"
)

// Choice is what of the scenarios is to run.
type Choice struct {
	Scenarios  []Scenario
	Sides      []Side     // none: all that a scenario has
	Workloads  []Workload // none: all that a scenario has
	Congestion []string
}

// Check finds names that there are not.
func (c *Choice) Check() error {
	for _, s := range c.Sides {
		if !slices.Contains(sides, s) {
			return fmt.Errorf("side (got %q); want front, back or both", s)
		}
	}
	for _, w := range c.Workloads {
		if !slices.Contains(workloads, w) {
			return fmt.Errorf("workload (got %q); want small, download, upload or parallel", w)
		}
	}
	if n := len(c.plan()); n == 0 {
		return fmt.Errorf("nothing of what was chosen goes together")
	}
	return nil
}

// part is one lab and what is measured in it.
type part struct {
	scenario   *Scenario
	side       Side
	congestion string
	workloads  []Workload
}

func (c *Choice) plan() (list []part) {
	for i := range c.Scenarios {
		sc := &c.Scenarios[i]
		var wl []Workload
		for _, w := range sc.workloads {
			if len(c.Workloads) == 0 || slices.Contains(c.Workloads, w) {
				wl = append(wl, w)
			}
		}
		for _, side := range sc.sides {
			if len(wl) == 0 || len(c.Sides) > 0 && !slices.Contains(c.Sides, side) {
				continue
			}
			for _, cc := range c.Congestion {
				list = append(list, part{sc, side, cc, wl})
			}
		}
	}
	return list
}

// Runs is how many runs a choice has, and their whole length in seconds, without what lies between
// them.
func (c *Choice) Runs(o *Options) (runs int, seconds float64) {
	for _, p := range c.plan() {
		s := site{Options: o, scenario: p.scenario}
		for _, w := range p.workloads {
			n := len(p.scenario.variants(w)) * o.Rounds
			runs += n
			seconds += float64(n) * s.length().Seconds()
		}
	}
	return runs, seconds
}

// Run measures all that was chosen. hold, if not nil, is called in the last lab, before it goes.
func Run(ctx context.Context, o *Options, c *Choice, hold func([]result.PathCase, *Kept) error) ([]result.PathCase, error) {
	var cases []result.PathCase
	plan := c.plan()
	for i, p := range plan {
		err := func() error {
			s, err := open(ctx, o, p.scenario, p.side, p.congestion)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", p.scenario.Name, p.side, err)
			}
			defer s.close()
			for _, w := range p.workloads {
				if o.Rounds == 0 {
					break
				}
				pc, err := s.runCase(ctx, w)
				if err != nil {
					return err
				}
				cases = append(cases, pc)
			}
			if hold != nil && i == len(plan)-1 {
				return hold(cases, s.kept())
			}
			return nil
		}()
		if err != nil {
			return cases, err
		}
	}
	return cases, nil
}

// runCase measures every variant of a workload once in each round, each round beginning with
// another.
func (s *site) runCase(ctx context.Context, w Workload) (result.PathCase, error) {
	cc := s.lab.Congestion()
	pc := result.PathCase{
		Scenario: s.scenario.Name, About: s.scenario.About, Side: string(s.side), Workload: string(w), Congestion: cc.Name, CongestionBy: cc.Means,
		Event: string(s.scenario.Event), Returns: s.scenario.Returns, Length: s.length(), Configs: s.Configs, Realtime: s.lab.Realtime(),
	}
	if w == Small {
		pc.Rate = s.Rate
	}
	for _, l := range s.lab.Links() {
		text := "a wire without limit"
		if l.Rate > 0 {
			text = Describe(l.Path) + ", by the " + map[bool]string{true: "kernel", false: "emulator"}[l.Engine.String() == "kernel"]
		}
		if l.Box != 0 {
			text += ", middlebox: " + l.Box.String()
		}
		pc.Paths = append(pc.Paths, result.PathSpec{Name: l.Name, About: text})
	}
	variants := s.scenario.variants(w)
	for _, v := range variants {
		pc.Entries = append(pc.Entries, result.PathEntry{Variant: v.name, Alone: !v.mptcp, All: v.all})
	}
	s.Say("%s", pc.Name())
	for n := range s.Rounds {
		for position := range variants {
			i := (n + position) % len(variants)
			round, err := s.measure(ctx, variants[i], w)
			if ctx.Err() != nil {
				return pc, context.Cause(ctx)
			}
			if err != nil {
				round.Invalid = err.Error()
			}
			round.N = n
			pc.Entries[i].Rounds = append(pc.Entries[i].Rounds, round)
			s.Say("  round %d  %-18s %s", n+1, variants[i].name, round.Line())
		}
	}
	return pc, nil
}
