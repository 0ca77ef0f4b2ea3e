package backend

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const hashName = "hash"

const (
	// hashSlots is the number of classes of keys. It must not depend on the number of servers: then
	// a further server would move all keys.
	hashSlots = 1 << hashBits
	hashBits  = 16
	// maxLooks bounds the servers that are looked at for one request.
	maxLooks = 16
	// freeLoad is the number of requests that a server may always have: a few requests with the
	// same key do not leave their server when there are hardly any others.
	freeLoad = 8
)

// hashed uses the same server for all requests with the same key: that of highest score, which
// follows from a hash of the key and the server's address, and from the weight (weighted rendezvous
// hashing). So all gateways choose the same server, whatever the order of the servers; and when a
// server is added, is removed or becomes unavailable, only those keys move that it gets or had.
//
// The scores are compared in advance, for each of 65536 classes of keys, so a request takes the
// same time with 1,000 servers as with 10. If the server cannot be used, the key is hashed again.
//
// A server that has more than 1.25 times its share of the requests in progress gets no more of
// them until it has fewer (V. Mirrokni, M. Thorup, M. Zadimoghaddam, Consistent hashing with
// bounded loads, 2018).
type hashed struct {
	servers []*Server
	seeds   []uint64 // of the servers
	slots   []uint32 // the index of the server for each class of keys
	weight  int64    // of all servers
	load    *atomic.Int64
	keyless balancer // for requests without a key
}

func newHash(servers []*Server) balancer {
	h := &hashed{servers: servers, load: &servers[0].backend.inFlight, keyless: newLeast(servers)}
	for _, s := range servers {
		h.seeds = append(h.seeds, hashOf([]byte(s.Address)))
		h.weight += s.weight.Load()
	}
	h.slots = h.assign()
	return h
}

func (h *hashed) pick(a *Attempt, now time.Time) *Server {
	if a.key == 0 {
		return h.keyless.pick(a, now)
	}
	var lightest *Server
	key, total := a.key, h.load.Load()+1
	for range maxLooks {
		s := h.servers[h.slots[key>>(64-hashBits)]]
		if a.candidate(s, now) {
			if n := s.load(); n < freeLoad || n*4*h.weight < total*5*s.weight.Load() {
				return s
			}
			if lightest == nil || s.lighter(lightest) {
				lightest = s
			}
		}
		key = mix(key + golden)
	}
	if lightest != nil {
		return lightest
	}
	return h.best(a, now)
}

// best compares the scores of all candidates.
func (h *hashed) best(a *Attempt, now time.Time) (best *Server) {
	least := math.Inf(1)
	for i, s := range h.servers {
		if !a.candidate(s, now) {
			continue
		}
		if x := exponential(a.key^h.seeds[i]) / float64(s.weight.Load()); best == nil || x < least {
			best, least = s, x
		}
	}
	return best
}

// assign returns the server of each slot: the one that comes to it first, if each server comes to
// all slots at times with an exponential distribution whose rate is the weight. That is the same as
// the highest score, and independent of the other servers. Instead of the time of each server and
// slot, it draws the moments at which a server comes to any slot, and the slot; a second visit
// changes nothing. After ln(hashSlots) visits for each slot, more or less, all slots have a server.
func (h *hashed) assign() []uint32 {
	slots := make([]uint32, hashSlots)
	first := make([]float64, hashSlots) // when the slot was first visited
	for i := range first {
		first[i] = math.Inf(1)
	}
	type visitor struct {
		at    float64 // the next visit
		state uint64
	}
	visitors := make([]visitor, len(h.servers))
	rate := func(i int) float64 { return float64(h.servers[i].weight.Load()) * hashSlots }
	for i := range visitors {
		visitors[i] = visitor{exponential(h.seeds[i]) / rate(i), h.seeds[i]}
	}
	empty := hashSlots
	for until := 0.0; empty > 0; {
		until += 3 / float64(h.weight)
		for i := range visitors {
			v := &visitors[i]
			for v.at < until {
				v.state += golden
				r := mix(v.state)
				if slot := r >> (64 - hashBits); v.at < first[slot] {
					if math.IsInf(first[slot], 1) {
						empty--
					}
					first[slot], slots[slot] = v.at, uint32(i)
				}
				v.at += exponential(r) / rate(i)
			}
		}
	}
	return slots
}

// SetKey sets the key by which the balance hash chooses a server. Without a key, or with an empty
// one, the server is chosen by the requests in progress.
func (a *Attempt) SetKey(key []byte) {
	if a.key = 0; len(key) > 0 {
		a.key = max(1, hashOf(key))
	}
}

// Keys and servers are hashed without a secret, because several gateways must agree. No part of
// this may change: all keys would move.
const (
	golden = 0x9e3779b97f4a7c15
	prime  = 0x100000001b3
)

// hashOf is similar to FNV-1a, but takes eight bytes at a time.
func hashOf(b []byte) uint64 {
	h := uint64(len(b)) * golden
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64((h^binary.LittleEndian.Uint64(b))*golden, 29)
	}
	for _, c := range b {
		h = (h ^ uint64(c)) * prime
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// exponential maps a number to one with an exponential distribution of rate 1.
func exponential(h uint64) float64 {
	return -math.Log((float64(mix(h+golden)>>11) + 0.5) / (1 << 53))
}
