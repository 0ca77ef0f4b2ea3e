package gateway

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	root := t.TempDir()
	write := func(dir, file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, file), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mounts := []byte("24 20 0:21 / " + root + "/one rw,nosuid - cgroup cgroup rw,memory\n" +
		"25 20 0:22 / " + root + "/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"26 20 0:23 /outer " + root + "/two rw shared:9 - cgroup2 cgroup rw,nsdelegate\n")
	for _, c := range []struct {
		controllers, group, dir, file, text string
		want                                int64
	}{
		{"", "/outer/system.slice/mpgate.service", "two/system.slice/mpgate.service", "memory.max", "max", 0},
		{"", "/outer/system.slice/mpgate.service", "two/system.slice", "memory.max", "1073741824", 1 << 30},
		{"", "/outer/system.slice/mpgate.service", "two/system.slice/mpgate.service", "memory.max", "2147483648", 1 << 30},
		{"", "/outer/system.slice/mpgate.service", "two/system.slice/mpgate.service", "memory.high", "536870912", 1 << 29},
		{"", "/outer/system.slice/mpgate.service", "two/other", "memory.max", "4096", 1 << 29},
		{"", "/outer/system.slice/mpgate.service", "two", "memory.max", "4096000", 4096000},
		{"memory", "/box", "one/box", "memory.limit_in_bytes", "9223372036854771712", 0},
		{"memory", "/box", "one/box", "memory.limit_in_bytes", "100663296", 96 << 20},
		{"cpu,cpuacct", "/box", "cpu/box", "memory.limit_in_bytes", "4096", -1},
		{"memory", "/not/seen/from/here", "one", "memory.limit_in_bytes", "104857600", 100 << 20},
	} {
		write(c.dir, c.file, c.text)
		h, ok := findHierarchy(mounts, c.controllers)
		if !ok {
			if c.want >= 0 {
				t.Errorf("no tree of %q", c.controllers)
			}
			continue
		}
		if got, at := h.limitOf(c.group); got != c.want || got != 0 && at == "" {
			t.Errorf("with %s of %s = %s: %d at %q, want %d", c.file, c.dir, c.text, got, at, c.want)
		}
	}
}

func TestMemoryUsed(t *testing.T) {
	dir := t.TempDir()
	open := func(name, text string) *os.File {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	g := &memoryGroup{limit: 1000, usage: open("usage", "950\n"), stat: open("stat", "anon 500\ninactive_file 100\nactive_file 50\n"), cached: []string{"active_file", "inactive_file"}}
	defer g.close()
	if used, free := g.used(), g.free(); used != 800 || free != 100 {
		t.Errorf("%d used, %d free; want 800 without what is cached, and 100", used, free)
	}
	open("usage", "").Close()
	if used, free := g.used(), g.free(); used != -1 || free != math.MaxInt64 {
		t.Errorf("%d used, %d free of a group that does not say", used, free)
	}
}

func TestFollowCgroup(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "")
	got := FollowCgroup()
	is := debug.SetMemoryLimit(-1)
	if got == 0 && is != math.MaxInt64 || got != 0 && is != got/4*3 {
		t.Errorf("it says %d, and the limit is %d", got, is)
	}
	debug.SetMemoryLimit(12345678)
	t.Setenv("GOMEMLIMIT", "12345678")
	if FollowCgroup() != 0 || debug.SetMemoryLimit(-1) != 12345678 {
		t.Error("GOMEMLIMIT does not have the last word")
	}
}
