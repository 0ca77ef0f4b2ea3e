// Package need skips tests on hosts that lack what they need. Where CI=true that is a failure: CI
// has all of it.
package need

import (
	"os"
	"os/exec"
)

// T is a test or a benchmark.
type T interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// CI reports whether no test may be skipped because of its host.
func CI() bool { return os.Getenv("CI") == "true" }

// Missing ends a test whose host lacks something. The message says what, and how to get it.
func Missing(t T, format string, args ...any) {
	t.Helper()
	if CI() {
		t.Fatalf("must not be skipped in CI: "+format, args...)
	} else {
		t.Skipf(format, args...)
	}
}

// Program returns the path of a program that a test runs. pkg is its Debian package.
func Program(t T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "%s is not installed (Debian: apt install %s)", name, pkg)
	}
	return path
}

// Root ends a test that does not run as root. what is what root is needed for.
func Root(t T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "%s needs root", what)
	}
}
