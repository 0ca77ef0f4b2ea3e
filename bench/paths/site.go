//go:build linux

package paths

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"mpgate/bench/procs"
	"mpgate/bench/result"
	"mpgate/internal/lab"
)

// Options of a measurement.
type Options struct {
	Mpgate  string // the program
	Scratch string // a directory
	Group   *procs.Group
	Rounds  int
	Time    time.Duration // of a run; those in which a path dies take half as long again
	Rate    float64       // requests a second of the small workload
	Say     func(format string, a ...any)
}

// site is a lab with a gateway and a backend in it.
type site struct {
	*Options
	scenario    *Scenario
	side        Side
	lab         *lab.Lab
	front, back []*lab.Link
	dir         string
	Configs     map[string]string // mpgate's, as they were used
	managed     bool              // the gateway that runs manages paths
	gateway     *procs.Process
	backend     *backend
}

// open builds the lab for a scenario and starts what stands in it.
func open(ctx context.Context, o *Options, sc *Scenario, side Side, congestion string) (s *site, err error) {
	s = &site{Options: o, scenario: sc, side: side, Configs: make(map[string]string)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp(o.Scratch, "site-"); err != nil {
		return s, err
	}
	if s.lab, err = lab.New(ctx, sc.Spec(side, congestion)); err != nil {
		return s, err
	}
	for _, l := range s.lab.Links() {
		if l.A == "client" {
			s.front = append(s.front, l)
		} else {
			s.back = append(s.back, l)
		}
	}
	if s.backend, err = startBackend(ctx, s.lab.Place("backend")); err != nil {
		return s, fmt.Errorf("backend: %w", err)
	}
	return s, s.useGateway(ctx, false)
}

func (s *site) close() {
	if s.gateway != nil {
		s.gateway.Stop(2 * time.Second)
	}
	if s.backend != nil {
		s.backend.close()
	}
	if s.lab != nil {
		_ = s.lab.Close()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// use lets the next run have further subflows, or none.
func (s *site) use(v variant) error {
	n := uint32(0)
	if v.all {
		n = 8
	}
	for _, p := range s.lab.Places() {
		if s.scenario.PlainBackend && p.Name() == "backend" {
			continue
		}
		if err := p.SetLimits(n, n); err != nil {
			return err
		}
	}
	return nil
}

// way is where a variant's client dials from and to, and the first segment of its requests' path.
func (s *site) way(v variant) (from netip.Addr, to netip.AddrPort, segment string) {
	l := s.front[min(v.path, len(s.front)-1)]
	segment = "tcp" + strconv.Itoa(min(v.path+1, len(s.back)))
	if v.mptcp {
		segment = "mptcp"
	}
	return l.AddrA.Addr(), netip.AddrPortFrom(l.AddrB.Addr(), gatewayPort), segment
}

// doomed are the links that the scenario's event meets.
func (s *site) doomed() (list []*lab.Link) {
	if s.side.front() {
		list = append(list, s.front[0])
	}
	if s.side.back() {
		list = append(list, s.back[0])
	}
	return list
}

// cut makes the event happen, or ends it.
func (s *site) cut(on bool) error {
	var errs []error
	for _, l := range s.doomed() {
		switch {
		case s.scenario.Event == Silence:
			errs = append(errs, l.Silence(lab.Both, on))
		case s.scenario.Event == LinkDown && on:
			errs = append(errs, l.Down(l.A))
		case s.scenario.Event == LinkDown:
			errs = append(errs, l.Up(l.A))
		}
	}
	return errors.Join(errs...)
}

// counters reads what each link carried.
func (s *site) links() ([]result.PathLink, error) {
	var list []result.PathLink
	for _, l := range s.lab.Links() {
		there, back, err := l.Counters()
		if err != nil {
			return nil, err
		}
		list = append(list, result.PathLink{
			Name: l.Name, There: there.Bytes, Back: back.Bytes,
			Lost: there.Lost + back.Lost, Overflow: there.Overflow + back.Overflow, Silenced: there.Silenced + back.Silenced,
		})
	}
	return list, nil
}

// mptcp reads the MPTcpExt counters of every place.
func (s *site) mptcp() (map[string]procs.Counters, error) {
	all := make(map[string]procs.Counters)
	for _, p := range s.lab.Places() {
		raw, err := p.MPTCPCounters()
		if err != nil {
			return nil, err
		}
		c := make(procs.Counters, len(raw))
		for k, v := range raw {
			c[k] = int64(v)
		}
		all[p.Name()] = c
	}
	return all, nil
}

// quiet waits until nothing moves on any link and nobody still dials: what a run left behind is
// over, and counted with it.
func (s *site) quiet(ctx context.Context) error {
	const step, most = 50 * time.Millisecond, 8 * time.Second
	deadline := time.Now().Add(most)
	last := int64(-1)
	for time.Now().Before(deadline) {
		links, err := s.links()
		if err != nil {
			return err
		}
		var sum int64
		for _, l := range links {
			sum += int64(l.There + l.Back)
		}
		dialling, err := s.dialling()
		if err != nil || sum == last && !dialling {
			return err
		}
		last = sum
		if err := wait(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// dialling says whether the gateway still waits for an answer to a SYN. It would come in the next
// run, once the path is back.
func (s *site) dialling() (yes bool, err error) {
	err = s.lab.Place("gateway").Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/tcp")
		if err != nil {
			return err
		}
		const state, synSent = 3, "02"
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); len(f) > state && f[state] == synSent {
				yes = true
			}
		}
		return nil
	})
	return yes, err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
