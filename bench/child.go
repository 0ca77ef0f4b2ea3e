//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/bench/load"
	"mpgate/bench/origin"
	"mpgate/bench/procs"
)

// childCmd holds what the benchmark starts from its own binary. Each ends when its standard input
// does, or when it is told to.
type childCmd struct {
	Guard  guardCmd  `cmd:""`
	Origin originCmd `cmd:""`
	Proxy  proxyCmd  `cmd:""`
	Load   genCmd    `cmd:""`
	Idle   idleCmd   `cmd:""`
	Beside besideCmd `cmd:""`

	Attack  attackCmd  `cmd:""`
	Bystand bystandCmd `cmd:""`
}

type guardCmd struct{}

func (guardCmd) Run() error { procs.RunGuard(os.Stdin); return nil }

type originCmd struct {
	Threads int `default:"1"`
	Every   bool
}

func (c originCmd) Run(ctx context.Context) error {
	s, err := origin.New(origin.Options{Threads: c.Threads, Every: c.Every})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(originReady{s.TCP, s.MPTCP}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return s.Serve(ctx)
}

type genCmd struct {
	Job string `arg:""`
}

func (c genCmd) Run(ctx context.Context) error {
	var j load.Job
	if err := json.Unmarshal([]byte(c.Job), &j); err != nil {
		return fmt.Errorf("job (got %q): %w", c.Job, err)
	}
	out, err := load.Builtin(ctx, j)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

type idleCmd struct {
	Job string `arg:""`
}

// Run prints "ready" when the connections are open, and when its input ends how many still are.
func (c idleCmd) Run(ctx context.Context) error {
	var j load.Job
	if err := json.Unmarshal([]byte(c.Job), &j); err != nil {
		return fmt.Errorf("job (got %q): %w", c.Job, err)
	}
	raiseFiles()
	open, err := load.Idle(ctx, j, func() error { _, err := fmt.Println("ready"); return err }, os.Stdin)
	if err != nil {
		fmt.Println("failed:", err)
		return err
	}
	_, err = fmt.Println(open)
	return err
}

type besideCmd struct {
	Share   float64
	Command []string `arg:"" passthrough:""`
}

// Run runs a command, and beside it, in the same process tree, uses a share of a CPU.
func (c besideCmd) Run(ctx context.Context) error {
	args := c.Command
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	const period = 10 * time.Millisecond
	work := newBurner()
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			work.burn(time.Duration(c.Share * float64(period)))
		}
	}
}
