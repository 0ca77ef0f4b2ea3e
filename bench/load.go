//go:build linux

package main

import (
	"context"
	"math"

	"mpgate/bench/result"
)

// Run measures requests a second at saturation, then latency at one rate that all can hold: at
// saturation latency only says how long the queue is that the load generator makes.
func (c *loadCmd) Run(ctx context.Context) error {
	if c.Rate < 0 || math.IsNaN(c.Rate) {
		return usageErrorf("--rate (got %v); want requests a second, or 0", c.Rate)
	}
	b, err := stage(ctx, c.options)
	if err != nil {
		return err
	}
	defer b.close()
	if b.PrintConfig {
		return b.printConfigs()
	}
	rep := b.begin(ctx, "load")
	cases, err := b.cases()
	if err != nil {
		return err
	}
	for _, k := range cases {
		err := b.runCase(ctx, &k, b.peers)
		rep.Cases = append(rep.Cases, k)
		if err != nil {
			return b.partly(rep, err)
		}
		if k.Streams > 0 {
			continue // h2load keeps no rate for all its connections together
		}
		rate := c.Rate
		if rate == 0 {
			rate = halfOfSlowest(&k)
		}
		if rate == 0 {
			continue // nobody answered
		}
		k.Rate, k.Entries = rate, nil
		err = b.runCase(ctx, &k, b.peers)
		rep.Cases = append(rep.Cases, k)
		if err != nil {
			return b.partly(rep, err)
		}
	}
	return b.finish(rep)
}

// halfOfSlowest is a rate at which no proxy of a case is at its limit.
func halfOfSlowest(c *result.Case) float64 {
	slowest := 0.0
	for i := range c.Entries {
		if r := c.Entries[i].Rate(); r.N > 0 && (slowest == 0 || r.Median < slowest) {
			slowest = r.Median
		}
	}
	return math.Floor(slowest / 2)
}
