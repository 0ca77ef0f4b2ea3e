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

// maxInteger is the largest one of structured fields (RFC 9651 section 3.3.1).
const maxInteger = 999_999_999_999_999

func newRate(r Rate, burst int, policy string, m *Memory) *rate {
	l := &rate{epoch: time.Now(), interval: max(1, int64(r.Per)/int64(r.Events)), burst: int64(burst)}
	l.table = newTable(m, func() int64 { return l.at(time.Now()) })
	l.burst = min(l.burst, int64(maxWindow)/l.interval)
	l.name = append(strconv.AppendQuote(nil, policy), ';')
	// The window is that in which an empty bucket becomes full. A window is whole seconds (section
	// 3.1.3), in which more than the burst may come.
	window := seconds(l.burst * l.interval)
	l.policy = append(append(l.policy, l.name...), "q="...)
	l.policy = strconv.AppendInt(l.policy, min(maxInteger, max(l.burst, window*int64(time.Second)/l.interval)), 10)
	l.policy = strconv.AppendInt(append(l.policy, ";w="...), window, 10)
	return l
}

// at is a time in ns since epoch.
func (l *rate) at(now time.Time) int64 { return max(0, int64(now.Sub(l.epoch))) }

// state is that of a bucket after a request.
type state struct {
	left   int64         // requests that may follow at once
	wait   time.Duration // until one more may
	shared bool
}

// take takes a request of a key out of its bucket, if there is one in it.
func (l *rate) take(key uint64, now time.Time) (s state, ok bool) {
	at := l.at(now)
	shard := l.lock(key)
	defer shard.mu.Unlock()
	full, shared := l.number(shard, key, at)
	s.shared = shared
	base := max(*full, at)
	if base-at <= (l.burst-1)*l.interval {
		base += l.interval
		*full, ok = base, true
	}
	room := l.burst*l.interval - (base - at) // of the bucket
	s.left = room / l.interval
	s.wait = time.Duration(l.interval - room%l.interval)
	return s, ok
}

// appendState appends the value of the field RateLimit. Its window is the time in which no more
// than what is left may come (section 4.1.2), so it ends when one more may.
func (l *rate) appendState(dst []byte, s state) []byte {
	dst = append(append(dst, l.name...), "r="...)
	dst = strconv.AppendInt(dst, min(maxInteger, s.left), 10)
	return strconv.AppendInt(append(dst, ";t="...), seconds(int64(s.wait)), 10)
}

// seconds are whole, rounded up.
func seconds(ns int64) int64 {
	if ns > math.MaxInt64-int64(time.Second) {
		return math.MaxInt64 / int64(time.Second)
	}
	return (ns + int64(time.Second) - 1) / int64(time.Second)
}
