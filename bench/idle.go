//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/bench/load"
	"mpgate/bench/peers"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

// measureIdle is the memory that n idle keep-alive connections cost each proxy, once they have been
// idle for the given time. Each proxy is started again, since none gives back what it once took; it
// answers some requests before the first reading, so that what it allocates once is not charged to
// connections.
func (b *bench) measureIdle(ctx context.Context, n int, rest time.Duration) []result.Idle {
	all, open := make([]idling, len(b.peers)), false
	for i, p := range b.peers {
		all[i].Idle = result.Idle{Proxy: p.Name, Connections: n, Rest: rest}
		all[i].err = b.occupy(ctx, p, &all[i])
		defer all[i].stop()
		open = open || all[i].err == nil
	}
	if open {
		_ = wait(ctx, rest) // an end shows at the next step
	}
	var list []result.Idle
	for i := range all {
		one := &all[i]
		if one.err == nil {
			one.err = one.read(ctx)
		}
		if one.err != nil {
			one.Failed = one.err.Error()
		}
		b.say("  %d idle connections, %-10s %6.0f bytes each  %s", n, one.Proxy, one.PerConn, one.Failed)
		list = append(list, one.Idle)
	}
	return list
}

// idling is a proxy with idle connections.
type idling struct {
	result.Idle
	proxy *proxy
	crowd *crowd
	err   error
}

// occupy starts the proxy and opens its connections.
func (b *bench) occupy(ctx context.Context, p *peers.Peer, i *idling) error {
	if err := enoughFiles(i.Connections); err != nil {
		return err
	}
	c := &result.Case{Protocol: "h1", Body: 1 << 10, Transport: result.TCP, Connections: 8, Duration: time.Second}
	r, err := b.start(ctx, p, c, i.Connections)
	if err != nil {
		return err
	}
	i.proxy = r
	if _, err := b.generate(ctx, b.job(r, c), b.generator(c)); err != nil {
		return err
	}
	if err := settle(ctx, r.PID); err != nil {
		return err
	}
	before, err := procs.ReadMemory(r.PID)
	if err != nil {
		return err
	}
	i.PSSBefore, i.RSSBefore = before.PSS, before.RSS
	job := b.job(r, c)
	job.Connections = i.Connections
	i.crowd, err = b.open(ctx, job)
	return err
}

// read takes the memory with the connections open, and counts those.
func (i *idling) read(ctx context.Context) error {
	if err := settle(ctx, i.proxy.PID); err != nil {
		return err
	}
	after, err := procs.ReadMemory(i.proxy.PID)
	if err != nil {
		return err
	}
	crowd := i.crowd
	i.crowd = nil
	if i.Open, err = crowd.leave(); err != nil {
		return err
	}
	i.PSSAfter, i.RSSAfter = after.PSS, after.RSS
	i.PerConn = float64(after.PSS-i.PSSBefore) / float64(i.Connections)
	if i.Open != i.Connections {
		return fmt.Errorf("%d of %d connections were closed before memory was read", i.Connections-i.Open, i.Connections)
	}
	return nil
}

func (i *idling) stop() {
	if i.crowd != nil {
		_, _ = i.crowd.leave()
	}
	if i.proxy != nil {
		i.proxy.stop()
	}
}

// crowd is a process that holds idle connections open.
type crowd struct {
	process *procs.Process
	lines   *bufio.Scanner
	unwatch func() bool
}

// open makes the job's connections, each with one request answered.
func (b *bench) open(ctx context.Context, job load.Job) (*crowd, error) {
	if err := enoughFiles(job.Connections); err != nil {
		return nil, err
	}
	text, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	p, err := b.group.Start(procs.Spec{Args: []string{b.self, "child", "idle", string(text)}, Pipe: true, CPUs: b.LoadCPUs})
	if err != nil {
		return nil, err
	}
	// However it goes, the child is gone in the end; that also ends a read of its output.
	c := &crowd{p, bufio.NewScanner(p.Stdout), context.AfterFunc(ctx, func() { p.Stop(0) })}
	timer := time.AfterFunc(2*time.Minute, func() { p.Stop(0) })
	defer timer.Stop()
	if !c.lines.Scan() || c.lines.Text() != "ready" {
		said := strings.TrimSpace(c.lines.Text())
		c.leave()
		return nil, fmt.Errorf("opening connections: %s %s", said, strings.TrimSpace(p.Output()))
	}
	return c, nil
}

// leave closes the connections and says how many were still open.
func (c *crowd) leave() (open int, err error) {
	defer c.unwatch()
	defer c.process.Stop(5 * time.Second)
	c.process.Stdin.Close()
	if !c.lines.Scan() {
		return 0, fmt.Errorf("it did not say how many connections are open: %s", c.process.Output())
	}
	return strconv.Atoi(c.lines.Text())
}

// enoughFiles says before the attempt when RLIMIT_NOFILE is too low: a process needs one file for
// each connection, and some more.
func enoughFiles(n int) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if need := uint64(n + 500); l.Cur < need {
		return fmt.Errorf("%d files may be open (RLIMIT_NOFILE), %d are needed: ulimit -n %d", l.Cur, need, need)
	}
	return nil
}
