//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mpgate/bench/paths"
	"mpgate/bench/peers"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

type pathsCmd struct {
	Mpgate     string        `placeholder:"PATH" help:"An mpgate program; without it ./cmd/mpgate is built."`
	Scenario   []string      `placeholder:"NAME" help:"Only these; --list shows them."`
	Path       []string      `sep:"none" placeholder:"SPEC" help:"A scenario of your own: once for each path of a side, such as rate=100,delay=10ms,loss=1%,queue=64KiB (Mbit/s; one way; queue and loss may be left out)."`
	Side       []string      `placeholder:"SIDE" help:"Where there are several paths: front, back, both. Default: each that a scenario has."`
	Workload   []string      `placeholder:"NAME" help:"download, upload, parallel, small. Default: each that a scenario has."`
	Congestion []string      `placeholder:"NAME" help:"Congestion controls of client, gateway and backend. Default: bbr and cubic, where the kernel has them."`
	Rounds     int           `default:"3" help:"Each way to use the paths is measured once in each; 0, with --keep: do not measure."`
	Time       time.Duration `default:"5s" help:"Length of a run; those in which a path dies take half as long again."`
	Rate       float64       `default:"300" help:"Requests a second of the workload small."`
	Keep       bool          `help:"Leave the last lab up, with a shell in each place, until Ctrl-C."`
	List       bool          `help:"Show the scenarios, and end."`
	Quick      bool          `help:"Two equal paths, and one that dies in silence, one round: a minute and a half."`
	JSON       string        `name:"json" placeholder:"FILE" help:"Write every run, with machine, versions and configurations."`
	HTML       string        `name:"html" placeholder:"FILE" help:"Write one self-contained page."`
	SVG        string        `name:"svg" placeholder:"FILE" help:"Write the one plot that says most."`
	Markdown   string        `placeholder:"FILE" help:"Write the table that says most, as Markdown."`
}

// Run builds a lab for each scenario, side and congestion control, and measures in it.
func (c *pathsCmd) Run(ctx context.Context) error {
	if c.List {
		c.list()
		return nil
	}
	choice, err := c.choice()
	if err != nil {
		return err
	}
	b, err := c.stage(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	o := &paths.Options{
		Mpgate: b.Mpgate, Scratch: b.scratch, Group: b.group, Rounds: c.Rounds, Time: c.Time, Rate: c.Rate, Say: b.say,
	}
	runs, seconds := choice.Runs(o)
	b.say("%d runs, about %v", runs, time.Duration(seconds*1.15*float64(time.Second)).Round(time.Second))
	rep := b.begin(ctx, "paths")
	rep.Method, rep.Baseline = c.method(), ""
	mpgate, err := peers.Mpgate(ctx, b.Mpgate)
	if err != nil {
		return err
	}
	rep.Proxies = []result.Proxy{{Name: "mpgate", Version: mpgate.Version, Program: b.Mpgate}}
	var hold func([]result.PathCase, *paths.Kept) error
	if c.Keep {
		hold = func(cases []result.PathCase, k *paths.Kept) error { return c.keep(ctx, b, rep, cases, k) }
	}
	rep.Paths, err = paths.Run(ctx, o, choice, hold)
	switch {
	case c.Keep && err == nil: // shown already
		return nil
	case err != nil:
		return b.partly(rep, err)
	}
	return b.finish(rep)
}

// keep shows what was measured, then how to look around, and waits for Ctrl-C.
func (c *pathsCmd) keep(ctx context.Context, b *bench, rep *result.Report, cases []result.PathCase, k *paths.Kept) error {
	if rep.Paths = cases; c.Rounds > 0 {
		if err := b.finish(rep); err != nil {
			return err
		}
	}
	text, err := k.Text()
	if err != nil {
		return err
	}
	fmt.Print("\n", text)
	<-ctx.Done()
	return nil
}

func (c *pathsCmd) list() {
	for _, s := range paths.Scenarios() {
		fmt.Printf("%-14s %s\n", s.Name, s.About)
		for i, p := range s.Paths {
			fmt.Printf("%-14s   path %d: %s\n", "", i+1, paths.Describe(p))
		}
	}
}

// choice checks the flags.
func (c *pathsCmd) choice() (*paths.Choice, error) {
	switch {
	case c.Rounds < 0 || c.Rounds == 0 && !c.Keep:
		return nil, usageErrorf("--rounds (got %d); want 1 or more, or 0 with --keep", c.Rounds)
	case c.Time < 2*time.Second || c.Time > time.Minute:
		return nil, usageErrorf("--time (got %v); want 2s to 1m", c.Time)
	case !(c.Rate >= 1 && c.Rate <= 10000):
		return nil, usageErrorf("--rate (got %v); want 1 to 10000 requests a second", c.Rate)
	case c.Quick && (len(c.Path)+len(c.Scenario)+len(c.Side)+len(c.Workload)+len(c.Congestion) > 0):
		return nil, usageErrorf("--quick chooses by itself: leave out --path, --scenario, --side, --workload and --congestion")
	case c.Keep && c.Rounds == 0 && len(c.Scenario)+len(c.Path) == 0:
		c.Scenario = []string{"equal"}
	}
	if c.Quick {
		c.Rounds, c.Time = 1, 3*time.Second
	}
	choice := &paths.Choice{Scenarios: paths.Quick()}
	var err error
	if !c.Quick {
		if choice.Scenarios, err = c.scenarios(); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Side {
		choice.Sides = append(choice.Sides, paths.Side(s))
	}
	for _, w := range c.Workload {
		choice.Workloads = append(choice.Workloads, paths.Workload(w))
	}
	if choice.Congestion, err = c.congestion(); err != nil {
		return nil, err
	}
	if err := choice.Check(); err != nil {
		return nil, usageError{err}
	}
	return choice, nil
}

// scenarios that are named, or the one that --path describes.
func (c *pathsCmd) scenarios() ([]paths.Scenario, error) {
	if len(c.Path) > 0 && len(c.Scenario) > 0 {
		return nil, usageErrorf("--path describes a scenario: leave out --scenario")
	}
	if len(c.Path) > 0 {
		s, err := paths.Own(c.Path)
		if err != nil {
			return nil, usageErrorf("--path %w", err)
		}
		return []paths.Scenario{s}, nil
	}
	list, err := paths.Find(c.Scenario)
	if err != nil {
		return nil, usageErrorf("--scenario: %w", err)
	}
	return list, nil
}

// congestion controls that the kernel has, of those that are wanted.
func (c *pathsCmd) congestion() ([]string, error) {
	available := strings.Fields(text("/proc/sys/net/ipv4/tcp_available_congestion_control"))
	if len(c.Congestion) > 0 {
		for _, name := range c.Congestion {
			if !slices.Contains(available, name) {
				return nil, usageErrorf("--congestion (got %q); this kernel has %s now (modprobe tcp_NAME adds one)", name, strings.Join(available, ", "))
			}
		}
		return c.Congestion, nil
	}
	var list []string
	for _, name := range []string{"bbr", "cubic"} {
		if slices.Contains(available, name) {
			list = append(list, name)
		} else {
			progress("congestion control %s: not in this kernel, left out", name)
		}
	}
	if c.Quick {
		list = list[:min(1, len(list))]
	}
	if len(list) == 0 {
		list = []string{""}
	}
	return list, nil
}

// stage makes ready what this verb needs of a run: the program, a directory, the guard.
func (c *pathsCmd) stage(ctx context.Context) (*bench, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("paths: a lab of network namespaces needs root")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &bench{options: options{Mpgate: c.Mpgate, JSON: c.JSON, HTML: c.HTML, SVG: c.SVG, Markdown: c.Markdown}, self: self, say: progress}
	if b.scratch, err = os.MkdirTemp("", "mpgate-bench-"); err != nil {
		return nil, err
	}
	if b.group, err = procs.NewGroup([]string{self, "child", "guard"}); err != nil {
		os.RemoveAll(b.scratch)
		return nil, err
	}
	b.group.Adopt(b.scratch)
	b.tools = tools{mptcpize: look("", "mptcpize"), ss: look("", "ss")}
	if b.Mpgate == "" {
		b.buildMpgate(ctx)
	} else if b.Mpgate, err = filepath.Abs(b.Mpgate); err != nil { // it is started elsewhere
		b.close()
		return nil, err
	}
	if b.Mpgate == "" {
		b.close()
		return nil, errors.New(b.notBuilt)
	}
	raiseFiles()
	return b, nil
}

// method says in a few sentences how the figures came about.
func (c *pathsCmd) method() []string {
	return []string{
		"Client, gateway and backend are network namespaces. Rate, queue, delay and loss of a path act in its middle, in both directions, so that the sender sees a path and not a limit of its own interface. A side without several paths is one wire without limit, over which plain TCP is spoken.",
		"mpgate is a process of its own in the gateway's namespace, with metrics, deadlines and limits on. Client and backend are one process: both ends of a transfer read the same clock, and what arrives is compared with what was sent.",
		fmt.Sprintf("Rounds are interleaved, each begins with another way; %d rounds of %v; shown are median, smallest and largest. Each run has connections of its own, on both sides of the gateway, and begins when nothing moves on any link; where a path dies, each begins with a new mpgate.", c.Rounds, c.Time),
		"Goodput is what the receiver read of the body, from one second after the begin to the end: the growing of windows is left out for all alike. The sum is made of what plain TCP carries over each path alone, in the same round.",
		"A run in which the connections did not speak what they should, on either side, or in which a fallback was counted that does not belong there, is shown and not averaged; none is repeated.",
		"Where a path dies, it is path 1, on which every connection begins; after a third of the run. \"Link down\" is at the host that dials. The gap is the largest between two reads of the receiver from then on (to the run's end, if nothing came). Failed is a transfer that broke off or had nothing for a second at its end, or a request without an answer after 3 s; missed are requests that were due and not sent, since their connection waited.",
		"\"MPTCP, all paths\" leaves a dead path to the kernel; \"MPTCP, fail-over\" is the same with mpgate's mptcp.manage = \"sync\" and failover = \"active\", in the gateway alone: client and backend stay as they are.",
		"The kernel's blackhole detection (net.mptcp.blackhole_timeout) is off in the lab: a path that dies in one run would keep all later ones from MPTCP.",
	}
}
