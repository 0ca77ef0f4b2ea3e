package procs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Counters are the MPTcpExt counters of this network namespace by their names. The benchmark reads
// them by itself, not through mpgate's package mptcp: what is measured must not be what measures.
type Counters map[string]int64

// ReadCounters reads /proc/net/netstat; a kernel without MPTCP has none, and the map is empty.
func ReadCounters() (Counters, error) {
	text, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return nil, err
	}
	return parseCounters(string(text))
}

func parseCounters(text string) (Counters, error) {
	c := make(Counters)
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "MPTcpExt:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		if len(names) != len(f) {
			return nil, fmt.Errorf("/proc/net/netstat: MPTcpExt has %d names and %d values", len(names)-1, len(f)-1)
		}
		for i := 1; i < len(f); i++ {
			v, err := strconv.ParseInt(f[i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("/proc/net/netstat: MPTcpExt%s (got %q): want a number", names[i], f[i])
			}
			c[names[i]] = v
		}
		names = nil
	}
	return c, nil
}

// Since gives what changed from before to c.
func (c Counters) Since(before Counters) Counters {
	d := make(Counters)
	for name, v := range c {
		if v != before[name] {
			d[name] = v - before[name]
		}
	}
	return d
}

// Fallbacks adds up the counters that say that a connection which began as MPTCP, or asked for it,
// continues as plain TCP. MPCapableFallbackSYNACK (the peer never spoke it) is left to the caller:
// a proxy under mptcpize asks every backend.
func (c Counters) Fallbacks() int64 {
	var n int64
	for _, name := range []string{
		"MPCapableFallbackACK", "MPFallbackTokenInit", "DSSCorruptionFallback", "InfiniteMapTx", "InfiniteMapRx",
		"MPCapableDataFallback", "MD5SigFallback", "DssFallback", "SimultConnectFallback",
		"MPCapableSYNTXDrop", "MPCapableSYNTXDisabled", "Blackhole",
	} {
		n += c[name]
	}
	return n
}
