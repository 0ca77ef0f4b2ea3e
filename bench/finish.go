//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mpgate/bench/peers"
	"mpgate/bench/report"
	"mpgate/bench/result"
)

// begin makes the report of a run, with all that is known before it.
func (b *bench) begin(ctx context.Context, verb string) *result.Report {
	rep := &result.Report{
		Verb: verb, Started: time.Now().UTC(), Argv: b.argv(), Machine: b.machine(ctx),
		Method: b.method(), Baseline: b.baseline(), Skipped: b.skipped,
	}
	for _, p := range b.peers {
		rep.Proxies = append(rep.Proxies, result.Proxy{Name: p.Name, Version: p.Version, Program: p.Program})
	}
	return rep
}

// argv is the command line that a reader would type: without what the benchmark adds for itself.
func (b *bench) argv() []string {
	args := []string{"bench"}
	for i := 1; i < len(os.Args); i++ {
		if b.InNetns && os.Args[i] == "--in-netns" {
			break
		}
		args = append(args, os.Args[i])
	}
	return args
}

func (b *bench) baseline() string {
	if b.Baseline != "" {
		return b.Baseline
	}
	if len(b.peers) > 0 {
		return b.peers[0].Name
	}
	return ""
}

// method says in a few sentences how the figures came about; it is part of every report.
func (b *bench) method() []string {
	cpus := "proxy, load generator and backend share all CPUs"
	if len(b.ProxyCPUs) > 0 {
		cpus = fmt.Sprintf("proxies run on CPU %s, load generator and backend on CPU %s", cpuList(b.ProxyCPUs), cpuList(b.LoadCPUs))
	}
	return []string{
		"CPU time is that of the proxy's whole process tree (CPU clocks of the processes, user and system, ended threads included), divided by the requests that the load generator saw answered.",
		fmt.Sprintf("Rounds have a fixed time (%v): each proxy gets the same share of whatever else the machine does, and the cost of connecting is shared among thousands of requests. A fixed number of requests would expose a slow proxy to more of that.", b.Round),
		"All proxies of a case run at once, idle but for the one that is measured; rounds are interleaved, each begins with another proxy, and each proxy has the same warm-up. Ratios are taken within a round.",
		fmt.Sprintf("%d rounds; shown are median, smallest and largest. A round with an error, or in which the transport was not what the case says, is shown and not averaged; none is repeated.", b.Rounds),
		fmt.Sprintf("%d workers or threads for each proxy; %s. Connections to the backend are kept and reused by all.", b.workers(), cpus),
		"The kernel's work on incoming packets is charged to whoever runs when they come, on the loopback often the sender: part of a proxy's receiving is in the backend's and the load generator's time, for all proxies alike.",
	}
}

func (b *bench) finish(rep *result.Report) error {
	rep.Seconds = time.Since(rep.Started).Seconds()
	return write(rep, b.options)
}

// partly shows what was measured before err, a fault or Ctrl-C: hours may lie in it.
func (b *bench) partly(rep *result.Report, err error) error {
	measured := func(c result.Case) bool {
		return slices.ContainsFunc(c.Entries, func(e result.Entry) bool { return len(e.Rounds) > 0 })
	}
	rep.Cases = slices.DeleteFunc(rep.Cases, func(c result.Case) bool { return !measured(c) })
	rep.Growth = slices.DeleteFunc(rep.Growth, func(g result.Growth) bool { return !measured(g.Case) })
	if len(rep.Cases)+len(rep.Idle)+len(rep.Startup)+len(rep.Growth)+len(rep.Abuse)+len(rep.Paths) == 0 {
		return err
	}
	rep.Method = append([]string{fmt.Sprintf("NOT COMPLETE (%v): only what had been measured by then is here.", err)}, rep.Method...)
	return errors.Join(err, b.finish(rep))
}

// write shows a report, and writes the files that are wanted of it.
func write(rep *result.Report, o options) error {
	report.Text(os.Stdout, rep)
	if o.JSON != "" {
		text, err := json.MarshalIndent(rep, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.JSON, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer, *result.Report) error
	}{{o.HTML, report.HTML}, {o.SVG, report.Plot}, {o.Markdown, report.Markdown}} {
		if f.name == "" {
			continue
		}
		var text bytes.Buffer
		if err := f.write(&text, rep); err != nil {
			return err
		}
		if err := os.WriteFile(f.name, text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// printConfigs shows what each case would start.
func (b *bench) printConfigs() error {
	cases, err := b.cases()
	if err != nil {
		return err
	}
	for i := range cases {
		if err := b.printCase(&cases[i], b.peers); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) printCase(c *result.Case, list []*peers.Peer) error {
	fmt.Printf("# %s\n\n", c.Name())
	for _, p := range list {
		s, err := b.setupFor(c, b.Connections)
		if err != nil {
			return err
		}
		s.Listen = "127.0.0.1:8080"
		plan, err := p.Plan(s)
		if err != nil {
			fmt.Printf("## %s\ncannot: %v\n\n", p.Name, err)
			continue
		}
		fmt.Printf("## %s %s\n%s\n", p.Name, p.Version, strings.Join(slices.Concat(plan.Env, plan.Args), " "))
		for _, n := range plan.Notes {
			fmt.Printf("(%s)\n", n)
		}
		for _, f := range plan.Files {
			fmt.Printf("\n--- %s\n%s", filepath.Join(s.Dir, f.Name), f.Text)
		}
		fmt.Println()
	}
	return nil
}
