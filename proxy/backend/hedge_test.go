package backend

import (
	"testing"
	"time"
)

func TestTimeClasses(t *testing.T) {
	last := -1
	for d := time.Microsecond; d < 4*time.Hour; d += max(time.Microsecond, d/50) {
		c := timeClass(d)
		if c < last || c >= timeClasses {
			t.Fatalf("%v is in class %d after %d", d, c, last)
		}
		last = c
		if end := classEnd(c); c < timeClasses-1 && (end <= d || end > d+d/timeSteps+time.Microsecond) {
			t.Fatalf("the class of %v ends at %v", d, end)
		}
	}
	if timeClass(-1) != 0 || timeClass(1<<62) != timeClasses-1 {
		t.Error("times out of range have no class")
	}
}

func TestQuantile(t *testing.T) {
	var r responseTimes
	note := func(n int, d time.Duration) {
		for range n {
			r.note(d)
		}
	}
	near := func(want time.Duration) {
		t.Helper()
		if got := r.quantile(0.95); got < want || got > want+want/timeSteps+time.Microsecond {
			t.Errorf("got %v, want about %v", got, want)
		}
	}
	note(minTimes-1, time.Millisecond)
	if got := r.quantile(0.95); got != 0 {
		t.Errorf("got %v from too few times", got)
	}
	note(96, 20*time.Millisecond)
	note(5, 220*time.Millisecond)
	near(20 * time.Millisecond)
	note(20, 220*time.Millisecond)
	near(220 * time.Millisecond)
	// What was is forgotten, but not down to nothing.
	for range 60 {
		note(50, 40*time.Millisecond)
		r.quantile(0.95)
	}
	near(40 * time.Millisecond)
	for range 600 {
		r.quantile(0.95)
	}
	near(40 * time.Millisecond)
	if n := testing.AllocsPerRun(100, func() { r.note(time.Second) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Second copies have no minimum, and share the count of requests with the retries.
func TestHedgeBudgetIsAShare(t *testing.T) {
	var requests budget
	h := budget{unfloored: true, requestsOf: &requests}
	at := func(second int) time.Time { return epoch.Add(time.Duration(second) * time.Second) }
	h.tick(at(100))
	if h.take(0.05, at(100)) {
		t.Error("a copy without a request")
	}
	requests.requests.Add(1000)
	took := 0
	for h.take(0.05, at(101)) {
		took++
	}
	if took != 50 {
		t.Errorf("%d copies of 1000 requests, want 50", took)
	}
	if h.take(0.05, at(101+budgetWindow)) {
		t.Error("a copy for requests of long ago")
	}
}
