//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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

// measureIdle is the memory that n idle keep-alive connections cost a proxy. Each proxy is started anew, since none gives back what
// it once took; it answers some requests before the first reading, so that what it allocates once is not charged to connections.
func (b *bench) measureIdle(ctx context.Context, p *peers.Peer, n int) result.Idle {
	i := result.Idle{Proxy: p.Name, Connections: n}
	if err := b.idle(ctx, p, &i); err != nil {
		i.Failed = err.Error()
	}
	b.say("  %d idle connections, %-10s %6.0f bytes each  %s", n, p.Name, i.PerConn, i.Failed)
	return i
}

func (b *bench) idle(ctx context.Context, p *peers.Peer, i *result.Idle) error {
	if err := enoughFiles(i.Connections); err != nil {
		return err
	}
	c := &result.Case{Protocol: "h1", Body: 1 << 10, Transport: result.TCP, Connections: 8, Duration: time.Second}
	r, err := b.start(ctx, p, c, i.Connections)
	if err != nil {
		return err
	}
	defer r.stop()
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
	job := b.job(r, c)
	job.Connections = i.Connections
	after, open, err := b.hold(ctx, r, job)
	if err != nil {
		return err
	}
	i.PSSBefore, i.PSSAfter, i.RSSBefore, i.RSSAfter, i.Open = before.PSS, after.PSS, before.RSS, after.RSS, open
	i.PerConn = float64(after.PSS-before.PSS) / float64(i.Connections)
	if open != i.Connections {
		return fmt.Errorf("%d of %d connections were closed before memory was read", i.Connections-open, i.Connections)
	}
	return nil
}

// hold opens the job's connections, reads the proxy's memory once it is quiet, and closes them.
func (b *bench) hold(ctx context.Context, r *proxy, job load.Job) (procs.Memory, int, error) {
	c, err := b.open(ctx, job)
	if err != nil {
		return procs.Memory{}, 0, err
	}
	err = settle(ctx, r.PID)
	var memory procs.Memory
	if err == nil {
		memory, err = procs.ReadMemory(r.PID)
	}
	open, e := c.leave()
	return memory, open, errors.Join(err, e)
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

// enoughFiles says before the attempt when RLIMIT_NOFILE is too low: a process needs one file for each connection, and some more.
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
