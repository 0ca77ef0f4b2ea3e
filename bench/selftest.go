//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mpgate/bench/figures"
	"mpgate/bench/peers"
	"mpgate/bench/result"
)

// Run measures proxies whose difference is known: two equal ones, one that wastes CPU time in each
// request, and pairs with and without a burner beside the proxy. If the figures do not show it,
// they show nothing.
func (c *selftestCmd) Run(ctx context.Context) error {
	if c.Burn <= 0 || c.Burn > time.Second {
		return usageErrorf("--burn (got %v); want more than 0, at most 1s", c.Burn)
	}
	if c.Share <= 0 || c.Share > 1 {
		return usageErrorf("--share (got %v); want more than 0, at most 1", c.Share)
	}
	if c.chosen() || c.Quick {
		return usageErrorf("selftest has one case of its own")
	}
	b, err := stage(ctx, c.options)
	if err != nil {
		return err
	}
	defer b.close()
	// The report is of the proxies that stand in the cases, not of the peers.
	all := b.peers
	rep := b.begin(ctx, "selftest")
	rep.Baseline = "stdlib"
	rep.Proxies = slices.DeleteFunc(rep.Proxies, func(p result.Proxy) bool { return p.Name != "stdlib" && p.Name != "mpgate" })
	equal := result.Case{Protocol: "h1", Body: 1 << 10, Transport: result.TCP}
	list := []*peers.Peer{
		peers.Slowed("stdlib", b.self, 0), peers.Slowed("stdlib again", b.self, 0), peers.Slowed("stdlib slowed", b.self, c.Burn),
	}
	if err := b.runCase(ctx, &equal, list); err != nil {
		return err
	}
	rep.Cases = append(rep.Cases, equal)
	faults := []error{judgeSlowed(&equal, c.Burn)}
	var beside int
	for _, p := range all {
		if p.Name != "mpgate" && p.Name != "stdlib" {
			continue
		}
		pair := result.Case{Protocol: "h1", Body: 1 << 10, Transport: result.TCP}
		slow := peers.Beside(p, b.self, c.Share)
		if err := b.runCase(ctx, &pair, []*peers.Peer{p, slow}); err != nil {
			return err
		}
		rep.Cases = append(rep.Cases, pair)
		faults = append(faults, judgeBeside(&pair, p.Name, slow.Name, c.Share))
		beside++
	}
	if b.wants("mpgate") && !slices.ContainsFunc(all, func(p *peers.Peer) bool { return p.Name == "mpgate" }) {
		faults = append(faults, fmt.Errorf("mpgate was not tested: %s", b.notBuilt))
	}
	if err := b.finish(rep); err != nil {
		return err
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("selftest failed:\n%w", err)
	}
	fmt.Printf("selftest passed: equal proxies cost the same, %v of CPU time in each request and a burner beside %d proxies show in the figures\n", c.Burn, beside)
	return nil
}

// judgeSlowed: two equal proxies differ by less than a quarter, and the slowed one costs what it
// wastes more, within a quarter of that.
func judgeSlowed(c *result.Case, burn time.Duration) error {
	plain, again, slowed := c.Entry("stdlib"), c.Entry("stdlib again"), c.Entry("stdlib slowed")
	for _, e := range []*result.Entry{plain, again, slowed} {
		if e.CPU().N == 0 {
			return fmt.Errorf("%s: no valid round: %s %v", e.Proxy, e.Failed, e.Invalid())
		}
	}
	var faults []error
	if r := again.CPURatio(plain).Median; r < 0.75 || r > 1.25 {
		faults = append(faults, fmt.Errorf("two equal proxies: ratio %.2f; want 0.75 to 1.25", r))
	}
	more, want := slowed.CPU().Median-plain.CPU().Median, float64(burn)/1e3
	if more < 0.75*want || more > 1.5*want {
		faults = append(faults, fmt.Errorf("the slowed proxy costs %s us a request more; want the %s that it wastes, from -25 to +50 %%",
			figures.Micros(more), figures.Micros(want)))
	}
	return errors.Join(faults...)
}

// judgeBeside: the burner's share of a CPU, divided by the requests in that time, shows in the cost
// of a request.
func judgeBeside(c *result.Case, plain, slow string, share float64) error {
	p, s := c.Entry(plain), c.Entry(slow)
	for _, e := range []*result.Entry{p, s} {
		if e.CPU().N == 0 {
			return fmt.Errorf("%s: no valid round: %s %v", e.Proxy, e.Failed, e.Invalid())
		}
	}
	want := share * 1e6 / s.Rate().Median
	more := s.CPU().Median - p.CPU().Median
	// On a busy machine the burner does not get all of its share.
	if more < 0.3*want || s.CPURatio(p).Median <= 1.02 {
		return fmt.Errorf("%s costs %s us a request more than %s (ratio %.2f); the burner alone is worth about %s",
			slow, figures.Micros(more), plain, s.CPURatio(p).Median, figures.Micros(want))
	}
	return nil
}
