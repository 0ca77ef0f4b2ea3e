package figures

import (
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3, 1}},
		{[]float64{9, 1, 5}, Spread{5, 1, 9, 3}},
		{[]float64{4, 1, 3, 2}, Spread{2.5, 1, 4, 4}},
	} {
		if got := Of(c.in); got != c.want {
			t.Errorf("Of(%v) = %+v, want %+v", c.in, got, c.want)
		}
	}
	in := []float64{2, 1}
	Of(in)
	if in[0] != 2 {
		t.Error("Of sorted the caller's slice: rounds would lose their order")
	}
	if w := Of([]float64{9, 10, 11}).Width(); w != 0.2 {
		t.Errorf("Width = %v, want 0.2", w)
	}
}

// A machine that becomes half as fast between rounds must not change a paired ratio.
func TestPairedCancelsDrift(t *testing.T) {
	a := map[int]float64{0: 10, 1: 20, 2: 40}
	b := map[int]float64{0: 20, 1: 40, 2: 80, 3: 1}
	if got := Paired(a, b); got != (Spread{0.5, 0.5, 0.5, 3}) {
		t.Errorf("Paired = %+v, want 0.5 in three rounds: round 3 has no partner", got)
	}
	if got := Paired(a, map[int]float64{0: 0}); got.N != 0 {
		t.Errorf("Paired divided by zero: %+v", got)
	}
}

func TestHistogramBuckets(t *testing.T) {
	for v := uint64(0); v < 1<<20; v = v*9/8 + 1 {
		i := bucket(v)
		if up := upper(i); up < v || float64(up) > float64(v)*1.02+1 {
			t.Fatalf("%d falls into bucket %d, which ends at %d", v, i, up)
		}
		if bucket(upper(i)) != i || bucket(upper(i)+1) != i+1 {
			t.Fatalf("bucket %d and its bound %d disagree", i, upper(i))
		}
	}
}

func TestHistogramPercentile(t *testing.T) {
	var a, b Histogram
	for i := 1; i <= 1000; i++ {
		h := &a
		if i%2 == 0 {
			h = &b
		}
		h.Record(time.Duration(i) * time.Millisecond)
	}
	a.Add(&b)
	for _, c := range []struct {
		p    float64
		want time.Duration
	}{{50, 500 * time.Millisecond}, {99, 990 * time.Millisecond}, {99.9, 999 * time.Millisecond}, {100, time.Second}} {
		got := a.Percentile(c.p)
		if got < c.want || float64(got) > float64(c.want)*1.02 {
			t.Errorf("p%v = %v, want %v within 2 %%", c.p, got, c.want)
		}
	}
	var none Histogram
	none.Record(-time.Second)
	if none.Percentile(50) != 0 || (&Histogram{}).Percentile(99) != 0 {
		t.Error("an empty or negative histogram must answer 0")
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{"1KiB": 1024, "10 MiB": 10 << 20, "512": 512} {
		got, err := ParseSize(in)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1", "1KB", "2000MiB", "9223372036854775807KiB"} {
		_, err := ParseSize(in)
		want := `size (got "` + in + `"); want a number of bytes such as 512, 1KiB or 10MiB, at most 1024MiB`
		if err == nil || err.Error() != want {
			t.Errorf("ParseSize(%q): %v\nwant %s", in, err, want)
		}
	}
	for in, want := range map[int64]string{1 << 10: "1 KiB", 100 << 10: "100 KiB", 10 << 20: "10 MiB", 1000: "1000 B"} {
		if got := Size(in); got != want {
			t.Errorf("Size(%d) = %q, want %q", in, got, want)
		}
	}
}
