//go:build linux

package main

import (
	"slices"
	"strings"
	"time"

	"mpgate/bench/figures"
	"mpgate/bench/load"
	"mpgate/bench/result"
)

const loadPackage = load.WrkPackage

var transports = map[string]result.Transport{"tcp": result.TCP, "mptcp-front": result.MPTCPFront, "mptcp-both": result.MPTCPBoth}

// check finds what no run could do, before anything is started.
func (o *options) check() error {
	if o.Quick {
		o.Rounds, o.Round, o.Warmup = 3, time.Second, time.Second
	}
	switch {
	case o.Rounds < 1:
		return usageErrorf("--rounds (got %d); want 1 or more", o.Rounds)
	case o.Round < time.Second || o.Round%time.Second != 0:
		return usageErrorf("--round (got %v); want whole seconds, as wrk does", o.Round)
	case o.Warmup < time.Second || o.Warmup%time.Second != 0:
		return usageErrorf("--warmup (got %v); want whole seconds, as wrk does", o.Warmup)
	case o.Connections < 1 || o.Connections > 10000:
		return usageErrorf("--connections (got %d); want 1 to 10000", o.Connections)
	case o.Quick && o.chosen():
		return usageErrorf("--quick has cases of its own: leave out --body, --transport, --log, --close, --tls and --h2")
	case (len(o.ProxyCPUs) == 0) != (len(o.LoadCPUs) == 0):
		return usageErrorf("--proxy-cpus and --load-cpus go together")
	}
	for _, name := range o.Only {
		if !slices.Contains(allProxies, name) {
			return usageErrorf("--only (got %q); want %s", name, strings.Join(allProxies, ", "))
		}
	}
	_, err := o.cases()
	return err
}

var allProxies = []string{"mpgate", "against", "nginx", "haproxy", "caddy", "stdlib"}

// streams that a connection of HTTP/2 has under way at once.
const streams = 8

// makeBulk makes a case of HTTP/2 one of a single connection with a single stream, which carries
// large answers one after the other.
func makeBulk(c *result.Case) {
	c.Protocol, c.Streams, c.Body = "h2 tls", 1, 16<<20
}

// chosen says that the flags name the cases.
func (o *options) chosen() bool {
	return len(o.Body)+len(o.Transport)+len(o.Log)+len(o.Close)+len(o.TLS)+len(o.H2) > 0
}

// cases are the workloads to run, in order, without entries.
func (o *options) cases() ([]result.Case, error) {
	if o.chosen() {
		return o.product()
	}
	kib := func(n int64, t result.Transport) result.Case {
		return result.Case{Protocol: "h1", Body: n << 10, Transport: t}
	}
	logged, closing, tls := kib(1, result.TCP), kib(1, result.TCP), kib(1, result.TCP)
	h2 := kib(1, result.TCP)
	h2.Protocol, h2.Streams = "h2 tls", streams
	logged.Log, closing.Close, tls.Protocol = true, true, "h1 tls"
	list := []result.Case{kib(1, result.TCP), logged, kib(1, result.MPTCPBoth), kib(100, result.TCP)}
	if !o.Quick {
		bulk := h2
		makeBulk(&bulk)
		list = append(list, kib(1, result.MPTCPFront), kib(100, result.MPTCPBoth), kib(10<<10, result.TCP), tls, h2, bulk, closing)
	}
	return list, nil
}

// product is every combination of what the flags name.
func (o *options) product() ([]result.Case, error) {
	var sizes []int64
	for _, s := range orDefault(o.Body, "1KiB") {
		n, err := figures.ParseSize(s)
		if err != nil {
			return nil, usageErrorf("--body: %w", err)
		}
		if n > 16<<20 {
			return nil, usageErrorf("--body (got %q); want at most 16MiB", s)
		}
		sizes = append(sizes, n)
	}
	list := []result.Case{{}}
	var err error
	each := func(flag string, values []string, set func(c *result.Case, v string) bool, want string) {
		var next []result.Case
		for _, c := range list {
			for _, v := range values {
				if !set(&c, v) && err == nil {
					err = usageErrorf("--%s (got %q); want %s", flag, v, want)
				}
				next = append(next, c)
			}
		}
		list = next
	}
	choice := func(field func(*result.Case) *bool, on, off string) func(*result.Case, string) bool {
		return func(c *result.Case, v string) bool { *field(c) = v == on; return v == on || v == off }
	}
	each("tls", orDefault(o.TLS, "off"), func(c *result.Case, v string) bool {
		c.Protocol = map[string]string{"off": "h1", "on": "h1 tls"}[v]
		return c.Protocol != ""
	}, "off or on")
	each("h2", orDefault(o.H2, "off"), func(c *result.Case, v string) bool {
		if v == "on" {
			c.Protocol, c.Streams = "h2 tls", streams
		}
		if v == "bulk" {
			makeBulk(c)
		}
		return v == "on" || v == "off" || v == "bulk"
	}, "off, on or bulk")
	each("transport", orDefault(o.Transport, "tcp"), func(c *result.Case, v string) bool {
		c.Transport = transports[v]
		return c.Transport != ""
	}, "tcp, mptcp-front or mptcp-both")
	each("close", orDefault(o.Close, "keepalive"), choice(func(c *result.Case) *bool { return &c.Close }, "close", "keepalive"), "keepalive or close")
	each("log", orDefault(o.Log, "off"), choice(func(c *result.Case) *bool { return &c.Log }, "file", "off"), "off or file")
	var all []result.Case
	for _, n := range sizes {
		for _, c := range list {
			if c.Streams != 1 {
				c.Body = n
			}
			all = append(all, c)
		}
	}
	return all, err
}

func orDefault(values []string, def string) []string {
	if len(values) == 0 {
		return []string{def}
	}
	return values
}
