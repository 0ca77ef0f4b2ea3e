package lab

import (
	"math"
	"testing"
	"time"
)

// run pushes packets of size at the given interval and returns when each left,
// in order of leaving.
func (p *pipe) run(n, size int, interval time.Duration) (left []int64) {
	const step = int64(50 * time.Microsecond)
	next, sent := int64(0), 0
	for now := int64(0); sent < n || !p.idle(); now += step {
		for ; sent < n && next <= now; next += int64(interval) {
			p.push(p.buffer()[:size], next)
			sent++
		}
		for b := p.pop(now); b != nil; b = p.pop(now) {
			p.recycle(b)
			left = append(left, now)
		}
	}
	return left
}

func TestPipeRate(t *testing.T) {
	for _, rate := range []int64{1 * Mbit, 100 * Mbit, 1000 * Mbit} {
		p := newPipe(Path{Rate: rate, Queue: 1 << 30}, 1500, 1, 2)
		left := p.run(2000, 1486, time.Microsecond)
		if len(left) != 2000 {
			t.Fatalf("%d packets left", len(left))
		}
		// The first packet takes its time too, so it is 2000 intervals to the end.
		got := 2000 * 1500 * 8 / (float64(left[1999]) / 1e9)
		if got < 0.98*float64(rate) || got > 1.001*float64(rate) {
			t.Errorf("%.0f bit/s at a rate of %d", got, rate)
		}
	}
}

func TestPipeQueueDropsTheTail(t *testing.T) {
	for name, path := range map[string]Path{
		"bytes":   {Rate: 10 * Mbit, Queue: 15000},
		"packets": {Rate: 10 * Mbit, QueuePackets: 10},
	} {
		p := newPipe(path, 1500, 1, 2)
		size := 1500 - frameOverhead
		if name == "packets" {
			size = 1500
		}
		for range 25 {
			p.push(p.buffer()[:size], 0)
		}
		if p.Count.Overflow != 15 {
			t.Errorf("%s: %d of 25 packets found the queue full, want 15", name, p.Count.Overflow)
		}
		// Once one has left there is room for one.
		p.push(p.buffer()[:size], p.next())
		p.push(p.buffer()[:size], p.next())
		if p.Count.Overflow > 16 {
			t.Errorf("%s: no room after one left: %d", name, p.Count.Overflow)
		}
	}
}

func TestPipeDelay(t *testing.T) {
	p := newPipe(Path{Delay: 30 * time.Millisecond}, 1500, 1, 2)
	p.push(p.buffer()[:100], 5e6)
	if got := p.next(); got != 35e6 {
		t.Errorf("to do at %d", got)
	}
	if p.pop(35e6-1) != nil || p.pop(35e6) == nil || !p.idle() {
		t.Error("did not leave 30 ms later")
	}
}

func TestPipeJitterKeepsOrderAndMean(t *testing.T) {
	path := Path{Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond}
	p := newPipe(path, 1500, 1, 2)
	interval := 5 * time.Millisecond
	left := p.run(4000, 100, interval)
	var sum, least, most float64 = 0, math.Inf(1), 0
	for i, at := range left {
		if i > 0 && at < left[i-1] {
			t.Fatal("out of order")
		}
		d := float64(at-int64(i)*int64(interval)) / 1e6
		sum += d
		least, most = min(least, d), max(most, d)
	}
	if mean := sum / float64(len(left)); mean < 48 || mean > 53 || least < 29.9 || least > 35 || most > 70.2 || most < 65 {
		t.Errorf("delays %.1f to %.1f ms, mean %.1f; want 30 to 70, mean 50", least, most, mean)
	}
}

func TestPipeLossIsRepeatable(t *testing.T) {
	lost := func(seed uint64) (n uint64, which string) {
		p := newPipe(Path{Loss: 0.05}, 1500, seed, 2)
		for range 20000 {
			before := p.Count.Lost
			p.push(p.buffer()[:100], 0)
			which += string(rune('0' + p.Count.Lost - before))
			if b := p.pop(0); b != nil {
				p.recycle(b)
			}
		}
		return p.Count.Lost, which
	}
	n, first := lost(1)
	if sigma := math.Sqrt(20000 * .05 * .95); math.Abs(float64(n)-1000) > 5*sigma {
		t.Errorf("lost %d of 20000 at 5 %%", n)
	}
	if _, again := lost(1); again != first {
		t.Error("the same seed lost other packets")
	}
	if _, other := lost(3); other == first {
		t.Error("another seed lost the same packets")
	}
}

func TestPipeChangesWhileFull(t *testing.T) {
	p := newPipe(Path{Rate: 8000, Queue: 1 << 20}, 1500, 1, 2) // a packet takes 1.5 s
	for range 100 {
		p.push(p.buffer()[:1486], 0)
	}
	p.set(Path{Rate: 120 * Mbit, Queue: 1 << 20}, 1e9) // 0.1 ms
	left := 0
	for b := p.pop(1e9 + 10_001_000); b != nil; b = p.pop(1e9 + 10_001_000) {
		p.recycle(b)
		left++
	}
	if left != 100 {
		t.Errorf("%d of 100 packets left at the new rate", left)
	}
	p.silent = true
	p.push(p.buffer()[:100], 2e9)
	if p.Count.Silenced != 1 || !p.idle() {
		t.Errorf("silence: %+v", p.Count)
	}
}

func TestPipeSteadyStateAllocatesNothing(t *testing.T) {
	p := newPipe(Path{Rate: 100 * Mbit, Delay: 10 * time.Millisecond}, 1500, 1, 2)
	now := int64(0)
	round := func() {
		for range 100 {
			now += 100_000
			p.push(p.buffer()[:1000], now)
			for b := p.pop(now); b != nil; b = p.pop(now) {
				p.recycle(b)
			}
		}
	}
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
}
