//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"mpgate/bench/origin"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

// originProcess is the backend, in a process of its own, shared by all proxies of a run.
type originProcess struct {
	*procs.Process
	addresses originReady
	client    *http.Client // one connection, kept: asking for statistics must not change them
}

// originReady is what the backend prints when it listens.
type originReady struct{ TCP, MPTCP string }

func (b *bench) startOrigin(ctx context.Context) (*originProcess, error) {
	args := []string{b.self, "child", "origin", "--threads", strconv.Itoa(max(1, b.loadCPUCount()/2))}
	if b.EveryLoopback {
		args = append(args, "--every")
	}
	p, err := b.group.Start(procs.Spec{Args: args, Pipe: true, CPUs: b.LoadCPUs})
	if err != nil {
		return nil, err
	}
	o := &originProcess{Process: p, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConns: 1}}}
	line, err := bufio.NewReader(p.Stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &o.addresses)
	}
	if err != nil {
		return nil, fmt.Errorf("it did not say where it listens: %w: %s", err, p.Output())
	}
	_, err = o.stats(ctx)
	return o, err
}

func (o *originProcess) address(t result.Transport) (string, error) {
	if !t.Back() {
		return o.addresses.TCP, nil
	}
	if o.addresses.MPTCP == "" {
		return "", fmt.Errorf("this host has no MPTCP: kernel 5.6 or later and net.mptcp.enabled=1 are needed")
	}
	return o.addresses.MPTCP, nil
}

func (o *originProcess) stats(ctx context.Context) (origin.Stats, error) {
	var s origin.Stats
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.addresses.TCP+"/stats", nil)
	if err != nil {
		return s, err
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return s, fmt.Errorf("backend's statistics: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("backend's statistics: %w", err)
	}
	return s, nil
}
