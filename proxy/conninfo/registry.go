package conninfo

import (
	"sync"
	"syscall"
)

// Live are the open connections that use MPTCP, for whoever watches their subflows. The zero value
// is empty and ready.
type Registry struct {
	// Settle, if set before the first connection, is called with each one that is about to be
	// closed.
	BeforeClose func(syscall.RawConn)

	mu   sync.Mutex // guards legs, and keeps a connection open while it is looked at
	open map[*Info]struct{}
}

func (v *Registry) add(l *Info) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open == nil {
		v.open = map[*Info]struct{}{}
	}
	v.open[l] = struct{}{}
}

func (v *Registry) remove(l *Info) {
	if v.BeforeClose != nil {
		v.BeforeClose(l.raw)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.open, l)
}

// All yields the connections, beginning at another one each time. Each stays open while it is
// yielded, and new ones come in between, since those are accepted meanwhile.
func (v *Registry) All(yield func(*Info) bool) {
	for _, l := range v.snapshot() {
		if !v.yieldOpen(l, yield) {
			return
		}
	}
}

func (v *Registry) snapshot() []*Info {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make([]*Info, 0, len(v.open))
	for l := range v.open {
		list = append(list, l)
	}
	return list
}

func (v *Registry) yieldOpen(l *Info, yield func(*Info) bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, open := v.open[l]; !open {
		return true
	}
	return yield(l)
}

// Len is how many there are.
func (v *Registry) Len() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.open)
}
