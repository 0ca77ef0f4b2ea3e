package telemetry

import (
	"container/list"
	"sync"
)

// retained is the number of meters of each kind that are kept after their last release, when the
// configuration no longer has their subject. Without that, rates over the time of the removal would
// be wrong, and a subject that is added again would start from zero. Beyond that number the meter
// released first is dropped: names that change with every reload must not fill the memory.
const retained = 1000

// meters are the meters of one kind, by what they count.
type meters[K comparable, M meter] struct {
	mu       sync.Mutex
	known    map[K]*entry[K, M]
	released list.List // of *entry, in the order of their last release
}

type meter interface {
	comparable
	keep() bool // whether to keep it after its release
}

type entry[K comparable, M meter] struct {
	key     K
	meter   M
	refs    int
	waiting *list.Element // in released; nil: in use
}

// take returns the meter of k and adds a reference.
func (t *meters[K, M]) take(k K, create func() M) M {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.known[k]
	if e == nil {
		if t.known == nil {
			t.known = map[K]*entry[K, M]{}
		}
		e = &entry[K, M]{key: k, meter: create()}
		t.known[k] = e
	}
	if e.waiting != nil {
		t.released.Remove(e.waiting)
		e.waiting = nil
	}
	e.refs++
	return e.meter
}

// release removes one reference. m guards against one release too many, after which k may be the
// key of another meter.
func (t *meters[K, M]) release(k K, m M) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.known[k]
	if e == nil || e.meter != m || e.refs == 0 {
		return
	}
	if e.refs--; e.refs > 0 {
		return
	}
	if !m.keep() {
		delete(t.known, k)
		return
	}
	e.waiting = t.released.PushBack(e)
	if t.released.Len() > retained {
		first := t.released.Remove(t.released.Front()).(*entry[K, M])
		delete(t.known, first.key)
	}
}

// snapshot is a meter as of a scrape.
type snapshot[M meter] struct {
	meter M
	inUse bool // by the configuration, or by a generation that drains
}

// all returns the current meters, so that a scrape does not delay a reload.
func (t *meters[K, M]) all() []snapshot[M] {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]snapshot[M], 0, len(t.known))
	for _, e := range t.known {
		all = append(all, snapshot[M]{e.meter, e.refs > 0})
	}
	return all
}
