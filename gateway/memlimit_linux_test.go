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
	const own = "1:name=x:/other\n0::/system.slice/mpgate.service\n"
	for _, c := range []struct {
		dir, file, text string
		want            int64
	}{
		{"system.slice/mpgate.service", "memory.max", "max", 0},
		{"system.slice", "memory.max", "1073741824", 1 << 30},
		{"system.slice/mpgate.service", "memory.max", "2147483648", 1 << 30},
		{"system.slice/mpgate.service", "memory.high", "536870912", 1 << 29},
		{"other", "memory.max", "4096", 1 << 29},
		{".", "memory.max", "4096000", 4096000},
	} {
		write(c.dir, c.file, c.text)
		if got := memoryLimit(root, []byte(own)); got != c.want {
			t.Errorf("with %s of %s = %s: %d, want %d", c.file, c.dir, c.text, got, c.want)
		}
	}
	if got := memoryLimit(root, []byte("1:name=x:/other\n")); got != 0 {
		t.Errorf("without a group of version 2: %d", got)
	}
}

func TestFollowCgroup(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "")
	got := FollowCgroup()
	is := debug.SetMemoryLimit(-1)
	if got == 0 && is != math.MaxInt64 || got != 0 && is != got {
		t.Errorf("it says %d, and the limit is %d", got, is)
	}
	debug.SetMemoryLimit(12345678)
	t.Setenv("GOMEMLIMIT", "12345678")
	if FollowCgroup() != 0 || debug.SetMemoryLimit(-1) != 12345678 {
		t.Error("GOMEMLIMIT does not have the last word")
	}
}
