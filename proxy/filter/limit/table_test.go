package limit

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"mpgate/telemetry"
)

// A full table forgets nobody who has something to lose.
func TestFullTable(t *testing.T) {
	in := telemetry.NewInstruments("test")
	l := New(Options{Rate: Rate{1, time.Hour}, Burst: 2, Memory: &Memory{Limit: 1}, Meter: in.Limits("api")})
	attacker := request("192.0.2.1")
	l.FilterRequest(attacker)
	l.FilterRequest(attacker)
	if !l.FilterRequest(attacker) {
		t.Fatal("the burst is 2")
	}
	passed := 0
	for i := range 100_000 { // from other addresses
		r := request(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String())
		if !l.FilterRequest(r) {
			passed++
		}
	}
	if !l.FilterRequest(attacker) {
		t.Error("the bucket of the attacker was reset")
	}
	// The keys that have a place pass, and the two requests of each shared bucket.
	if most := shards*minPlaces + 2*shards; passed > most {
		t.Errorf("%d of 100,000 keys passed, want at most %d", passed, most)
	}
	for i := range l.rate.shards {
		if n := len(l.rate.shards[i].places); n > minPlaces {
			t.Errorf("a shard has %d places", n)
		}
	}
}

// A place is given to another key once its bucket is full again, and the memory stays bounded.
func TestPlacesAreUsedAgain(t *testing.T) {
	l := newRate(Rate{1, time.Second}, 1, "limit", nil)
	now := l.epoch
	for i := range 300_000 {
		k := l.hash(strconv.AppendInt(nil, int64(i), 10))
		if _, ok := l.take(k, now); !ok {
			t.Fatalf("key %d was refused", i)
		}
		now = now.Add(100 * time.Microsecond) // 10,000 keys have something to lose at a time
	}
	places := 0
	for i := range l.shards {
		places += len(l.shards[i].places)
	}
	if places > 1<<16 {
		t.Errorf("%d places", places)
	}
}

func TestTableGrows(t *testing.T) {
	m := &Memory{}
	p := &perKey{newTable(m, nil), 1}
	var keys []uint64
	for i := range 100_000 {
		k := p.hash(strconv.AppendInt(nil, int64(i), 10))
		if ok, shared := p.enter(k); !ok || shared {
			t.Fatalf("key %d: %v, shared %v", i, ok, shared)
		}
		keys = append(keys, k)
	}
	for _, k := range keys {
		if ok, _ := p.enter(k); ok {
			t.Fatal("a key was forgotten")
		}
	}
	for _, k := range keys {
		p.leave(k, false)
	}
	if m.used.Load() == 0 {
		t.Error("no memory was taken")
	}
	p.release()
	if n := m.used.Load(); n != 0 {
		t.Errorf("%d bytes were not given back", n)
	}
}

// What a table has grown by in an attack is given back when that is over, and no key is forgotten.
func TestTableShrinks(t *testing.T) {
	m := &Memory{}
	p := &perKey{newTable(m, nil), 1}
	var keys []uint64
	for i := range 100_000 {
		keys = append(keys, p.hash(strconv.AppendInt(nil, int64(i), 10)))
		p.enter(keys[i])
	}
	grown := m.used.Load()
	m.shrink()
	if n := m.used.Load(); n != grown {
		t.Errorf("%d bytes while all keys are in use, had %d", n, grown)
	}
	stay := keys[:2_000]
	for _, k := range keys[len(stay):] {
		p.leave(k, false)
	}
	m.shrink()
	if n := m.used.Load(); n >= grown/4 || n == 0 {
		t.Errorf("%d bytes for %d keys, had %d", n, len(stay), grown)
	}
	for _, k := range stay {
		if ok, shared := p.enter(k); ok || shared {
			t.Fatal("a key was forgotten")
		}
		p.leave(k, false)
	}
	for i := range p.shards {
		for _, place := range p.shards[i].places {
			if place.number != 0 {
				t.Fatal("a key is still there")
			}
		}
	}
	p.enter(keys[0])
	m.shrink()
	if n := m.used.Load(); n != 0 {
		t.Errorf("%d bytes for one key", n)
	}
}

// Keys without a place share a number, and each takes back what it has added.
func TestSharedNumbers(t *testing.T) {
	p := &perKey{newTable(&Memory{Limit: 1}, nil), 3}
	type one struct {
		key    uint64
		shared bool
	}
	var in []one
	for i := range 10_000 {
		k := p.hash(strconv.AppendInt(nil, int64(i), 10))
		if ok, shared := p.enter(k); ok {
			in = append(in, one{k, shared})
		}
	}
	for _, e := range in {
		p.leave(e.key, e.shared)
	}
	for i := range p.shards {
		s := &p.shards[i]
		if s.shared != 0 {
			t.Errorf("shard %d: %d left", i, s.shared)
		}
		for _, place := range s.places {
			if place.number != 0 {
				t.Errorf("shard %d: %d left for a key", i, place.number)
			}
		}
	}
}
