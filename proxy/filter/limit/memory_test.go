package limit

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// Run shrinks tables whose buckets are full again, without requests.
func TestMemoryIsGivenBack(t *testing.T) {
	m := &Memory{Every: time.Millisecond}
	l := newRate(Rate{1, time.Minute}, 1, "limit", m)
	l.epoch = time.Now().Add(-time.Hour)
	for i := range 100_000 {
		l.take(l.hash(strconv.AppendInt(nil, int64(i), 10)), l.epoch)
	}
	if m.used.Load() == 0 {
		t.Fatal("no memory was taken")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	for end := time.Now().Add(time.Minute); m.used.Load() != 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are still held", m.used.Load())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// After release nothing is counted any more.
	l.release()
	for i := range 100_000 {
		l.take(l.hash(strconv.AppendInt(nil, int64(i), 10)), time.Now())
	}
	if n := m.used.Load(); n != 0 || len(m.tables) != 0 {
		t.Errorf("%d bytes and %d tables after release", n, len(m.tables))
	}
}
