package limit

import (
	"math"
	"strconv"
	"time"
)

// rate limits the requests of each key by the generic cell rate algorithm. The number of a key is
// the time at which its bucket is full again, in ns since epoch: then the key is as one that was
// never seen.
type rate struct {
	*table
	epoch    time.Time
	interval int64 // ns from one request to the next
	burst    int64 // requests at once
	policy   []byte
	name     []byte // of the policy, quoted
}

// Rate is a number of requests in a time.
type Rate struct {
	Events int
	Per    time.Duration
}

// maxWindow bounds the time in which a bucket becomes full, so that times in ns fit in 63 bits.
const maxWindow = 100 * 365 * 24 * time.Hour

func newRate(r Rate, burst int, policy string, m *Memory) *rate {
	l := &rate{table: newTable(m), epoch: time.Now(), interval: max(1, int64(r.Per)/int64(r.Events)), burst: int64(burst)}
	l.burst = min(l.burst, int64(maxWindow)/l.interval)
	l.name = append(strconv.AppendQuote(nil, policy), ';')
	l.policy = append(append(l.policy, l.name...), "q="...)
	l.policy = strconv.AppendInt(l.policy, l.burst, 10)
	l.policy = strconv.AppendInt(append(l.policy, ";w="...), seconds(l.burst*l.interval), 10)
	return l
}

// state is that of a bucket after a request.
type state struct {
	left   int64         // requests that may follow at once
	wait   time.Duration // until the next may follow; 0: it may follow at once
	full   time.Duration // until the bucket is full
	shared bool
}

// take takes a request of a key out of its bucket, if there is one in it.
func (l *rate) take(key uint64, now time.Time) (s state, ok bool) {
	at := max(0, int64(now.Sub(l.epoch)))
	shard := l.lock(key)
	defer shard.mu.Unlock()
	full, shared := l.number(shard, key, at)
	s.shared = shared
	base := max(*full, at)
	if base-at <= (l.burst-1)*l.interval {
		base += l.interval
		*full, ok = base, true
	}
	s.full = time.Duration(base - at)
	room := l.burst*l.interval - (base - at) // of the bucket
	s.left = room / l.interval
	if s.left == 0 {
		s.wait = time.Duration(l.interval - room)
	}
	return s, ok
}

// appendState appends the value of the field RateLimit.
func (l *rate) appendState(dst []byte, s state) []byte {
	reset := s.full
	if s.left == 0 {
		reset = s.wait
	}
	dst = append(append(dst, l.name...), "r="...)
	dst = strconv.AppendInt(dst, s.left, 10)
	return strconv.AppendInt(append(dst, ";t="...), seconds(int64(reset)), 10)
}

// seconds are whole, rounded up.
func seconds(ns int64) int64 {
	if ns > math.MaxInt64-int64(time.Second) {
		return math.MaxInt64 / int64(time.Second)
	}
	return (ns + int64(time.Second) - 1) / int64(time.Second)
}
