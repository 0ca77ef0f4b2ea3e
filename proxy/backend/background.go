package backend

import (
	"context"
	"sync"

	"mpgate/task"
)

// background has the goroutines of a backend that outlive a request.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex // guards ended, and that nothing starts once stop waits
	ended bool
	wait  task.Group
}

func newBackground() *background {
	g := &background{}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// start runs f in a goroutine, and again after a panic; f returns soon after the end of its
// context. After stop it does nothing.
func (g *background) start(name string, f func(ctx context.Context)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.wait.Go(name, func() { task.Keep(g.ctx, name, func() { f(g.ctx) }) }, nil)
	}
}

// stop ends the goroutines and waits for them.
func (g *background) stop() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.cancel()
	g.wait.Wait()
}
