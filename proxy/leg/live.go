package leg

import (
	"sync"
	"syscall"
)

// Live are the open connections that use MPTCP, for whoever watches their subflows. The zero value
// is empty and ready.
type Live struct {
	// Settle, if set before the first connection, is called with each one that is about to be
	// closed.
	Settle func(syscall.RawConn)

	mu   sync.Mutex // guards legs, and keeps a connection open while it is looked at
	legs map[*Leg]struct{}
}

func (v *Live) add(l *Leg) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.legs == nil {
		v.legs = map[*Leg]struct{}{}
	}
	v.legs[l] = struct{}{}
}

func (v *Live) remove(l *Leg) {
	if v.Settle != nil {
		v.Settle(l.raw)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.legs, l)
}

// All yields the connections, beginning at another one each time. Each stays open while it is
// yielded, and new ones come in between, since those are accepted meanwhile.
func (v *Live) All(yield func(*Leg) bool) {
	for _, l := range v.list() {
		if !v.look(l, yield) {
			return
		}
	}
}

func (v *Live) list() []*Leg {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make([]*Leg, 0, len(v.legs))
	for l := range v.legs {
		list = append(list, l)
	}
	return list
}

func (v *Live) look(l *Leg, yield func(*Leg) bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, open := v.legs[l]; !open {
		return true
	}
	return yield(l)
}

// Len is how many there are.
func (v *Live) Len() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.legs)
}
