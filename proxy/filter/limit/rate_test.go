package limit

import (
	"strings"
	"testing"
	"time"

	"mpgate/telemetry"
)

func TestRateFields(t *testing.T) {
	l := New(Options{Rate: Rate{10, time.Minute}, Burst: 2, Policy: "limit-2"})
	for i, want := range []struct {
		done                bool
		state, after, limit string
	}{
		{false, `"limit-2";r=1;t=6`, "", ""},
		{false, `"limit-2";r=0;t=6`, "", ""},
		{true, `"limit-2";r=0;t=6`, "6", ""},
		{true, `"limit-2";r=0;t=6`, "6", ""},
	} {
		r := request("192.0.2.1")
		if done := l.FilterRequest(r); done != want.done {
			t.Errorf("request %d: done %v", i, done)
		}
		if want.done && (r.Answer.Status != 429 || r.Answer.End != telemetry.EndLimited) {
			t.Errorf("request %d: %+v", i, r.Answer)
		}
		for name, value := range map[string]string{
			"RateLimit": want.state, "RateLimit-Policy": `"limit-2";q=2;w=12`, "Retry-After": want.after,
		} {
			if got := field(r, name); got != value {
				t.Errorf("request %d: %s is %q, want %q", i, name, got, value)
			}
		}
		l.FilterEnd(r)
	}
	other := request("192.0.2.2")
	if l.FilterRequest(other) {
		t.Error("another client was refused")
	}
}

// The clock of a bucket, without waiting.
func TestRate(t *testing.T) {
	l := newRate(Rate{10, time.Second}, 3, "limit", nil)
	k := l.hash([]byte("a"))
	now := l.epoch
	take := func(after time.Duration) (state, bool) {
		now = now.Add(after)
		return l.take(k, now)
	}
	for i, tt := range []struct {
		after time.Duration
		ok    bool
		left  int64
		wait  time.Duration
	}{
		{0, true, 2, 100 * time.Millisecond},
		{0, true, 1, 100 * time.Millisecond},
		{0, true, 0, 100 * time.Millisecond},
		{0, false, 0, 100 * time.Millisecond},
		{99 * time.Millisecond, false, 0, time.Millisecond},
		{time.Millisecond, true, 0, 100 * time.Millisecond},
		{50 * time.Millisecond, false, 0, 50 * time.Millisecond},
		{250 * time.Millisecond, true, 2, 100 * time.Millisecond}, // full again
		{-time.Millisecond, true, 0, time.Millisecond},            // the clock of another goroutine
		{101 * time.Millisecond, true, 1, 100 * time.Millisecond},
	} {
		s, ok := take(tt.after)
		if ok != tt.ok || s.left != tt.left || s.wait != tt.wait {
			t.Errorf("%d: got %v, %+v, want %+v", i, ok, s, tt)
		}
	}
}

// The most extreme rates do not overflow.
func TestExtremeRates(t *testing.T) {
	for _, o := range []Options{
		{Rate: Rate{1_000_000_000, time.Second}, Burst: 1_000_000_000},
		{Rate: Rate{1, time.Hour}, Burst: 1_000_000_000},
		{Rate: Rate{1_000_000_000, time.Hour}, Burst: 1},
		{Rate: Rate{1, time.Hour}},
	} {
		l := New(o)
		r := request("192.0.2.1")
		if l.FilterRequest(r) {
			t.Errorf("%+v refuses the first request", o.Rate)
		}
		for _, name := range []string{"RateLimit", "RateLimit-Policy"} {
			if v := field(r, name); v == "" || strings.Contains(v, "-1") || strings.Contains(v, "=-") {
				t.Errorf("%+v: %s is %q", o.Rate, name, v)
			}
		}
	}
}

// The fields say what the rate is, also where the time of a bucket is not whole seconds.
func TestRatePolicy(t *testing.T) {
	for _, c := range []struct {
		rate  Rate
		burst int
		want  string
	}{
		{Rate{30, time.Second}, 50, "q=60;w=2"},
		{Rate{30, time.Second}, 1, "q=30;w=1"},
		{Rate{30, time.Second}, 30, "q=30;w=1"},
		{Rate{100, time.Minute}, 100, "q=100;w=60"},
		{Rate{1, time.Hour}, 3, "q=3;w=10800"},
		{Rate{7, time.Second}, 3, "q=7;w=1"},
		{Rate{1 << 40, time.Nanosecond}, 1 << 60, "q=999999999999999;w=1152921505"},
	} {
		l := newRate(c.rate, c.burst, "limit", nil)
		if got, want := string(l.policy), `"limit";`+c.want; got != want {
			t.Errorf("%v with a burst of %d: %s, want %s", c.rate, c.burst, got, want)
		}
	}
	l := newRate(Rate{10, time.Minute}, 100, "limit", nil)
	for i, want := range []string{"r=99;t=6", "r=98;t=6", "r=97;t=4"} {
		s, _ := l.take(1, l.epoch.Add(time.Duration(i/2)*2*time.Second))
		if got := string(l.appendState(nil, s)); got != `"limit";`+want {
			t.Errorf("request %d: %s, want %s", i, got, want)
		}
	}
}

func BenchmarkRate(b *testing.B) {
	l := New(Options{Rate: Rate{1_000_000_000, time.Second}})
	r := request("2001:db8::1")
	for b.Loop() {
		l.FilterRequest(r)
		r.Fields.Reset()
	}
}
