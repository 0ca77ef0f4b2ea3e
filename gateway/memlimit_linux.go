package gateway

import (
	"bytes"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// cgroupRoot is where control groups are (version 2).
const cgroupRoot = "/sys/fs/cgroup"

// FollowCgroup keeps the heap below nine tenths of the memory that the control group may use (MemoryHigh= and
// MemoryMax= of a unit, --memory of a container), unless GOMEMLIMIT says another limit. It gives the limit, 0 where
// there is none.
func FollowCgroup() int64 {
	if os.Getenv("GOMEMLIMIT") != "" {
		return 0
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	limit := memoryLimit(cgroupRoot, own)
	if limit == 0 {
		debug.SetMemoryLimit(math.MaxInt64)
		return 0
	}
	limit = limit / 10 * 9
	debug.SetMemoryLimit(limit)
	return limit
}

// memoryLimit is the smallest of the group's own limits and those of the groups above it. own is /proc/self/cgroup.
func memoryLimit(root string, own []byte) (limit int64) {
	for _, line := range bytes.Split(own, []byte("\n")) {
		dir, ok := strings.CutPrefix(string(line), "0::")
		if !ok {
			continue
		}
		for dir = path.Clean("/" + dir); ; dir = path.Dir(dir) {
			for _, file := range []string{"memory.max", "memory.high"} {
				text, err := os.ReadFile(path.Join(root, dir, file))
				if err != nil {
					continue
				}
				n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" is none
				if err == nil && n > 0 && (limit == 0 || n < limit) {
					limit = n
				}
			}
			if dir == "/" {
				return limit
			}
		}
	}
	return 0
}
