package telemetry

import (
	"container/list"
	"sync"
)

// retained is how many meters of each kind are kept after their last release, for what the
// configuration no longer has. Counters that vanish would break rates over the time of the removal,
// and one that is added again would start from zero. Beyond that number the meter released first is
// dropped: names that change with every reload must not fill the memory.
const retained = 1000

// meters are the meters of one kind, by what they count.
type meters[K comparable, M meter] struct {
	mu       sync.Mutex
	known    map[K]*entry[K, M]
	released list.List // of *entry, in the order of their last release; none is in use
}

type meter interface {
	comparable
	keep() bool // it is worth keeping once released
}

type entry[K comparable, M meter] struct {
	key     K
	meter   M
	refs    int
	waiting *list.Element // in released; nil: in use
}

// take returns the meter of k with one reference more.
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

// release gives one reference back. m guards against one release too many, after which k may name
// another meter.
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

// all returns the meters there are now, so that a scrape does not hold up a reload.
func (t *meters[K, M]) all() []snapshot[M] {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]snapshot[M], 0, len(t.known))
	for _, e := range t.known {
		all = append(all, snapshot[M]{e.meter, e.refs > 0})
	}
	return all
}
