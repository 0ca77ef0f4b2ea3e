//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/bench/abuse"
	"mpgate/bench/load"
	"mpgate/bench/result"
)

type attackCmd struct {
	Job     string `arg:""`
	Lowered bool
}

// Run attacks, with the lowest priority. That is a thread's, and inherited: so the program starts
// itself again, and all its threads have it.
func (c attackCmd) Run(ctx context.Context) error {
	if !c.Lowered {
		runtime.LockOSThread()
		idle := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}
		if err := unix.SchedSetAttr(0, idle, 0); err != nil {
			return fmt.Errorf("SCHED_IDLE: %w", err)
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return unix.Exec(self, append(slices.Clone(os.Args), "--lowered"), os.Environ())
	}
	raiseFiles()
	var j abuse.Job
	if err := json.Unmarshal([]byte(c.Job), &j); err != nil {
		return fmt.Errorf("job (got %q): %w", c.Job, err)
	}
	out, err := abuse.Run(ctx, j)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// bystandersJob is what clients that do nothing wrong ask for; how many there are of each kind is
// theirs.
type bystandersJob struct{ Kept load.Job }

type bystandCmd struct {
	Job string `arg:""`
}

// Run prints "begun" when all are warm, and what they met when their time is over.
func (c bystandCmd) Run(ctx context.Context) error {
	var j bystandersJob
	if err := json.Unmarshal([]byte(c.Job), &j); err != nil {
		return fmt.Errorf("job (got %q): %w", c.Job, err)
	}
	h1, h2, fresh := j.Kept, j.Kept, j.Kept
	h1.Connections, h2.Connections, fresh.Connections = 16, 4, 4
	fresh.Close, fresh.Rate = true, max(1, j.Kept.Rate/10)
	var out struct {
		result.Bystanders
		CPU time.Duration
	}
	var warm, wg sync.WaitGroup
	begun := make(chan struct{})
	var errs [3]error
	for i, k := range []struct {
		job load.Job
		run func(context.Context, load.Job) (load.Outcome, error)
		to  *result.Bystander
	}{{h1, load.Builtin, &out.H1}, {h2, load.BuiltinH2, &out.H2}, {fresh, load.Builtin, &out.New}} {
		warm.Add(1)
		ready := sync.OnceFunc(warm.Done)
		k.job.Begun = func() { ready(); <-begun }
		wg.Go(func() {
			defer ready() // it may be refused before it begins
			var o load.Outcome
			o, errs[i] = k.run(ctx, k.job)
			*k.to = result.Bystander{Requests: o.Requests, Errors: o.Errors, Missed: o.Missed, Latency: o.Latency}
		})
	}
	warm.Wait()
	if _, err := fmt.Println("begun"); err != nil {
		return err
	}
	close(begun)
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	out.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	return json.NewEncoder(os.Stdout).Encode(out)
}
