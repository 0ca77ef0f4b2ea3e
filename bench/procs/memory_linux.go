package procs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory is what a process tree holds: RSS counts shared pages once for each process, PSS once in
// all. Socket buffers are the kernel's and in neither.
type Memory struct{ RSS, PSS int64 }

// ReadMemory adds up root and its descendants.
func ReadMemory(root int) (Memory, error) {
	pids, err := Tree(root)
	if err != nil {
		return Memory{}, err
	}
	var sum Memory
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
		if err != nil {
			return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		m, err := parseRollup(string(text))
		if err != nil {
			return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		sum.RSS += m.RSS
		sum.PSS += m.PSS
	}
	return sum, nil
}

func parseRollup(text string) (Memory, error) {
	m := Memory{RSS: -1, PSS: -1}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("smaps_rollup (got %q): %w", line, err)
		}
		switch f[0] {
		case "Rss:":
			m.RSS = n << 10
		case "Pss:":
			m.PSS = n << 10
		}
	}
	if m.RSS < 0 || m.PSS < 0 {
		return Memory{}, fmt.Errorf("smaps_rollup (got %q): want lines with Rss and Pss", text)
	}
	return m, nil
}
