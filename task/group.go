package task

import "sync"

// Group is a set of tasks to wait for. The zero value is empty. Unlike with sync.WaitGroup, Go may
// be called at any time, also during and after Wait.
type Group struct {
	mu    sync.Mutex // protects the fields below
	n     int
	empty chan struct{} // closed when n becomes 0; nil: no call of Wait is pending
}

// Go runs f in a goroutine of its own; see New. Wait waits for failed too.
func (g *Group) Go(name string, f func(), failed func(*Panic)) {
	g.mu.Lock()
	g.n++
	g.mu.Unlock()
	go func() {
		defer g.done()
		run(name, f, failed)
	}()
}

func (g *Group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// Wait returns at a moment when no task of the group runs.
func (g *Group) Wait() {
	g.mu.Lock()
	if g.n == 0 {
		g.mu.Unlock()
		return
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	<-empty
}
