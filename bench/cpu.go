//go:build linux

package main

import (
	"context"
)

func (c *cpuCmd) Run(ctx context.Context) error {
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
	for i := range rep.Cases {
		if err := b.runCase(ctx, &rep.Cases[i], b.peers); err != nil {
			return err
		}
	}
	return b.finish(rep)
}

func (c *loadCmd) Run(ctx context.Context) error     { return nil }
func (c *selftestCmd) Run(ctx context.Context) error { return nil }
