package systemd

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/need"
)

const (
	suite = "trixie"
	// include is what a machine has beside the essential packages.
	include = "systemd,systemd-sysv,iproute2,dbus"
	// buildTime bounds the building of the root file system.
	buildTime = 10 * time.Minute
)

// needMachines skips the test where machines cannot be booted; where CI=true it fails.
func needMachines(t testing.TB) {
	t.Helper()
	need.Root(t, "booting systemd")
	need.Program(t, "unshare", "util-linux")
	need.Program(t, "nsenter", "util-linux")
	need.Program(t, "mmdebstrap", "mmdebstrap")
}

// Root is the directory of the root file system, which is built once and kept in the user's cache.
// It is not to be written to.
func Root(t testing.TB) string {
	t.Helper()
	needMachines(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	// Another list of packages is another root.
	sum := sha256.Sum256([]byte(include))
	dir := filepath.Join(cache, "mpgate-test", fmt.Sprintf("%s-%x", suite, sum[:4]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() // which gives the lock back
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	building := dir + ".building"
	if err := os.RemoveAll(building); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	args := []string{"--quiet", "--variant=minbase", "--include=" + include, suite, building}
	if m := mirror(); m != "" {
		args = append(args, m)
	}
	if out, err := exec.CommandContext(ctx, "mmdebstrap", args...).CombinedOutput(); err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	if err := os.Rename(building, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mirror is the one that this host uses; "" for Debian's own.
func mirror() string {
	if b, err := os.ReadFile("/etc/apt/sources.list.d/debian.sources"); err == nil {
		for _, line := range strings.Split(string(b), "\n") {
			if uris, ok := strings.CutPrefix(line, "URIs:"); ok {
				return strings.Fields(uris + " ")[0]
			}
		}
	}
	if b, err := os.ReadFile("/etc/apt/sources.list"); err == nil {
		for _, line := range strings.Split(string(b), "\n") {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "deb" && strings.HasPrefix(f[1], "http") {
				return f[1]
			}
		}
	}
	return ""
}
