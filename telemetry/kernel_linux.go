package telemetry

import (
	"bytes"
	"os"
	"strconv"
)

// kernelMPTCP reads the MPTcpExt lines of /proc/net/netstat: counters of the whole network
// namespace, other programs' connections included. The set of counters depends on the kernel;
// without MPTCP it is empty.
func kernelMPTCP(f func(name string, value uint64)) error {
	text, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return err
	}
	parseNetstat(text, "MPTcpExt:", f)
	return nil
}

// parseNetstat calls f for each pair of a name and a value under a heading, which begins two lines:
// the names, then the values.
func parseNetstat(text []byte, heading string, f func(name string, value uint64)) {
	var names [][]byte
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(heading))
		if !ok {
			continue
		}
		if names == nil {
			names = bytes.Fields(rest)
			continue
		}
		for i, v := range bytes.Fields(rest) {
			if n, err := strconv.ParseUint(string(v), 10, 64); err == nil && i < len(names) {
				f(string(names[i]), n)
			}
		}
		return
	}
}
