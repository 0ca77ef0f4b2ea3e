//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mpgate/bench/load"
	"mpgate/bench/peers"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

type growthCmd struct {
	options
	Of     []string `placeholder:"NAME" help:"connections, hosts, paths, servers, listeners, files. Default: all."`
	Active int      `default:"10" help:"Connections that make requests; those beyond them are open and idle."`
}

// growing is one thing that grows, and its sizes.
type growing struct {
	name, of, about string
	sizes           []int
	grown           func(n int) peers.Grown
	shape           func(j *load.Job, n int)
}

func all() []growing {
	return []growing{
		{
			name: "connections", of: "open connections", about: "a few of them make requests, the others are idle", sizes: []int{10, 100, 1000, 10000},
			grown: func(n int) peers.Grown { return peers.Grown{Clients: n} },
		},
		{
			name: "hosts", of: "routes by host", about: "requests are for all of them, at random", sizes: []int{10, 100, 1000, 10000, 100000},
			grown: func(n int) peers.Grown { return peers.Grown{Hosts: n} },
			shape: func(j *load.Job, n int) { j.Hosts = n },
		},
		{
			name: "paths", of: "routes by path", about: "requests are for all of them, at random", sizes: []int{10, 100, 1000, 10000, 100000},
			grown: func(n int) peers.Grown { return peers.Grown{Paths: n} },
			shape: func(j *load.Job, n int) { j.Paths = n },
		},
		{
			name: "servers", of: "servers of a backend", about: "requests go to all of them, round robin", sizes: []int{1, 10, 100, 1000},
			grown: func(n int) peers.Grown { return peers.Grown{Servers: n} },
		},
		{
			name: "listeners", of: "listeners", about: "requests come to one of them", sizes: []int{1, 10, 100, 1000},
			grown: func(n int) peers.Grown { return peers.Grown{Listeners: n - 1} },
		},
		{
			name: "files", of: "routes of a large file", about: "with a listener for each 25 and a backend of four servers for each 10; requests are for none of them",
			sizes: []int{50, 500, 5000},
			grown: func(n int) peers.Grown { return peers.Grown{Hosts: n, Listeners: n / 25, Backends: n / 10} },
		},
	}
}

// Run measures mpgate at each size of each thing.
func (c *growthCmd) Run(ctx context.Context) error {
	kinds, err := c.kinds()
	if err != nil {
		return err
	}
	if c.chosen() || len(c.Only) > 0 {
		return usageErrorf("growth has cases of its own, and mpgate alone")
	}
	if c.Markdown != "" || c.PrintConfig {
		return usageErrorf("growth has neither --markdown nor --print-config")
	}
	if c.Active < 1 || c.Active > 1000 {
		return usageErrorf("--active (got %d); want 1 to 1000", c.Active)
	}
	c.EveryLoopback = true
	c.Only, c.options.Load, c.Connections = []string{"mpgate"}, "builtin", c.Active
	b, err := stage(ctx, c.options)
	if err != nil {
		return err
	}
	defer b.close()
	if len(b.peers) == 0 {
		return fmt.Errorf("mpgate: %s", b.notBuilt)
	}
	rep := b.begin(ctx, "growth")
	rep.Method = append(rep.Method,
		fmt.Sprintf("Every size of a thing is an mpgate of its own, and all sizes run at once, idle but for the one that is measured; %d connections make requests. Memory is the PSS of the process after the last round; \"each\" is what one more costs, from the smallest size on; the kernel's memory for sockets is not in it.", c.Active))
	for _, k := range kinds {
		g, err := b.grow(ctx, k)
		if err != nil {
			return b.partly(rep, err)
		}
		rep.Growth = append(rep.Growth, g)
	}
	return b.finish(rep)
}

func (c *growthCmd) kinds() ([]growing, error) {
	var names []string
	for _, k := range all() {
		names = append(names, k.name)
	}
	for _, name := range c.Of {
		if !slices.Contains(names, name) {
			return nil, usageErrorf("--of (got %q); want %s", name, strings.Join(names, ", "))
		}
	}
	kinds := slices.DeleteFunc(all(), func(k growing) bool { return len(c.Of) > 0 && !slices.Contains(c.Of, k.name) })
	if c.Quick {
		for i := range kinds {
			s := kinds[i].sizes
			kinds[i].sizes = []int{s[0], s[2]}
		}
	}
	return kinds, nil
}

func (b *bench) grow(ctx context.Context, k growing) (result.Growth, error) {
	g := result.Growth{Of: k.of, About: k.about, Case: result.Case{Protocol: "h1", Body: 1 << 10, Transport: result.TCP}}
	g.Points = make([]result.GrowthPoint, len(k.sizes))
	var list []*peers.Peer
	b.shape = make(map[string]func(*load.Job))
	for i, n := range k.sizes {
		p := peers.Grow(b.peers[0], fmt.Sprint(n), k.grown(n))
		g.Points[i].N = n
		list = append(list, p)
		if k.shape != nil {
			b.shape[p.Name] = func(j *load.Job) { k.shape(j, n) }
		}
	}
	b.say("%s", k.of)
	crowds := make([]*crowd, len(k.sizes))
	err := b.runCaseWith(ctx, &g.Case, list, hooks{
		started: func(i int, r *proxy) (err error) {
			g.Points[i].Ready = r.ready
			if idle := k.sizes[i] - b.Connections; k.name == "connections" && idle > 0 {
				job := b.job(r, &g.Case)
				job.Connections = idle
				crowds[i], err = b.open(ctx, job)
			}
			return err
		},
		ended: func(i int, r *proxy) error {
			if err := settle(ctx, r.PID); err != nil {
				return err
			}
			memory, err := procs.ReadMemory(r.PID)
			if err != nil {
				return err
			}
			g.Points[i].PSS = memory.PSS
			if crowds[i] == nil {
				return nil
			}
			open, err := crowds[i].leave()
			if g.Points[i].Open = open; err == nil && open != k.sizes[i]-b.Connections {
				err = fmt.Errorf("%d of %d idle connections were closed", k.sizes[i]-b.Connections-open, k.sizes[i]-b.Connections)
			}
			return err
		},
	})
	return g, err
}

// startAllowance is what a large configuration may take longer to start.
func startAllowance(p peers.Plan) time.Duration {
	var size int
	for _, f := range p.Files {
		size += len(f.Text)
	}
	return startTimeout + time.Duration(size>>20)*5*time.Second
}
