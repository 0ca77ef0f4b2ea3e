package backend

import (
	"context"
	"sync"

	"mpgate/task"
)

// background runs the tasks of a backend that outlive a request.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex // guards ended; no task starts after stop has set it
	ended bool
	wait  task.Group
}

func newBackground() *background {
	g := &background{}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// start runs f in a goroutine, and again after a panic. f must return soon after the end of its
// context. After stop, start does nothing.
func (g *background) start(name string, f func(ctx context.Context)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.wait.Go(name, func() { task.Keep(g.ctx, name, func() { f(g.ctx) }) }, nil)
	}
}

// stop ends the tasks and waits for them.
func (g *background) stop() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.cancel()
	g.wait.Wait()
}
