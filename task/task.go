// Package task starts all goroutines of this module, so that a panic in one never ends the process.
// The panic is reported with the name of the task and its stack. What the task served fails, and
// everything else continues:
//
//	task.Go("backend app: connection", c.run, func(p *task.Panic) { c.fail(p) })
//
// Reports go to the functions registered with OnPanic; a gateway logs and counts them. Registration
// is global to the process, so packages that start goroutines need no logger.
//
// A task must release its locks by defer, because others may wait for them after a panic.
package task

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Panic describes the panic of a task.
type Panic struct {
	Task  string
	Value any    // of the panic
	Stack []byte // of the goroutine, as debug.Stack prints it
}

func (p *Panic) Error() string {
	return fmt.Sprintf("internal error: %s panicked: %v", p.Task, p.Value)
}

// Unwrap gives the value of the panic, if that is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Task is a function with a name. Go may be called any number of times, and allocates nothing.
type Task struct{ run func() }

// New returns a task that runs f. failed, if not nil, is called after the report when f has
// panicked; it must fail what the task served.
func New(name string, f func(), failed func(*Panic)) Task {
	return Task{func() { run(name, f, failed) }}
}

// Go runs the task in a goroutine of its own.
func (t Task) Go() { go t.run() }

// Go runs f in a goroutine of its own; see New.
func Go(name string, f func(), failed func(*Panic)) { New(name, f, failed).Go() }

// Late runs wait, then f as Go does, in a goroutine of its own. A panic of wait is not caught: the
// frame that catches panics would take too much of the small stack on which wait is to run.
func Late(wait func(), name string, f func(), failed func(*Panic)) {
	go func() {
		wait()
		run(name, f, failed)
	}()
}

func run(name string, f func(), failed func(*Panic)) {
	defer caught(name, failed)
	f()
}

// caught is deferred.
func caught(name string, failed func(*Panic)) {
	v := recover()
	if v == nil {
		return
	}
	p := Recovered(name, v)
	if failed != nil {
		Call(name+", after its panic", func() { failed(p) })
	}
}

// Call runs f. If f panics, Call reports the panic and returns it; otherwise it returns nil.
func Call(name string, f func()) (p *Panic) {
	defer func() {
		if v := recover(); v != nil {
			p = Recovered(name, v)
		}
	}()
	f()
	return nil
}

// Recovered reports a panic with this value. It is for a deferred function that has recovered the
// panic itself.
func Recovered(name string, value any) *Panic {
	p := &Panic{Task: name, Value: value, Stack: debug.Stack()}
	report(p)
	return p
}

// pause is the time between a panic and the next attempt of Keep.
const pause = time.Second

// Keep runs f until it returns. After a panic it runs f again, a second later, unless ctx has
// ended.
func Keep(ctx context.Context, name string, f func()) {
	for Call(name, f) != nil {
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// AfterFunc is time.AfterFunc.
func AfterFunc(d time.Duration, name string, f func()) *time.Timer {
	return time.AfterFunc(d, func() { Call(name, f) })
}

// AfterDone is context.AfterFunc.
func AfterDone(ctx context.Context, name string, f func()) (stop func() bool) {
	return context.AfterFunc(ctx, func() { Call(name, f) })
}

var reports struct {
	mu sync.Mutex // guards to
	to []*func(*Panic)
}

// OnPanic registers f to be called for each panic of a task, until cancel is called. f may be
// called from any goroutine and must return soon. While no function is registered, panics go to
// slog's default logger.
func OnPanic(f func(*Panic)) (cancel func()) {
	reports.mu.Lock()
	defer reports.mu.Unlock()
	one := &f
	reports.to = append(slices.Clone(reports.to), one)
	return func() {
		reports.mu.Lock()
		defer reports.mu.Unlock()
		reports.to = slices.DeleteFunc(slices.Clone(reports.to), func(o *func(*Panic)) bool { return o == one })
	}
}

func report(p *Panic) {
	reports.mu.Lock()
	to := reports.to
	reports.mu.Unlock()
	if len(to) == 0 {
		slog.Error("panic in a task", "task", p.Task, "panic", p.Value, "stack", string(p.Stack))
	}
	for _, f := range to {
		func() {
			// a panic of a report function must not end the process either
			defer func() { _ = recover() }()
			(*f)(p)
		}()
	}
}
