//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mpgate/bench/load"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

// generator chooses who makes the requests of a case. wrk ends a round by closing its connections,
// whatever is under way on them: for large answers that is much work that nobody counts, so there
// the generator of our own serves, which lets them finish.
func (b *bench) generator(c *result.Case) string {
	switch {
	case c.Streams > 0:
		return "h2load"
	case c.Rate > 0, c.Paths > 0:
		return "builtin" // wrk keeps no rate, and makes all requests alike
	case b.options.Load != "auto":
		return b.options.Load
	case b.tools.wrk != "" && c.Body < 1<<20 && (!c.Transport.Front() || b.tools.mptcpize != ""):
		return "wrk"
	default:
		return "builtin"
	}
}

// generated is a stretch of load: its outcome, its command, and the CPU time that the generator
// itself used.
type generated struct {
	load.Outcome
	command []string
	cpu     time.Duration
}

// generate makes requests for the length of the job, in a process of its own.
func (b *bench) generate(ctx context.Context, j load.Job, generator string) (generated, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, j.Duration+30*time.Second, fmt.Errorf("the load generator did not end 30 s after its time"))
	defer cancel()
	var args []string
	parse := load.ParseWrk
	switch generator {
	case "h2load":
		if b.tools.h2load == "" {
			return generated{}, fmt.Errorf("%s is not installed", load.H2loadPackage)
		}
		log := filepath.Join(b.scratch, "h2load.log")
		_ = os.Remove(log) // it would add to it
		args = load.H2loadCommand(b.tools.h2load, b.tools.mptcpize, log, j)
		parse = func(said string) (load.Outcome, error) { return load.ParseH2load(said, log, j.Duration) }
	case "wrk":
		script := filepath.Join(b.scratch, "report.lua")
		if err := os.WriteFile(script, []byte(load.WrkScript), 0o644); err != nil {
			return generated{}, err
		}
		args = load.WrkCommand(b.tools.wrk, b.tools.mptcpize, script, j)
	default:
		text, err := json.Marshal(j)
		if err != nil {
			return generated{}, err
		}
		args = []string{b.self, "child", "load", string(text)}
		parse = parseBuiltin
	}
	ran, err := b.group.Run(ctx, procs.Spec{Args: args, CPUs: b.LoadCPUs})
	if err != nil {
		return generated{command: args}, err
	}
	out, err := parse(ran.Output)
	return generated{out, args, ran.CPU}, err
}

func parseBuiltin(output string) (o load.Outcome, err error) {
	if err := json.Unmarshal([]byte(strings.TrimSpace(output)), &o); err != nil {
		return o, fmt.Errorf("load generator's output: %w", err)
	}
	return o, nil
}
