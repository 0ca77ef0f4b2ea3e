package netio

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// Each step is a wait of one direction that brought so many bytes; the last one is too slow, or
// not.
func TestPaceOfBothDirections(t *testing.T) {
	const window, rate = time.Hour, 100
	enough := int(window.Seconds()) * rate
	type step struct {
		writes bool
		waited time.Duration
		bytes  int
	}
	up := func(waited time.Duration, n int) step { return step{false, waited, n} }
	down := func(waited time.Duration, n int) step { return step{true, waited, n} }
	for name, tt := range map[string]struct {
		steps []step
		slow  bool
	}{
		"one of them alone":                        {[]step{up(window, 1)}, true},
		"a trickle, below a source that is slow":   {[]step{down(time.Second, 1), up(window, 1)}, false},
		"silence, below a source that is slow":     {[]step{down(time.Second, 1), up(window, 0)}, false},
		"a trickle, below one that is fast":        {[]step{down(window, enough), up(window, 1)}, false},
		"a trickle both ways":                      {[]step{down(time.Second, 1), up(window, 1), down(window, 1)}, true},
		"silence below a trickle":                  {[]step{down(time.Second, 1), up(window, 1), down(window, 0)}, true},
		"a trickle that became fast":               {[]step{down(time.Second, 1), up(window, 1), up(window, enough), down(window, 1)}, false},
		"the same within a window":                 {[]step{down(time.Second, 1), up(window, 1), up(window/2, enough), down(window, 1)}, false},
		"a trickle that is a little faster":        {[]step{down(time.Second, 1), up(window, 1), up(window/2, enough/2), down(window, 1)}, true},
		"a trickle both ways, after both was fast": {[]step{down(window, enough), up(window, enough), up(window, 1), down(window, 1)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var uploaded, downloaded Progress
			reads := Pace{Window: window, MinRate: rate, Own: &uploaded, Other: &downloaded}
			writes := Pace{Window: window, MinRate: rate, Own: &downloaded, Other: &uploaded}
			for i, s := range tt.steps {
				p := &reads
				if s.writes {
					p = &writes
				}
				err := p.Wait(s.waited, s.bytes)
				if slow := i == len(tt.steps)-1 && tt.slow; errors.Is(err, os.ErrDeadlineExceeded) != slow {
					t.Errorf("step %d: %v", i, err)
				}
			}
		})
	}
}

// Where no rate is wanted, nothing is too slow that moves.
func TestPaceWithoutARate(t *testing.T) {
	var uploaded, downloaded Progress
	reads := Pace{Window: time.Hour, Own: &uploaded, Other: &downloaded}
	writes := Pace{Window: time.Hour, Own: &downloaded, Other: &uploaded}
	for _, n := range []int{1, 0, 1} {
		if err := errors.Join(reads.Wait(time.Hour, 1), writes.Wait(time.Hour, n)); err != nil {
			t.Error(err)
		}
	}
}

func TestShortWriteInReadHonoursThePace(t *testing.T) {
	c, _ := pair(t)
	c.SetPace(Pace{Window: 50 * time.Millisecond, MinRate: 1})
	// On a busy machine the kernel moves what it was stuffed with late, and there is room again:
	// then the read waits for its own deadline, and it is tried once more.
	for range 20 {
		stuff(t, c)
		send(t, c, "stuck")
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		var b Buffer
		err := c.Fill(&b)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want a deadline error", err)
		}
		if strings.Contains(err.Error(), "bytes a second") {
			return
		}
	}
	t.Error("the pace never ended a read")
}

func TestPaceEndsATricklingReader(t *testing.T) {
	c, peer := pair(t)
	_ = peer.SetReadBuffer(4 << 10)
	c.SetPace(Pace{Window: 100 * time.Millisecond, MinRate: 1 << 30})
	go func() { // takes something all the time, and far too little
		buf := make([]byte, 1<<10)
		for {
			if _, err := peer.Read(buf); err != nil {
				return
			}
		}
	}()
	_, err := c.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "bytes a second over 100ms") {
		t.Fatalf("got %v, want an error that names the rate", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the error of a write must stick, got %v", err)
	}
}
