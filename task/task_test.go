package task

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// heard collects the reports of a test.
func heard(t *testing.T) <-chan *Panic {
	c := make(chan *Panic, 64)
	t.Cleanup(OnPanic(func(p *Panic) { c <- p }))
	return c
}

func faulty() { panic(io.ErrUnexpectedEOF) }

func TestPanicIsReportedAndFails(t *testing.T) {
	reports := heard(t)
	for _, c := range []struct {
		how   string
		start func(failed func(*Panic))
	}{
		{"Go", func(failed func(*Panic)) { Go("one", faulty, failed) }},
		{"a Task", func(failed func(*Panic)) { New("one", faulty, failed).Go() }},
		{"a Group", func(failed func(*Panic)) {
			var g Group
			g.Go("one", faulty, failed)
			g.Wait()
		}},
		{"AfterFunc", func(failed func(*Panic)) { AfterFunc(1, "one", faulty); failed(nil) }},
		{"AfterDone", func(failed func(*Panic)) {
			ctx, cancel := context.WithCancel(t.Context())
			AfterDone(ctx, "one", faulty)
			cancel()
			failed(nil)
		}},
		{"Call", func(failed func(*Panic)) { failed(Call("one", faulty)) }},
	} {
		t.Run(c.how, func(t *testing.T) {
			failed := make(chan *Panic, 1)
			c.start(func(p *Panic) { failed <- p })
			p := <-reports
			if p.Task != "one" || !strings.Contains(string(p.Stack), "task.faulty") || !errors.Is(p, io.ErrUnexpectedEOF) {
				t.Errorf("reported: %v\n%s", p, p.Stack)
			}
			if q := <-failed; q != nil && q != p {
				t.Errorf("failed with %v, reported %v", q, p)
			}
		})
	}
}

// TestPanicOfWhatFails: neither who has the task's work fail nor who reports may end the process.
func TestPanicOfWhatFails(t *testing.T) {
	t.Cleanup(OnPanic(func(*Panic) { panic("a reporter") }))
	reports := heard(t)
	Go("one", faulty, func(*Panic) { panic("failed") })
	if p := <-reports; p.Task != "one" {
		t.Errorf("first: %v", p)
	}
	if p := <-reports; p.Task != "one, after its panic" || p.Value != "failed" {
		t.Errorf("then: %v", p)
	}
}

func TestKeep(t *testing.T) {
	reports := heard(t)
	runs := 0
	start := time.Now()
	Keep(t.Context(), "one", func() {
		if runs++; runs == 1 {
			panic("once")
		}
	})
	if runs != 2 || len(reports) != 1 || time.Since(start) < pause {
		t.Errorf("%d runs, %d reports, after %v", runs, len(reports), time.Since(start))
	}
	ctx, cancel := context.WithCancel(t.Context())
	Keep(ctx, "another", func() { cancel(); panic("at the end") })
}

// TestGroupBesideWait: tasks start during Wait, as a sync.WaitGroup does not allow ("WaitGroup is
// reused before previous Wait has returned", "WaitGroup misuse").
func TestGroupBesideWait(t *testing.T) {
	var g Group
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for range 2000 {
				g.Go("short", func() {}, nil)
			}
		})
		others.Go(func() {
			for range 2000 {
				g.Wait()
			}
		})
	}
	others.Wait()
	g.Wait()
	over := make(chan struct{})
	g.Go("long", func() { <-over }, nil)
	waited := make(chan struct{})
	go func() { g.Wait(); close(waited) }()
	select {
	case <-waited:
		t.Error("Wait does not wait")
	case <-time.After(10 * time.Millisecond):
	}
	close(over)
	<-waited
}

func TestGoAllocatesNothing(t *testing.T) {
	done := make(chan struct{})
	one := New("one", func() { done <- struct{}{} }, nil)
	if n := testing.AllocsPerRun(1000, func() { one.Go(); <-done }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
