//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"mpgate/bench/abuse"
	"mpgate/bench/load"
	"mpgate/bench/peers"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

type abuseCmd struct {
	options
	Attack []string      `placeholder:"NAME" help:"Only these; --list shows them."`
	Time   time.Duration `default:"5s" help:"How long each attack lasts, and how long is measured without it before."`
	Rate   float64       `default:"200" help:"Requests a second of the bystanders with h1, and again of those with h2; a tenth as many come with a new connection each."`
	List   bool          `help:"Show the attacks, and end."`
}

// Run attacks each proxy in each way, beside clients that do nothing wrong.
func (c *abuseCmd) Run(ctx context.Context) error {
	if c.List {
		for _, a := range abuse.Attacks() {
			fmt.Printf("%-16s %d connections, %d in all: %s\n", a.Name, a.Connections, a.Most, a.About)
		}
		return nil
	}
	attacks, err := abuse.Find(c.Attack)
	switch {
	case err != nil:
		return usageErrorf("--attack: %w", err)
	case c.Time < time.Second || c.Time > time.Minute:
		return usageErrorf("--time (got %v); want 1s to 1m", c.Time)
	case !(c.Rate >= 10 && c.Rate <= 10000):
		return usageErrorf("--rate (got %v); want 10 to 10000 requests a second", c.Rate)
	case c.chosen():
		return usageErrorf("abuse has one case of its own: HTTP/1.1 and HTTP/2 over TLS, 1 KiB")
	case c.Markdown != "":
		return usageErrorf("--markdown: there is no table for abuse")
	case c.PrintConfig:
		return usageErrorf("--print-config is for cpu and load")
	}
	if c.Quick {
		c.Time = min(c.Time, 2*time.Second)
	}
	b, err := stage(ctx, c.options)
	if err != nil {
		return err
	}
	defer b.close()
	rep := b.begin(ctx, "abuse")
	rep.Method = c.method()
	for _, a := range attacks {
		one := result.Abuse{Attack: a.Name, About: a.About, Flood: a.Flood, Connections: a.Connections, Most: a.Most, Length: c.Time}
		b.say("%s: %s", a.Name, a.About)
		for _, p := range b.peers {
			e := c.attack(ctx, b, p, a)
			if ctx.Err() != nil {
				if len(one.Entries) > 0 {
					rep.Abuse = append(rep.Abuse, one)
				}
				return b.partly(rep, context.Cause(ctx))
			}
			one.Entries = append(one.Entries, e)
			b.say("  %s", abuseLine(&e, a.Flood))
		}
		rep.Abuse = append(rep.Abuse, one)
	}
	return b.finish(rep)
}

func (c *abuseCmd) method() []string {
	return []string{
		"Each proxy listens with TLS, for HTTP/1.1 and HTTP/2, and is started anew for each attack. Bystanders make requests of 1 KiB at a fixed rate: with HTTP/1.1 and HTTP/2 on kept connections, and some with a connection of their own for each. They are measured without the attack, then with it; \"a > b\" is without > with. Latency is counted from when a request was due.",
		"Bystanders, attacker, proxy and backend are processes of their own. The attacker has the lowest priority that there is (SCHED_IDLE): a real one has a CPU of its own, and what others suffer here is to be the proxy's doing. It is bounded in time and in connections; one that is ended is made again until the bound.",
		"CPU is what the proxy used with the attack beyond what it used without it; \"attacker\" what the attacker's process used, TLS and connecting included. Memory is the PSS of the proxy: the most during the attack, and what is left half a second after it.",
		fmt.Sprintf("Bars: every request of the bystanders is answered, their p99 on kept connections is at most %g times what it was, and in a flood the proxy uses at most %g times the attacker's CPU. None is repeated.", result.MostSlower, result.MostCPU),
	}
}

func abuseLine(e *result.AbuseEntry, flood bool) string {
	if e.Failed != "" {
		return fmt.Sprintf("%-8s not measured: %s", e.Proxy, e.Failed)
	}
	text := fmt.Sprintf("%-8s p99 %4.1f x, CPU %5d ms, attacker %5d ms, %s", e.Proxy, e.Slower(), e.CPU().Milliseconds(), e.CPUAttacker.Milliseconds(), e.How())
	if misses := e.Misses(flood); len(misses) > 0 {
		text += "  MISSED: " + strings.Join(misses, ", ")
	}
	return text
}

// attack measures one proxy without an attack, and then with it.
func (c *abuseCmd) attack(ctx context.Context, b *bench, p *peers.Peer, a abuse.Attack) result.AbuseEntry {
	e := result.AbuseEntry{Proxy: p.Name}
	if err := c.attackInto(ctx, b, p, a, &e); err != nil {
		e.Failed = err.Error()
	}
	return e
}

func (c *abuseCmd) attackInto(ctx context.Context, b *bench, p *peers.Peer, a abuse.Attack, e *result.AbuseEntry) error {
	k := &result.Case{Protocol: "h2 tls", Body: 1 << 10, Transport: result.TCP}
	r, err := b.start(ctx, p, k, a.Connections+256)
	if err != nil {
		return err
	}
	defer r.stop()
	e.Command, e.Env, e.Files = r.plan.Args, r.plan.Env, make(map[string]string)
	for _, f := range r.plan.Files {
		e.Files[f.Name] = f.Text
	}
	// Work that a proxy does only once happens here.
	if _, err := c.bystand(ctx, b, r, time.Second); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	usage := func() (u procs.Usage) {
		if err == nil {
			err = settle(ctx, r.PID)
		}
		if err == nil {
			u, err = procs.ReadUsage(r.PID)
		}
		return u
	}
	before := usage()
	if err != nil {
		return err
	}
	if e.Calm, err = c.bystand(ctx, b, r, c.Time); err != nil {
		return err
	}
	if n := e.Calm.Lost(); n > 0 {
		return fmt.Errorf("%d requests were lost without any attack", n)
	}
	between := usage()
	if err != nil {
		return err
	}
	memory, err := procs.ReadMemory(r.PID)
	if err != nil {
		return err
	}
	e.Before, e.Peak = memory.PSS, memory.PSS
	if err := c.under(ctx, b, r, a, e); err != nil {
		return err
	}
	after := usage()
	if err != nil {
		return fmt.Errorf("after the attack: %w", err)
	}
	calm, err1 := between.Sub(before)
	under, err2 := after.Sub(between)
	e.CPUCalm, e.CPUUnder = calm.CPU, under.CPU
	if err := errors.Join(err1, err2, wait(ctx, 500*time.Millisecond)); err != nil {
		return err
	}
	memory, err = procs.ReadMemory(r.PID)
	e.After = memory.PSS
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// under lets the attack go while bystanders make their requests.
func (c *abuseCmd) under(ctx context.Context, b *bench, r *proxy, a abuse.Attack, e *result.AbuseEntry) error {
	done := make(chan error, 1)
	watched, stop := context.WithCancel(ctx)
	defer stop()
	peak := make(chan int64, 1)
	go func() { peak <- peakMemory(watched, r.PID) }()
	machine, err := procs.ReadMachine()
	if err != nil {
		return err
	}
	begin := time.Now()
	origin, err := procs.ReadUsage(b.origin.PID)
	if err != nil {
		return err
	}
	before, err := procs.ReadUsage(r.PID)
	if err != nil {
		return err
	}
	var spent time.Duration // by bystanders and attacker
	e.Under, err = c.bystandSpending(ctx, b, r, c.Time, func() {
		go func() {
			out, cpu, err := b.assail(ctx, abuse.Job{Attack: a.Name, Address: r.setup.Listen, Duration: c.Time - 200*time.Millisecond})
			e.CPUAttacker, e.Opened, e.Refused, e.Sent, e.Bytes = out.CPU, out.Opened, out.Refused, out.Sent, out.Bytes
			e.Resets, e.Answers, e.Ends = out.Resets, out.Answers, out.Ends
			spent = cpu
			done <- err
		}()
	}, &spent, done)
	stop()
	e.Peak = max(e.Peak, <-peak)
	if err != nil {
		return err
	}
	after, err1 := procs.ReadUsage(r.PID)
	originAfter, err2 := procs.ReadUsage(b.origin.PID)
	machineAfter, err3 := procs.ReadMachine()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	ours := after.CPU - before.CPU + originAfter.CPU - origin.CPU + spent
	e.Foreign = max(0, float64(machineAfter.Busy-machine.Busy-ours)/float64(time.Since(begin)*time.Duration(runtime.NumCPU())))
	return nil
}

// peakMemory looks every quarter of a second until ctx ends.
func peakMemory(ctx context.Context, pid int) (most int64) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		if m, err := procs.ReadMemory(pid); err == nil {
			most = max(most, m.PSS)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return most
		}
	}
}

// bystand runs the bystanders for a while.
func (c *abuseCmd) bystand(ctx context.Context, b *bench, r *proxy, d time.Duration) (result.Bystanders, error) {
	var spent time.Duration
	done := make(chan error, 1)
	return c.bystandSpending(ctx, b, r, d, func() { done <- nil }, &spent, done)
}

// bystandSpending is bystand that calls begun once the bystanders are warm, waits for what it
// started, and adds their CPU time to spent.
func (c *abuseCmd) bystandSpending(ctx context.Context, b *bench, r *proxy, d time.Duration, begun func(), spent *time.Duration, done <-chan error) (result.Bystanders, error) {
	var out result.Bystanders
	j := bystandersJob{Kept: load.Job{Address: r.setup.Listen, TLS: true, Body: 1 << 10, Duration: d, Rate: c.Rate, Warm: true}}
	text, err := json.Marshal(j)
	if err != nil {
		return out, err
	}
	p, err := b.group.Start(procs.Spec{Args: []string{b.self, "child", "bystand", string(text)}, Pipe: true, CPUs: b.LoadCPUs})
	if err != nil {
		return out, err
	}
	defer p.Stop(time.Second)
	defer context.AfterFunc(ctx, func() { p.Stop(0) })()
	timer := time.AfterFunc(d+time.Minute, func() { p.Stop(0) })
	defer timer.Stop()
	lines := bufio.NewScanner(p.Stdout)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != "begun" {
		return out, fmt.Errorf("bystanders: %s", strings.TrimSpace(p.Output()))
	}
	begun()
	var said struct {
		result.Bystanders
		CPU time.Duration
	}
	if !lines.Scan() {
		err = fmt.Errorf("bystanders: %s", strings.TrimSpace(p.Output()))
	} else {
		err = json.Unmarshal(lines.Bytes(), &said)
	}
	err = errors.Join(err, <-done)
	*spent += said.CPU
	return said.Bystanders, err
}

// assail runs the attacker in a process of its own. cpu is all that the process used.
func (b *bench) assail(ctx context.Context, j abuse.Job) (out abuse.Outcome, cpu time.Duration, err error) {
	text, err := json.Marshal(j)
	if err != nil {
		return out, 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, j.Duration+30*time.Second, errors.New("the attacker did not end 30 s after its time"))
	defer cancel()
	ran, err := b.group.Run(ctx, procs.Spec{Args: []string{b.self, "child", "attack", string(text)}, CPUs: b.LoadCPUs})
	if err != nil {
		return out, ran.CPU, err
	}
	return out, ran.CPU, json.Unmarshal([]byte(ran.Output), &out)
}
