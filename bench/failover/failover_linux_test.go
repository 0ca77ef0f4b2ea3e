package failover

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/internal/lab"
	"mpgate/mptcp/paths"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The number of runs of each kind: 1 shows that it works, 20 make figures.
//
//	MPGATE_CUT_RUNS=20 go test -v -timeout 60m -run TestCut ./bench/failover
func runs(t *testing.T) int {
	s := os.Getenv("MPGATE_CUT_RUNS")
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("MPGATE_CUT_RUNS is no number of runs (got %q)", s)
	}
	return n
}

func TestCut(t *testing.T) {
	lab.NeedRoot(t)
	delay := lab.Path{Delay: 5 * time.Millisecond}
	for _, c := range []struct {
		name string
		o    Options
	}{
		{"link, listener sends", Options{Event: LinkDown, Side: paths.Front}},
		{"link, backend sends", Options{Event: LinkDown, Side: paths.Back}},
		{"silence, listener sends", Options{Event: Silence, Side: paths.Front, Path: delay}},
		{"silence, backend sends", Options{Event: Silence, Side: paths.Back, Path: delay}},
		{"link, listener receives", Options{Event: LinkDown, Side: paths.Front, Receive: true}},
		{"link, backend receives", Options{Event: LinkDown, Side: paths.Back, Receive: true}},
		{"link, routes 20 ms late, backend receives", Options{Event: LinkDown, Side: paths.Back, Receive: true, Late: 20 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Runs = runs(t)
			c.o.Warm, c.o.Away, c.o.After = 1500*time.Millisecond, 1200*time.Millisecond, 1300*time.Millisecond
			c.o.Kernel = c.o.Runs > 1
			c.o.Log = t.Logf
			r, err := Measure(context.Background(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			t.Log("\n" + r.String())
			for i, run := range r.Runs {
				if run.Err != nil {
					t.Errorf("run %d: %v", i+1, run.Err)
				}
				if run.Managed && len(run.Cuts) == 0 {
					t.Errorf("run %d: the manager noticed nothing", i+1)
				}
			}
		})
	}
}

// Paths that lose packets or jitter are not given up. MPGATE_CALM=10m makes figures.
func TestCalm(t *testing.T) {
	lab.NeedRoot(t)
	long := 8 * time.Second
	if s := os.Getenv("MPGATE_CALM"); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatalf("MPGATE_CALM is no duration (got %q)", s)
		}
	}
	for _, c := range []struct {
		name string
		path lab.Path
		// allowed is what a first sudden stall may cost.
		allowed int
	}{
		{"1 % loss", lab.Path{Rate: 20 * lab.Mbit, Delay: 5 * time.Millisecond, Loss: 0.01}, 0},
		{"jitter of 200 ms", lab.Path{Rate: 20 * lab.Mbit, Delay: 5 * time.Millisecond, Jitter: 200 * time.Millisecond, Queue: 2 << 20}, 1},
	} {
		for _, side := range []paths.Side{paths.Front, paths.Back} {
			t.Run(c.name+", "+side.String(), func(t *testing.T) {
				r, err := Measure(context.Background(), Options{Event: Nothing, Side: side, Path: c.path, Warm: time.Second, Away: long, Log: t.Logf})
				if err != nil {
					t.Fatal(err)
				}
				run := r.Runs[0]
				if run.Err != nil {
					t.Error(run.Err)
				}
				// Where the emulator stalled, that path was silent indeed.
				if n := len(run.Cuts) - run.HeldUp; n > c.allowed {
					t.Errorf("%d times a healthy path was given up, %d allowed: %+v", n, c.allowed, run.Cuts)
				}
			})
		}
	}
}
