package lab

import (
	"context"

	"mpgate/internal/need"
)

// T is the part of testing.TB that this package needs, so that the benchmarks
// do not link package testing.
type T interface {
	Helper()
	Cleanup(func())
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// NeedRoot skips a test that cannot have a lab, saying why; where CI=true that
// is a failure.
func NeedRoot(t T) {
	t.Helper()
	if err := capable(); err != nil {
		need.Missing(t, "%v", err)
	}
}

// Start builds a lab that ends with the test.
func Start(t T, spec Spec) *Lab {
	t.Helper()
	NeedRoot(t)
	l, err := New(context.Background(), spec)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return l
}
