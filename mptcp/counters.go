package mptcp

import (
	"bytes"
	"fmt"
	"strconv"
)

// Counters are the MPTCP counters of a network namespace by the kernel's names
// without their prefix MPTcpExt: "MPCapableSYNTXDisabled", "Blackhole",
// "MPJoinSynRx" … Which there are depends on the kernel; one that it does not
// know is absent.
type Counters map[string]uint64

// parseCounters reads the text of /proc/net/netstat: pairs of lines, the first with
// names, the second with values.
func parseCounters(text []byte) (Counters, error) {
	names, values, err := netstatLines(text)
	if err != nil {
		return nil, err
	}
	c := make(Counters, 80)
	for len(names) > 0 && len(values) > 0 {
		var name, value []byte
		name, names = nextWord(names)
		value, values = nextWord(values)
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("netstat: MPTcpExt%s is not a number (got %q)", name, value)
		}
		c[string(name)] = n
	}
	return c, nil
}

// netstatLines finds the two lines of MPTcpExt.
func netstatLines(text []byte) (names, values []byte, err error) {
	prefix := []byte("MPTcpExt: ")
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, prefix)
		switch {
		case !ok:
		case names == nil:
			names = bytes.TrimSpace(rest)
		default:
			return names, bytes.TrimSpace(rest), nil
		}
	}
	return nil, nil, fmt.Errorf("netstat: no MPTcpExt lines: this kernel has no MPTCP")
}

func nextWord(b []byte) (word, rest []byte) {
	word, rest, _ = bytes.Cut(b, []byte(" "))
	return word, rest
}

// sumOf adds up the counters of those names without making a map.
func sumOf(text []byte, wanted ...string) uint64 {
	names, values, err := netstatLines(text)
	if err != nil {
		return 0
	}
	var sum uint64
	for len(names) > 0 && len(values) > 0 {
		var name, value []byte
		name, names = nextWord(names)
		value, values = nextWord(values)
		for _, w := range wanted {
			if string(name) == w {
				n, _ := strconv.ParseUint(string(value), 10, 64)
				sum += n
			}
		}
	}
	return sum
}
