//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"mpgate/bench/origin"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

// reading is every clock and counter at one moment.
type reading struct {
	at       time.Time
	proxy    procs.Usage
	origin   procs.Usage
	machine  procs.Machine
	counters procs.Counters
	backend  origin.Stats
}

func (b *bench) read(ctx context.Context, r *proxy) (reading, error) {
	var v reading
	var err [5]error
	v.proxy, err[0] = procs.ReadUsage(r.PID)
	v.at = time.Now()
	v.origin, err[1] = procs.ReadUsage(b.origin.PID)
	v.machine, err[2] = procs.ReadMachine()
	v.counters, err[3] = procs.ReadCounters()
	v.backend, err[4] = b.origin.stats(ctx)
	return v, errors.Join(err[:]...)
}

// settle waits until the proxy has nothing left to do from what came before: closing connections,
// writing its log. What it does in that time is counted with the round that made the work.
func settle(ctx context.Context, pid int) error {
	const (
		step  = 20 * time.Millisecond
		quiet = 200 * time.Microsecond // of CPU time in a step: 1 %
		most  = time.Second
	)
	deadline := time.Now().Add(most)
	last, err := procs.ReadUsage(pid)
	for calm := 0; err == nil && calm < 3 && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(step):
		}
		var now procs.Usage
		if now, err = procs.ReadUsage(pid); err != nil {
			break
		}
		if calm++; now.CPU-last.CPU > quiet {
			calm = 0
		}
		last = now
	}
	return err
}

// measure is one round of one proxy. An error makes it invalid: it is shown with what was measured,
// and not averaged.
func (b *bench) measure(ctx context.Context, r *proxy, c *result.Case) (result.Round, error) {
	if err := settle(ctx, r.PID); err != nil {
		return result.Round{}, err
	}
	before, err := b.read(ctx, r)
	if err != nil {
		return result.Round{}, err
	}
	seen := b.watchMPTCP(ctx, r, c)
	g, err := b.generate(ctx, b.job(r, c), c.Load)
	round := result.Round{
		Command: g.command, Requests: g.Requests, Bytes: g.Bytes, Wall: g.Wall, Errors: g.Errors, Latency: g.Latency,
	}
	established := <-seen
	if err != nil {
		return round, err
	}
	if err := settle(ctx, r.PID); err != nil {
		return round, err
	}
	after, err := b.read(ctx, r)
	if err != nil {
		return round, err
	}
	memory, err := procs.ReadMemory(r.PID)
	if err != nil {
		return round, err
	}
	used, err := after.proxy.Sub(before.proxy)
	if err != nil {
		return round, err
	}
	round.CPU, round.User, round.System, round.Processes = used.CPU, used.User, used.System, len(used.PIDs)
	round.RSS, round.PSS = memory.RSS, memory.PSS
	ours := used.CPU + after.origin.CPU - before.origin.CPU + g.cpu
	all := after.at.Sub(before.at) * time.Duration(runtime.NumCPU())
	round.Foreign = max(0, float64(after.machine.Busy-before.machine.Busy-ours)/float64(all))
	round.Steal = float64(after.machine.Steal-before.machine.Steal) / float64(all)
	r.spoke.add(before.backend, after.backend)
	if c.Transport != result.TCP {
		round.MPTCP = transportOf(before, after, established)
	}
	return round, errors.Join(r.checkAnswers(g), b.checkTransport(c, r, before, after, g))
}

// checkAnswers finds what makes the round's cost the cost of something else.
func (r *proxy) checkAnswers(g generated) error {
	e, want := g.Errors, r.setup.Body
	if r.coded > 0 {
		want = r.coded * 9 / 10 // it varies a little with the pieces that came together
	}
	switch {
	case e.Total() > 0:
		return fmt.Errorf("%d errors (connect %d, read %d, write %d, not 2xx %d, timeout %d, length %d)",
			e.Total(), e.Connect, e.Read, e.Write, e.Status, e.Timeout, e.Length)
	case g.Requests == 0:
		return errors.New("no request was answered")
	case g.Bytes < g.Requests*want:
		return fmt.Errorf("%d answers in %d bytes: shorter than the %d bytes that each should have", g.Requests, g.Bytes, want)
	}
	return nil
}

func (s *backSide) add(before, after origin.Stats) {
	s.tcp += after.TCP - before.TCP
	s.mptcp += after.MPTCP - before.MPTCP
	s.fallback += after.Fallback - before.Fallback
}

func transportOf(before, after reading, established int) *result.MPTCP {
	d := after.counters.Since(before.counters)
	back := after.backend.MPTCP - before.backend.MPTCP
	return &result.MPTCP{
		// MPCapableACKRX counts MPTCP handshakes that the accepting side completed, the backend's
		// among them.
		FrontAccepted: d["MPCapableACKRX"] - back,
		BackAccepted:  back,
		BackTCP:       after.backend.TCP - before.backend.TCP,
		Established:   established,
		Counters:      d,
	}
}

// checkTransport holds what was spoken to what the case says.
func (b *bench) checkTransport(c *result.Case, r *proxy, before, after reading, g generated) error {
	d := after.counters.Since(before.counters)
	if !c.Transport.Front() {
		if b.InNetns && d["MPCapableACKRX"] != 0 {
			return fmt.Errorf("%d connections spoke MPTCP in a case of plain TCP", d["MPCapableACKRX"])
		}
		return nil
	}
	m := transportOf(before, after, 0)
	want := int64(c.Connections)
	if g.Opened > 0 {
		want = g.Opened
	}
	// A proxy under mptcpize asks the plain backend for MPTCP as well, once for each connection
	// that it opens.
	unasked := d["MPCapableFallbackSYNACK"]
	if !c.Transport.Back() {
		unasked = max(0, unasked-m.BackTCP)
	}
	switch {
	case m.FrontAccepted < want:
		return fmt.Errorf("only %d of %d connections to the proxy were MPTCP", m.FrontAccepted, want)
	case g.MPTCP >= 0 && g.MPTCP < g.Opened:
		return fmt.Errorf("%d of %d connections to the proxy fell back to TCP", g.Opened-g.MPTCP, g.Opened)
	case d.Fallbacks()+unasked > 0:
		return fmt.Errorf("MPTCP fell back to TCP %d times (%v)", d.Fallbacks()+unasked, d)
	case c.Transport.Back() && (r.spoke.tcp > 0 || r.spoke.mptcp == 0):
		return fmt.Errorf("the proxy's connections to the backend: %d plain TCP, %d MPTCP; want MPTCP alone", r.spoke.tcp, r.spoke.mptcp)
	case c.Transport.Back() && r.spoke.fallback > 0:
		return fmt.Errorf("%d of the proxy's %d connections to the backend fell back to TCP", r.spoke.fallback, r.spoke.mptcp)
	}
	return nil
}

// watchMPTCP counts, in the middle of the round, the proxy's established MPTCP connections as ss(8)
// shows them: a second witness beside the counters. -1 stands for no witness.
func (b *bench) watchMPTCP(ctx context.Context, r *proxy, c *result.Case) <-chan int {
	seen := make(chan int, 1)
	if !c.Transport.Front() || b.tools.ss == "" {
		seen <- -1
		return seen
	}
	go func() {
		select {
		case <-ctx.Done():
			seen <- -1
			return
		case <-time.After(c.Duration / 2):
		}
		_, port, _ := strings.Cut(r.setup.Listen, ":")
		out, err := exec.CommandContext(ctx, b.tools.ss, "-HMtn", "state", "established", "sport", "=", ":"+port).Output()
		if err != nil {
			seen <- -1
			return
		}
		seen <- strings.Count(string(out), "\n")
	}()
	return seen
}

// workers is how many workers or threads each proxy is given.
func (b *bench) workers() int {
	switch {
	case b.Workers > 0:
		return b.Workers
	case len(b.ProxyCPUs) > 0:
		return len(b.ProxyCPUs)
	default:
		return runtime.NumCPU()
	}
}

func (b *bench) loadCPUCount() int {
	if len(b.LoadCPUs) > 0 {
		return len(b.LoadCPUs)
	}
	return runtime.NumCPU()
}

func cpuList(cpus []int) string {
	s := make([]string, len(cpus))
	for i, c := range cpus {
		s[i] = strconv.Itoa(c)
	}
	return strings.Join(s, ",")
}
