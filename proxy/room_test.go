package proxy

import (
	"math"
	"testing"
	"time"
)

func TestRoom(t *testing.T) {
	var none *Room
	if !none.acquire() || !new(Room).acquire() {
		t.Error("without a bound there is none")
	}
	none.release()
	free := int64(10 * exchangeCost)
	r := &Room{Free: func() int64 { return free }}
	n := 0
	for r.acquire() {
		n++
	}
	if n != 10 {
		t.Errorf("%d exchanges begin at once, want 10: what they will take does not show yet", n)
	}
	// It shows: they have taken nothing.
	at := r.checked
	for range 4 {
		at = at.Add(settleTime)
		r.Renew(at)
	}
	if got := r.limit.Load(); got != 17 { // 10, and what is free but for a quarter of a cost each
		t.Errorf("%d may be under way, want 17", got)
	}
	free = -1
	r.Renew(at.Add(time.Second))
	if r.acquire() {
		t.Error("one begins with nothing free")
	}
	free, r.checked = 100*exchangeCost, time.Time{}
	for range n {
		r.release()
	}
	if !r.acquire() {
		t.Error("none begins when all is free")
	}
	r.release()
	if got := r.inFlight.Load(); got != 0 {
		t.Errorf("%d are under way, want none", got)
	}
	free = math.MaxInt64
	r.Renew(time.Now().Add(time.Hour))
	if r.limit.Load() != math.MaxInt64 {
		t.Error("a bound without a limit")
	}
}
