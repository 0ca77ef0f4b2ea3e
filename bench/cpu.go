//go:build linux

package main

import (
	"context"
	"time"
)

// Run compares CPU time a request, then memory of idle connections and start-up time.
func (c *cpuCmd) Run(ctx context.Context) error {
	if c.Quick {
		c.Idle, c.IdleRest, c.Startup = []int{1000}, 0, 3
	}
	for _, n := range c.Idle {
		if n < 0 || n > 100000 {
			return usageErrorf("--idle (got %d); want 0 to 100000", n)
		}
	}
	if c.IdleRest < 0 || c.IdleRest > time.Hour {
		return usageErrorf("--idle-rest (got %v); want 0s to 1h", c.IdleRest)
	}
	if err := c.checkComparisons(); err != nil {
		return err
	}
	if c.compares() {
		return c.compare(ctx)
	}
	b, err := stage(ctx, c.options)
	if err != nil {
		return err
	}
	defer b.close()
	if b.PrintConfig {
		return b.printConfigs()
	}
	rep := b.begin(ctx, "cpu")
	if rep.Cases, err = b.cases(); err != nil {
		return err
	}
	if c.NoCases {
		rep.Cases = nil
	}
	for i := range rep.Cases {
		if err := b.runCase(ctx, &rep.Cases[i], b.peers); err != nil {
			return b.partly(rep, err)
		}
	}
	if b.chosen() {
		return b.finish(rep) // who names cases wants these and no more
	}
	for _, n := range c.Idle {
		if n > 0 && ctx.Err() == nil {
			if idle := b.measureIdle(ctx, n, c.IdleRest); ctx.Err() == nil {
				rep.Idle = append(rep.Idle, idle...)
			}
		}
	}
	for _, p := range b.peers {
		if c.Startup > 0 && ctx.Err() == nil {
			if startup := b.measureStartup(ctx, p, c.Startup); ctx.Err() == nil {
				rep.Startup = append(rep.Startup, startup)
			}
		}
	}
	if ctx.Err() != nil {
		return b.partly(rep, context.Cause(ctx))
	}
	return b.finish(rep)
}

// compare measures variants of mpgate, and nothing else.
func (c *cpuCmd) compare(ctx context.Context) error {
	c.EveryLoopback = c.Balance
	if len(c.Only) == 0 {
		c.Only = []string{"mpgate", "against", "nginx"}
	}
	s, err := makeSecrets()
	if err != nil {
		return err
	}
	list, err := c.comparisons(s)
	if err != nil {
		return err
	}
	b, err := stage(ctx, c.options)
	if err != nil {
		return err
	}
	defer b.close()
	if b.PrintConfig {
		return b.printComparisons(ctx, list)
	}
	rep := b.begin(ctx, "cpu")
	rep.Method = append(rep.Method, comparisonMethod...)
	if err := b.runComparisons(ctx, rep, list); err != nil {
		return b.partly(rep, err)
	}
	return b.finish(rep)
}
