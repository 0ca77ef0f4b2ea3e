package conninfo

import (
	"sync"
	"syscall"
)

// Registry is a set of open connections that use MPTCP, so that their subflows can be monitored.
// The zero value is empty and ready to use.
type Registry struct {
	// BeforeClose, if set before the first connection, is called with each connection that is about
	// to be closed.
	BeforeClose func(syscall.RawConn)

	mu   sync.Mutex // guards open; while it is held, no connection in open is closed
	open map[*Info]struct{}
}

func (r *Registry) add(i *Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[*Info]struct{}{}
	}
	r.open[i] = struct{}{}
}

func (r *Registry) remove(i *Info) {
	if r.BeforeClose != nil {
		r.BeforeClose(i.raw)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, i)
}

// All yields the connections, in another order each time. A connection stays open while it is
// yielded. The lock is released between two connections, so that new ones are not delayed; those
// are not yielded.
func (r *Registry) All(yield func(*Info) bool) {
	for _, i := range r.snapshot() {
		if !r.yieldOpen(i, yield) {
			return
		}
	}
}

func (r *Registry) snapshot() []*Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*Info, 0, len(r.open))
	for i := range r.open {
		list = append(list, i)
	}
	return list
}

func (r *Registry) yieldOpen(i *Info, yield func(*Info) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, open := r.open[i]; !open {
		return true
	}
	return yield(i)
}

// Len returns the number of connections.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}
