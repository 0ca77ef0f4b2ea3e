package gateway

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// memoryGroup is the control group, of this process or one above it, whose memory is limited the
// most.
type memoryGroup struct {
	limit       int64
	usage, stat *os.File // open, for there may be no descriptor left when they are needed
	cached      []string // fields of stat: what the kernel can take back at any time
	sockets     bool     // usage has the kernel's buffers of sockets in it
}

// hierarchy is a tree of control groups that has the limits of memory.
type hierarchy struct {
	root, at string // what of the tree is mounted, and where
	limits   []string
	usage    string
	cached   []string
	sockets  bool
}

// FollowCgroup keeps the heap below three quarters of the memory that the control group may use
// (MemoryHigh= and MemoryMax= of a unit, --memory of a container), unless GOMEMLIMIT says another
// limit. It gives the group's limit, 0 where there is none. The kernel's part for sockets counts
// for the group, too.
func FollowCgroup() int64 {
	g := openMemoryGroup()
	if g == nil {
		if os.Getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(math.MaxInt64)
		}
		return 0
	}
	defer g.close()
	g.limitHeap(0)
	return g.limit
}

// openMemoryGroup gives nil where no memory is limited.
func openMemoryGroup() *memoryGroup {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	root := "/"
	// Where they are hidden from the process, as by ip netns exec, one that started it may see
	// them.
	for pid := os.Getppid(); pid > 0 && !bytes.Contains(mounts, []byte(" - cgroup")); pid = parentOf(pid) {
		root = fmt.Sprintf("/proc/%d/root", pid)
		if mounts, err = os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid)); err != nil {
			return nil
		}
	}
	return findMemoryGroup(mounts, own, root)
}

// parentOf gives the process that started another; 0: none that is seen.
func parentOf(pid int) (parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscanf(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " %c %d", new(rune), &parent)
	return parent
}

// findMemoryGroup looks through the control groups of a process in the mounts below root.
func findMemoryGroup(mounts, own []byte, root string) *memoryGroup {
	var least *memoryGroup
	var dir string
	var of hierarchy
	for line := range bytes.Lines(own) { // ID:controllers:path
		parts := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(parts) != 3 {
			continue
		}
		h, ok := findHierarchy(mounts, parts[1])
		if !ok {
			continue
		}
		h.at = path.Join(root, h.at)
		if limit, at := h.limitOf(parts[2]); limit > 0 && (least == nil || limit < least.limit) {
			least, dir, of = &memoryGroup{limit: limit, cached: h.cached, sockets: h.sockets}, at, h
		}
	}
	if least == nil {
		return nil
	}
	least.usage, _ = os.Open(path.Join(dir, of.usage))
	least.stat, _ = os.Open(path.Join(dir, "memory.stat"))
	return least
}

// findHierarchy finds the mount of the tree with these controllers in /proc/self/mountinfo; "" is
// version 2.
func findHierarchy(mounts []byte, controllers string) (hierarchy, bool) {
	for line := range bytes.Lines(mounts) {
		before, after, ok := strings.Cut(strings.TrimSpace(string(line)), " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		h := hierarchy{root: f[3], at: f[4]}
		switch {
		case controllers == "" && kind[0] == "cgroup2":
			h.limits, h.usage, h.cached = []string{"memory.max", "memory.high"}, "memory.current", []string{"active_file", "inactive_file"}
			h.sockets = true
			return h, true
		case contains(controllers, "memory") && kind[0] == "cgroup" && contains(kind[2], "memory"):
			h.limits, h.usage, h.cached = []string{"memory.limit_in_bytes"}, "memory.usage_in_bytes", []string{"total_active_file", "total_inactive_file"}
			return h, true
		}
	}
	return hierarchy{}, false
}

// contains says whether a list with commas has a word.
func contains(list, word string) bool { return strings.Contains(","+list+",", ","+word+",") }

// limitOf gives the smallest limit of a group and those above it, and the directory of the one that
// has it; 0: none.
func (h *hierarchy) limitOf(group string) (limit int64, dir string) {
	const none = 1 << 60 // version 1 says a number close to 2^63
	below := strings.TrimPrefix(path.Clean("/"+group), strings.TrimSuffix(h.root, "/"))
	for at := path.Join(h.at, below); ; at = path.Dir(at) {
		for _, file := range h.limits {
			text, err := os.ReadFile(path.Join(at, file))
			if err != nil {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" is none
			if err == nil && n > 0 && n < none && (limit == 0 || n < limit) {
				limit, dir = n, at
			}
		}
		if len(at) <= len(h.at) {
			return limit, dir
		}
	}
}

func (g *memoryGroup) close() {
	_ = g.usage.Close()
	_ = g.stat.Close()
}

// used is how much of its memory the group uses that the kernel cannot take back; -1: it does not
// say.
func (g *memoryGroup) used() int64 {
	var buf [8 << 10]byte
	n, _ := g.usage.ReadAt(buf[:], 0)
	used, err := strconv.ParseInt(string(bytes.TrimSpace(buf[:n])), 10, 64)
	if err != nil {
		return -1
	}
	if used < g.limit/2 {
		return used
	}
	n, _ = g.stat.ReadAt(buf[:], 0)
	for line := range bytes.Lines(buf[:n]) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		for _, c := range g.cached {
			if string(name) == c {
				k, _ := strconv.ParseInt(string(value), 10, 64)
				used -= k
			}
		}
	}
	return max(used, 0)
}

// cost is what an exchange may take of the group's memory; 0: the default. A server's answer fills
// the buffer of its socket, 128 KiB, while the client reads nothing.
func (g *memoryGroup) cost() int64 {
	if g.sockets {
		return 224 << 10
	}
	return 0
}

// ceiling is what the group is to use at most: a tenth is left for what comes between two looks.
func (g *memoryGroup) ceiling() int64 { return g.limit / 10 * 9 }

// free is how much more the group may use; below 0 it uses too much.
func (g *memoryGroup) free() int64 {
	used := g.used()
	if used < 0 {
		return math.MaxInt64
	}
	return g.ceiling() - used
}

// limitHeap sets the limit of the Go runtime to what the group leaves beside others' memory, the
// kernel's for our sockets above all, of which used is the whole; 0: not known yet.
func (g *memoryGroup) limitHeap(used int64) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	most := g.limit / 4 * 3
	if used > 0 {
		s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(s)
		others := used - int64(s[0].Value.Uint64()-s[1].Value.Uint64())
		most = min(most, max(g.ceiling()-others, g.limit/4))
	}
	if is := debug.SetMemoryLimit(-1); is == math.MaxInt64 || max(is-most, most-is) > g.limit/32 {
		debug.SetMemoryLimit(most)
	}
}
