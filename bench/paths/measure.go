//go:build linux

package paths

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/bench/load"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

// reading is every clock and counter at one moment.
type reading struct {
	gateway, ours time.Duration
	machine       procs.Machine
	links         []result.PathLink
	mptcp         map[string]procs.Counters
	at            time.Time
}

func (s *site) read() (r reading, err error) {
	var errs [5]error
	var u procs.Usage
	u, errs[0] = procs.ReadUsage(s.gateway.PID)
	r.gateway = u.CPU
	r.machine, errs[1] = procs.ReadMachine()
	r.links, errs[2] = s.links()
	r.mptcp, errs[3] = s.mptcp()
	r.at = time.Now()
	var own unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &own)
	emulator, err := s.lab.EmulatorCPU()
	errs[4] = err
	r.ours = u.CPU + emulator + time.Duration(own.Utime.Nano()+own.Stime.Nano())
	return r, errors.Join(errs[:]...)
}

// measure is one run of one variant. An error makes it invalid: it is shown and not averaged.
func (s *site) measure(ctx context.Context, v variant, w Workload) (result.PathRound, error) {
	var round result.PathRound
	if err := s.fresh(ctx, v); err != nil {
		return round, err
	}
	before, err := s.read()
	if err != nil {
		return round, err
	}
	c := s.caller(v)
	err = errors.Join(s.work(ctx, c, w, &round), s.quiet(ctx))
	after, e := s.read()
	if e != nil {
		return round, errors.Join(err, e)
	}
	round.CPU = after.gateway - before.gateway
	all := after.at.Sub(before.at) * time.Duration(runtime.NumCPU())
	round.Foreign = max(0, float64(after.machine.Busy-before.machine.Busy-(after.ours-before.ours))/float64(all))
	for i, l := range after.links {
		round.Links = append(round.Links, l.Sub(before.links[i]))
	}
	round.Counters = make(map[string]map[string]int64)
	for place, counters := range after.mptcp {
		d := counters.Since(before.mptcp[place])
		delete(d, "MPCurrEstab") // not a counter: it goes down, too
		round.Counters[place] = d
		round.Fallbacks += d.Fallbacks() + d["MPCapableFallbackSYNACK"]
	}
	round.Front = result.PathSpoken(c.spoke)
	if err != nil {
		return round, err
	}
	return round, s.judge(v, &round)
}

// work does what the workload says while the scenario's event happens.
func (s *site) work(ctx context.Context, c *caller, w Workload, round *result.PathRound) error {
	length := s.length()
	begin := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.happen(ctx, begin, length, round) }()
	var err error
	switch w {
	case Download, Upload:
		err = s.large(ctx, c, w, length, round)
	case Parallel:
		err = s.parallel(ctx, c, length, round)
	case Small:
		err = s.small(ctx, c, length, round)
	}
	// What is spoken behind the gateway is asked before the path returns: connections that could
	// not be made meanwhile would come now.
	bounded, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	back, e := s.backend.endRun(bounded)
	round.Back = result.PathSpoken(back)
	cancel()
	// What was cut is put together again, whatever came before: the next run begins like this one.
	return errors.Join(err, e, <-done)
}

// fresh makes ready for a run: the subflows that it may have, no connection behind the gateway, and
// nothing on the links.
func (s *site) fresh(ctx context.Context, v variant) error {
	if err := s.useGateway(ctx, v.managed); err != nil {
		return err
	}
	if err := s.use(v); err != nil {
		return err
	}
	if err := s.quiet(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := s.backend.endRun(ctx)
	return err
}

// length of a run.
func (s *site) length() time.Duration {
	if s.scenario.Event == Nothing {
		return s.Time
	}
	return s.Time * 3 / 2
}

// happen takes path 1 away after a third of the time, gives it back after two thirds where the
// scenario says so, and in any case when ctx ends.
func (s *site) happen(ctx context.Context, begin time.Time, length time.Duration, round *result.PathRound) error {
	if s.scenario.Event == Nothing {
		return nil
	}
	if wait(ctx, length/3) != nil {
		return nil
	}
	err := s.cut(true)
	round.Cut = time.Since(begin)
	if s.scenario.Returns && wait(ctx, length/3) == nil {
		err = errors.Join(err, s.cut(false))
		round.Return = time.Since(begin)
	}
	<-ctx.Done()
	return errors.Join(err, s.cut(false))
}

// large fills in a download or an upload. What comes in the first part of it, in which windows
// still grow, is not in the goodput.
func (s *site) large(ctx context.Context, c *caller, w Workload, length time.Duration, round *result.PathRound) error {
	move := c.download
	if w == Upload {
		move = c.upload
	}
	t, err := move(ctx, length)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	round.Wall, round.Requests = length, 1
	if t.ttfb > 0 {
		round.TTFB = []time.Duration{t.ttfb}
	}
	from := t.begin.Add(min(time.Second, length/4))
	round.Bytes = t.bytes(t.begin, t.end)
	round.Goodput = t.goodput(from, t.end)
	round.Series, round.Step = t.series(t.begin, t.end), Step
	if s.scenario.Event != Nothing {
		from = t.begin.Add(round.Cut)
		round.Low = t.low(from, t.end, float64(s.scenario.Paths[1].Rate)/2)
	}
	round.Gap = t.gap(from, t.end)
	// A run's error is the figure where a path dies: a request that fails there is what the run is
	// to find out.
	if err != nil || t.gap(t.end.Add(-stall), t.end) >= stall {
		round.Failed = 1
		round.Why = "nothing arrived in the last second"
		if err != nil {
			round.Why = err.Error()
		}
	}
	if round.Failed > 0 && s.scenario.Event == Nothing {
		return errors.New(round.Why)
	}
	return nil
}

func (s *site) parallel(ctx context.Context, c *caller, length time.Duration, round *result.PathRound) error {
	begin := time.Now()
	end := begin.Add(length)
	out, err := c.requests(ctx, parallelBody, parallelClients, 0, length)
	if err != nil {
		return err
	}
	fill(round, out)
	a := c.received()
	round.Goodput = a.goodput(begin.Add(min(time.Second, length/4)), end)
	round.Series, round.Step = a.series(begin, end), Step
	return nil
}

func fill(round *result.PathRound, out load.Outcome) {
	round.Wall, round.Requests, round.Bytes, round.Latency = out.Wall, out.Requests, out.Bytes, out.Latency
	round.Failed, round.Missed = out.Errors.Total(), out.Missed
	if round.Failed > 0 {
		round.Why = fmt.Sprintf("%+v", out.Errors)
	}
}

// small times fresh connections first, then requests at a fixed rate on connections that are there.
// Where something happens to a path, there is only the second: how long a new connection takes then
// is another question.
func (s *site) small(ctx context.Context, c *caller, length time.Duration, round *result.PathRound) error {
	var failed int
	if s.scenario.Event == Nothing {
		round.TTFB, failed = c.firstBytes(ctx, 20)
	}
	out, err := c.requests(ctx, smallBody, smallConnections, s.Rate, length)
	if err != nil {
		return err
	}
	fill(round, out)
	round.Failed += int64(failed)
	return nil
}

// judge holds what was spoken to what the scenario says.
func (s *site) judge(v variant, r *result.PathRound) error {
	front, back := s.scenario.expect(s.side, v)
	for _, c := range []struct {
		what string
		want spoken
		got  result.PathSpoken
	}{{"client and mpgate", front, r.Front}, {"mpgate and the backend", back, r.Back}} {
		switch {
		case c.want == multi && (c.got.MPTCP == 0 || c.got.Plain > 0 || c.got.FellBack > 0):
			return fmt.Errorf("between %s: %d connections with MPTCP, %d without, %d fell back; want MPTCP alone", c.what, c.got.MPTCP, c.got.Plain, c.got.FellBack)
		case c.want != multi && (c.got.MPTCP > 0 || c.got.Plain == 0):
			return fmt.Errorf("between %s: %d connections with MPTCP, %d without; want %s", c.what, c.got.MPTCP, c.got.Plain, c.want)
		}
	}
	asked := front == fallback || back == fallback
	// Behind the gateway there may be none: mpgate remembers for a while which servers get no
	// MPTCP, and asks for none.
	if front == fallback && r.Fallbacks == 0 {
		return errors.New("no fallback was counted, which is what this scenario is about")
	}
	if !asked && r.Fallbacks > 0 {
		return fmt.Errorf("MPTCP fell back to TCP %d times", r.Fallbacks)
	}
	if v.all && len(s.scenario.Paths) > 1 {
		if front == multi && r.Counters["gateway"]["MPJoinAckRx"] == 0 {
			return errors.New("no further subflow was made between client and mpgate")
		}
		if back == multi && r.Counters["backend"]["MPJoinAckRx"] == 0 {
			return errors.New("no further subflow was made between mpgate and the backend")
		}
	}
	return nil
}
