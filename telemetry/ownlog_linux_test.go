package telemetry

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"mpgate/task"
)

// ownLog is a log that hears of its own faults, to a pipe, with the pipe's other end.
func ownLog(t *testing.T, dropped *Counter) (*slog.Logger, *Spool, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	s, err := OpenSpool(SpoolOptions{
		Output: w, Dropped: dropped, FlushEvery: time.Nanosecond, ReportEvery: time.Millisecond,
		Own: func(to io.Writer) *slog.Logger { return NewLogger(slog.LevelInfo, FormatJSON, to) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return NewLogger(slog.LevelInfo, FormatJSON, s), s, r
}

func running(t *testing.T, s *Spool) {
	go func() { _ = s.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Close(ctx)
	})
}

// TestOwnLogStoppedReader: who logs waits once, not for the reader; when that reads again, the log
// itself says how many lines it lacks.
func TestOwnLogStoppedReader(t *testing.T) {
	var dropped Counter
	log, s, r := ownLog(t, &dropped)
	running(t, s)
	logged := 0
	for dropped.Value() == 0 {
		log.Info("line", "filler", strings.Repeat("x", 1000))
		logged++
	}
	start := time.Now()
	for range 1000 {
		log.Info("line", "filler", strings.Repeat("x", 1000))
		logged++
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("1000 lines more waited %v", took)
	}
	in := bufio.NewReader(r)
	for range logged - int(dropped.Value()) {
		if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, `"msg":"line"`) {
			t.Fatalf("read %q, %v", line, err)
		}
	}
	line, err := in.ReadString('\n')
	if want := fmt.Sprintf(`"dropped":%d`, dropped.Value()); err != nil || !strings.Contains(line, want) {
		t.Errorf("after the lines that were held: %q, %v; want %s", line, err, want)
	}
	log.Info("after")
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, `"msg":"after"`) {
		t.Errorf("then: %q, %v", line, err)
	}
}

// TestOwnLogWithoutReader: a report of dropped lines is not dropped in turn, and reported, for
// ever.
func TestOwnLogWithoutReader(t *testing.T) {
	var dropped Counter
	log, s, r := ownLog(t, &dropped)
	r.Close()
	running(t, s)
	log.Info("one")
	waitFor(t, "the line is dropped", func() bool { return dropped.Value() == 1 })
	log.Info("two")
	waitFor(t, "the other too", func() bool { return dropped.Value() > 1 })
	if n := dropped.Value(); n != 2 {
		t.Errorf("%d lines were dropped of 2", n)
	}
}

// TestTwoSpoolsOnOnePipe: that one fills the pipe between the question of the other whether there
// is room and its write blocks neither.
func TestTwoSpoolsOnOnePipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	var spools []*Spool
	for range 2 {
		s, err := OpenSpool(SpoolOptions{Output: w, Wait: time.Millisecond, FlushEvery: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		running(t, s)
		spools = append(spools, s)
	}
	line := []byte(strings.Repeat("x", 199) + "\n")
	for n := 0; n < 20000 && (spools[0].dropped.Load() == 0 || spools[1].dropped.Load() == 0); n++ {
		for _, s := range spools {
			_, _ = s.Write(line)
		}
	}
	for i, s := range spools {
		if s.dropped.Load() == 0 {
			t.Errorf("spool %d did not fill", i)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		start := time.Now()
		if err := s.Close(ctx); err == nil || strings.Contains(err.Error(), "hangs") {
			t.Errorf("spool %d ends after %v with %v; its writer hangs in the kernel", i, time.Since(start), err)
		}
	}
}

// TestWriterThatPanics: the lines it had are dropped, and said to be; those after it are written.
func TestWriterThatPanics(t *testing.T) {
	var dropped Counter
	log, s, r := ownLog(t, &dropped)
	out := s.out
	s.out = nil
	log.Info("one")
	if task.Call("test", s.drain) == nil {
		t.Fatal("it did not panic")
	}
	s.out = out
	if dropped.Value() != 1 {
		t.Errorf("%d lines are dropped", dropped.Value())
	}
	running(t, s)
	log.Info("two")
	in := bufio.NewReader(r)
	for _, want := range []string{`"msg":"two"`, `"dropped":1`} {
		if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, want) {
			t.Errorf("read %q, %v, want %s", line, err, want)
		}
	}
}
