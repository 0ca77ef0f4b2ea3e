package limit

import (
	"hash/maphash"
	"sync"
	"unsafe"
)

// table has a number for each key. A number that is not above a threshold is that of a key which
// was never seen, so its place is free: nothing is lost by giving it to another key. No other
// number is ever given up. Whoever comes with many keys thus cannot make the table forget any, not
// even one of his own; if the table is full, further keys share one number in each shard.
//
// The hash is keyed, so that nobody can choose keys that meet.
//
// What a table has grown by, as in an attack, it gives back once few of the places are in use
// (Memory.Run).
type table struct {
	seed      maphash.Seed
	memory    *Memory
	threshold func() int64 // at present
	shards    [shards]shard
}

const (
	shardBits = 4
	shards    = 1 << shardBits
	// ways is how many places are in a set: two cache lines. A key has a place in one of two sets,
	// so that most of the places are used before a key finds none.
	ways = 8
	// minPlaces are the places of a shard that are not counted in Memory, maxPlaces are the most:
	// 1,024 and 262,144 in a table, of 16 bytes each.
	minPlaces = 1 << 10 / shards
	maxPlaces = 1 << 18 / shards
)

type shard struct {
	mu     sync.Mutex
	places []place // a power of two, at least ways, or none
	shared int64   // the number of the keys without a place
	taken  int64   // bytes of Memory
	closed bool    // it must not grow any more
	_      [64]byte
}

type place struct {
	key    uint64 // a hash; 0: nobody's
	number int64
}

// newTable makes a table. threshold returns the present one; nil: it is always 0.
func newTable(m *Memory, threshold func() int64) *table {
	if threshold == nil {
		threshold = func() int64 { return 0 }
	}
	t := &table{seed: maphash.MakeSeed(), memory: m, threshold: threshold}
	m.add(t)
	return t
}

// hash is the key by which the table knows a text.
func (t *table) hash(text []byte) uint64 { return max(1, maphash.Bytes(t.seed, text)) }

// lock returns the shard of a key, locked.
func (t *table) lock(key uint64) *shard {
	s := &t.shards[key>>(64-shardBits)]
	s.mu.Lock()
	return s
}

// number returns the number of a key in the locked shard. It is valid until the shard is unlocked.
// shared means that other keys have the same.
func (t *table) number(s *shard, key uint64, threshold int64) (n *int64, shared bool) {
	for {
		var free *place
		most := 0 // free places in a set: the emptier one is taken, so that neither fills early
		for _, set := range s.sets(key) {
			var vacant *place
			n := 0
			for i := range set {
				if set[i].key == key {
					return &set[i].number, false
				}
				if set[i].number <= threshold {
					vacant = &set[i]
					n++
				}
			}
			if n > most {
				free, most = vacant, n
			}
		}
		if free != nil {
			*free = place{key: key}
			return &free.number, false
		}
		if !t.grow(s, threshold) {
			return &s.shared, true
		}
	}
}

// find returns the place that a key has.
func (s *shard) find(key uint64) *place {
	for _, set := range s.sets(key) {
		for i := range set {
			if set[i].key == key {
				return &set[i]
			}
		}
	}
	return nil
}

// sets returns the places that a key may have.
func (s *shard) sets(key uint64) [2][]place {
	n := len(s.places)
	if n == 0 {
		return [2][]place{}
	}
	return [2][]place{s.set(int(key) & (n/ways - 1)), s.set(int(key>>28) & (n/ways - 1))}
}

func (s *shard) set(i int) []place { return s.places[i*ways : (i+1)*ways] }

// grow doubles the places of the shard. Each set becomes two, so that what was in it has room.
func (t *table) grow(s *shard, threshold int64) bool {
	n := max(ways, 2*len(s.places))
	if n > maxPlaces || s.closed && n > minPlaces {
		return false
	}
	more := counted(n) - s.taken
	if !t.memory.take(more) {
		return false
	}
	s.taken += more
	old := len(s.places) / ways
	places := s.places
	s.places = make([]place, n)
	for at, p := range places {
		if p.number <= threshold {
			continue
		}
		sets := s.sets(p.key)
		set := sets[0]
		if int(p.key)&(old-1) != at/ways { // its place was in the other
			set = sets[1]
		}
		for i := range set {
			if set[i].key == 0 {
				set[i] = p
				break
			}
		}
	}
	return true
}

// counted is how many bytes of so many places count in Memory.
func counted(places int) int64 {
	if places <= minPlaces {
		return 0
	}
	return int64(places) * int64(unsafe.Sizeof(place{}))
}

// shrink gives back places of which few are in use. Memory calls it until release.
func (t *table) shrink() {
	for i := range t.shards {
		t.shrinkShard(&t.shards[i])
	}
}

func (t *table) shrinkShard(s *shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.places) <= minPlaces {
		return
	}
	threshold, used := t.threshold(), 0
	for i := range s.places {
		if s.places[i].number > threshold {
			used++
		}
	}
	n := minPlaces
	for n < 4*used {
		n *= 2
	}
	if n > len(s.places)/2 {
		return
	}
	fewer := shard{places: make([]place, n)}
	for i := range s.places {
		if p := &s.places[i]; p.number > threshold && !fewer.insert(p) {
			return // both of its sets are full, which is rare: it stays as it is
		}
	}
	s.places = fewer.places
	t.memory.give(s.taken - counted(n))
	s.taken = counted(n)
}

// insert reports whether there is a place for p in one of its sets, and takes one in the emptier.
func (s *shard) insert(p *place) bool {
	var free *place
	most := 0
	for _, set := range s.sets(p.key) {
		n := 0
		var vacant *place
		for i := range set {
			if set[i].key == 0 {
				vacant = &set[i]
				n++
			}
		}
		if n > most {
			free, most = vacant, n
		}
	}
	if free == nil {
		return false
	}
	*free = *p
	return true
}

// release gives the memory back. The table no longer grows.
func (t *table) release() {
	t.memory.remove(t)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		t.memory.give(s.taken)
		s.taken, s.closed = 0, true
		s.mu.Unlock()
	}
}
