package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"mpgate/internal/need"
)

// memoryGroup makes a control group with a limit of memory, of whichever version the host has, and
// gives its directory and the file that has its peak. The test is skipped where none can be made.
func memoryGroup(t *testing.T, limit int) (dir, peak string) {
	t.Helper()
	name := fmt.Sprintf("mpgate-test-%d", os.Getpid())
	for _, v := range []struct{ root, max, peak, need string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max", "memory.peak", "cgroup.subtree_control"},
	} {
		if _, err := os.Stat(filepath.Join(v.root, v.need)); err != nil {
			continue
		}
		if v.max == "memory.max" {
			// mostly it is there
			_ = os.WriteFile(filepath.Join(v.root, v.need), []byte("+memory"), 0o644)
		}
		dir := filepath.Join(v.root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		if err := os.WriteFile(filepath.Join(dir, v.max), []byte(strconv.Itoa(limit)), 0o644); err != nil {
			continue
		}
		return dir, filepath.Join(dir, v.peak)
	}
	need.Missing(t, "a control group with a limit of memory needs root")
	return "", ""
}

func readInt(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
