package backend

import (
	"context"
	"sync"
)

// background has the goroutines of a backend that outlive a request.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex // guards ended, and that nothing starts once stop waits
	ended bool
	wait  sync.WaitGroup
}

func newBackground() *background {
	g := &background{}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// start runs f in a goroutine; f returns soon after the end of its context. After stop it does nothing.
func (g *background) start(f func(ctx context.Context)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.wait.Go(func() { f(g.ctx) })
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
