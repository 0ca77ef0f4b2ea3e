//go:build linux

package main

import (
	"context"
	"fmt"

	"mpgate/bench/figures"
	"mpgate/bench/load"
	"mpgate/bench/peers"
	"mpgate/bench/result"
)

// runCase measures every proxy in one workload. All are started first and stay up until the end:
// each is warmed up alike, then each round measures one after the other. So what changes on the
// machine meets all of them, and a ratio is taken within a round. The one that begins moves on from
// round to round: none always follows the same neighbour.
func (b *bench) runCase(ctx context.Context, c *result.Case, list []*peers.Peer) error {
	return b.runCaseWith(ctx, c, list, hooks{})
}

// hooks of a case: when a proxy is warm, and when its last round is over. An error of either is the
// proxy's: the case is not measured.
type hooks struct {
	started, ended func(i int, r *proxy) error
}

func (b *bench) runCaseWith(ctx context.Context, c *result.Case, list []*peers.Peer, h hooks) error {
	c.Connections, c.Workers, c.Duration, c.Load = b.Connections, b.workers(), b.Round, b.generator(c)
	switch {
	case c.Streams > 1:
		c.Connections = max(1, b.Connections/c.Streams)
	case c.Streams == 1:
		c.Connections = 1
	}
	c.Entries = make([]result.Entry, len(list))
	running := make([]*proxy, len(list))
	b.say("%s", c.Name())
	defer func() {
		for _, r := range running {
			if r != nil {
				r.stop()
			}
		}
	}()
	for i, p := range list {
		e := &c.Entries[i]
		e.Proxy = p.Name
		r, err := b.warm(ctx, p, c, e)
		if err == nil && h.started != nil {
			running[i] = r // to be stopped in any case
			err = h.started(i, r)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			e.Failed = err.Error()
			b.say("  %s: %v", p.Name, err)
			if running[i] = nil; r != nil {
				r.stop()
			}
			continue
		}
		running[i] = r
	}
	for n := range b.Rounds {
		for position := range list {
			i := (n + position) % len(list)
			r, e := running[i], &c.Entries[i]
			if r == nil {
				continue
			}
			round, err := b.measure(ctx, r, c)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				round.Invalid = err.Error()
			}
			round.N, round.Position = n, position
			e.Rounds = append(e.Rounds, round)
			b.sayRound(e.Proxy, &round)
		}
	}
	for i, r := range running {
		if r == nil || h.ended == nil {
			continue
		}
		if err := h.ended(i, r); err != nil {
			c.Entries[i].Failed = err.Error()
		}
	}
	return nil
}

func (b *bench) sayRound(name string, r *result.Round) {
	cpu := "-"
	if r.Requests > 0 {
		cpu = figures.Micros(float64(r.CPU.Nanoseconds()) / 1e3 / float64(r.Requests))
	}
	text := fmt.Sprintf("  round %d  %-16s %8s us/request  %8d requests", r.N+1, name, cpu, r.Requests)
	if r.Invalid != "" {
		text += "  NOT COUNTED: " + r.Invalid
	}
	b.say("%s", text)
}

// warm starts a proxy and lets it work for a while, uncounted.
func (b *bench) warm(ctx context.Context, p *peers.Peer, c *result.Case, e *result.Entry) (*proxy, error) {
	before, err := b.origin.stats(ctx)
	if err != nil {
		return nil, err
	}
	r, err := b.start(ctx, p, c, b.Connections)
	if err != nil {
		return nil, err
	}
	e.Command, e.Env, e.Notes = r.plan.Args, r.plan.Env, r.plan.Notes
	e.Files = make(map[string]string)
	for _, f := range r.plan.Files {
		e.Files[f.Name] = f.Text
	}
	e.Sent = r.coded
	job := b.job(r, c)
	job.Duration = b.Warmup
	if _, err := b.generate(ctx, job, c.Load); err != nil {
		r.stop()
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	after, err := b.origin.stats(ctx)
	if err != nil {
		r.stop()
		return nil, err
	}
	r.spoke.add(before, after)
	return r, nil
}

func (b *bench) job(r *proxy, c *result.Case) load.Job {
	j := load.Job{
		Address: r.setup.Listen, TLS: r.setup.Cert != "", Body: c.Body, Streams: c.Streams, Connections: c.Connections,
		Threads: max(1, min(b.loadCPUCount()/2, c.Connections)), Duration: c.Duration, Close: c.Close, Path: c.Path, Paths: c.Paths, Fields: c.Fields, MPTCP: c.Transport.Front(), Rate: c.Rate,
	}
	if shape := b.shape[r.peer.Name]; shape != nil {
		shape(&j)
	}
	return j
}
