package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"sync/atomic"
	"time"
)

// Memory remembers which credentials were found to be valid, for all filters that share it. It
// holds no credentials, but their keyed hashes (HMAC-SHA256 with a random key), and at most sets
// times ways of them. Only valid credentials enter it, so strangers cannot push others out.
type Memory struct {
	key     [32]byte
	macs    sync.Pool // of *mac
	filters atomic.Uint64
	victim  atomic.Uint32
	sets    [sets][ways]atomic.Pointer[remembered]
}

const (
	sets = 2048
	ways = 4
	// maxRemembered bounds the value of one entry, in bytes.
	maxRemembered = 2 << 10
)

// sum identifies credentials.
type sum [sha256.Size]byte

// remembered is an entry of a Memory, immutable.
type remembered struct {
	sum   sum
	until time.Time // zero: no end
	value any
}

// NewMemory makes a memory with a key of its own.
func NewMemory() *Memory {
	m := new(Memory)
	_, _ = rand.Read(m.key[:]) // never fails
	m.macs.New = func() any { return &mac{hash: hmac.New(sha256.New, m.key[:])} }
	return m
}

// mac computes sums. Its memory is used again.
type mac struct {
	hash  hash.Hash
	sum   sum
	size  [8]byte
	plain []byte // decoded credentials; empty while nobody uses the mac
}

func (m *Memory) mac() *mac { return m.macs.Get().(*mac) }

func (m *Memory) put(c *mac) {
	clear(c.plain[:cap(c.plain)])
	c.plain = c.plain[:0]
	m.macs.Put(c)
}

// of returns the sum of parts: different lists have different sums.
func (c *mac) of(parts ...[]byte) sum {
	c.hash.Reset()
	for _, p := range parts {
		binary.BigEndian.PutUint64(c.size[:], uint64(len(p)))
		c.hash.Write(c.size[:])
		c.hash.Write(p)
	}
	c.hash.Sum(c.sum[:0])
	return c.sum
}

// get returns what is remembered of credentials; nil: nothing that is still valid.
func (m *Memory) get(s *sum, now time.Time) *remembered {
	set := &m.sets[binary.LittleEndian.Uint32(s[:])%sets]
	for i := range set {
		r := set[i].Load()
		if r != nil && r.sum == *s {
			if r.until.IsZero() || now.Before(r.until) {
				return r
			}
			set[i].CompareAndSwap(r, nil)
		}
	}
	return nil
}

// add remembers credentials in the place of older ones.
func (m *Memory) add(r *remembered, now time.Time) {
	set := &m.sets[binary.LittleEndian.Uint32(r.sum[:])%sets]
	for i := range set {
		old := set[i].Load()
		if old == nil || old.sum == r.sum || !old.until.IsZero() && !now.Before(old.until) {
			if set[i].CompareAndSwap(old, r) {
				return
			}
		}
	}
	set[m.victim.Add(1)%ways].Store(r)
}

// filterID returns a number that no other filter with this memory has.
func (m *Memory) filterID() []byte { return binary.BigEndian.AppendUint64(nil, m.filters.Add(1)) }
