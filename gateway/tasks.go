package gateway

import (
	"context"
	"fmt"
	"log/slog"

	"mpgate/task"
)

// tasks are the goroutines that live longer than a request. Each has a name and an owner, ends with
// its context, and reports its error under its name.
//
// An error of a task that was not stopped ends the gateway deliberately, with a drain: without that
// task it would only appear to work. A panic never does: it is reported (see package task), and
// what the task served fails.
type tasks struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	group  task.Group
	failed chan error // the first error of a task that was not stopped
}

func newTasks(log *slog.Logger) *tasks {
	t := &tasks{log: log, failed: make(chan error, 1)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// running is a task that was started.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// run starts f under a name. After a panic it has ended.
func (t *tasks) run(name string, f func(context.Context) error) *running {
	return t.start(name, func(ctx context.Context) {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			t.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// keep starts f under a name. After a panic it is started again: it must be able to continue from
// there.
func (t *tasks) keep(name string, f func(context.Context) error) *running {
	return t.start(name, func(ctx context.Context) {
		task.Keep(ctx, name, func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				t.fail(fmt.Errorf("%s: %w", name, err))
			}
		})
	})
}

func (t *tasks) start(name string, f func(context.Context)) *running {
	ctx, cancel := context.WithCancel(t.ctx)
	one := &running{cancel: cancel, done: make(chan struct{})}
	t.group.Go(name, func() {
		defer close(one.done)
		defer cancel()
		f(ctx)
	}, nil)
	return one
}

func (t *tasks) fail(err error) {
	select {
	case t.failed <- err:
	default:
		t.log.Error("task failed", "err", err)
	}
}

// stop ends one task and waits for it; it may be called on nil and twice.
func (o *running) stop() {
	if o != nil {
		o.cancel()
		<-o.done
	}
}

// stop ends all tasks and waits for them.
func (t *tasks) stop() {
	t.cancel()
	t.group.Wait()
}

// catchPanic runs f and returns a panic in it as an error.
func catchPanic(name string, f func() error) (err error) {
	if p := task.Call(name, func() { err = f() }); p != nil {
		return p
	}
	return err
}

// panicked logs and counts each panic in a task of this process.
func (g *Gateway) panicked(p *task.Panic) {
	g.metrics.TaskPanics.Inc()
	g.log.Error("panic in a task", "task", p.Task, "panic", fmt.Sprint(p.Value), "stack", string(p.Stack))
}
