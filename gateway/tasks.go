package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// tasks are the goroutines that live longer than a request. Each has a name and an owner, ends when its
// context does, and reports its error under its name.
type tasks struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	failed chan error // the first error of a task that nobody had stopped
}

func newTasks(log *slog.Logger) *tasks {
	t := &tasks{log: log, failed: make(chan error, 1)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// task is one that was started.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// run starts f under a name.
func (t *tasks) run(name string, f func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(t.ctx)
	one := &task{cancel: cancel, done: make(chan struct{})}
	t.wait.Go(func() {
		defer close(one.done)
		defer cancel()
		err := f(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		err = fmt.Errorf("%s: %w", name, err)
		select {
		case t.failed <- err:
		default:
			t.log.Error("task ended", "error", err)
		}
	})
	return one
}

// stop ends one task and waits for it; it may be called on nil and twice.
func (o *task) stop() {
	if o != nil {
		o.cancel()
		<-o.done
	}
}

// stop ends all tasks and waits for them.
func (t *tasks) stop() {
	t.cancel()
	t.wait.Wait()
}
