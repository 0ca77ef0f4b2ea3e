//go:build linux

package main

import (
	"context"
	"time"

	"mpgate/bench/peers"
	"mpgate/bench/result"
)

// measureStartup times a proxy from its exec to the first request that it answers, several times. A
// client that is turned away tries again after a millisecond; configuration files are written
// before the clock starts.
func (b *bench) measureStartup(ctx context.Context, p *peers.Peer, times int) result.Startup {
	s := result.Startup{Proxy: p.Name}
	c := &result.Case{Protocol: "h1", Body: 1 << 10, Transport: result.TCP}
	for range times {
		d, err := b.startOnce(ctx, p, c)
		if err != nil {
			s.Failed = err.Error()
			return s
		}
		s.Times = append(s.Times, d)
	}
	return s
}

func (b *bench) startOnce(ctx context.Context, p *peers.Peer, c *result.Case) (time.Duration, error) {
	s, err := b.setupFor(c, b.Connections)
	if err != nil {
		return 0, err
	}
	if s.Listen, err = freePort(); err != nil {
		return 0, err
	}
	r, err := b.launch(ctx, p, s)
	if err != nil {
		return 0, err
	}
	defer r.stop()
	r.plan.Ready = "" // its own word for it is not the question
	if err := r.await(ctx, time.Millisecond); err != nil {
		return 0, err
	}
	return time.Since(r.began), nil
}
