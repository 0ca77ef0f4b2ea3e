package backend

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	budgetWindow = 10 // seconds
	// budgetFloor is the number of retries a second that are allowed however few requests there
	// are: with little traffic a share of it would allow none.
	budgetFloor = 10
)

// budget bounds the retries of a backend, so that an outage is not multiplied by them: a server
// that fails because it has too much to do must not get three times as much. It counts requests and
// retries of the last budgetWindow seconds.
type budget struct {
	unfloored  bool         // there is no budgetFloor
	requestsOf *budget      // that counts the requests; nil: this one
	requests   atomic.Int64 // since the start

	mu      sync.Mutex          // guards what follows
	second  int64               // the present one, since epoch
	before  [budgetWindow]int64 // requests before each of the last seconds, by second
	retries [budgetWindow]int64 // in each of them
}

// take counts a retry, or returns false if there were too many for a share of the requests. The
// retries of all routes count, whatever their shares are.
func (b *budget) take(share float64, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	requests := b.total() - b.before[(b.second+1)%budgetWindow]
	var retries int64
	for _, n := range b.retries {
		retries += n
	}
	floor := int64(budgetFloor * budgetWindow)
	if b.unfloored {
		floor = 0
	}
	if retries >= max(floor, int64(share*float64(requests))) {
		return false
	}
	b.retries[b.second%budgetWindow]++
	return true
}

// total is the number of requests since the start.
func (b *budget) total() int64 {
	if b.requestsOf != nil {
		b = b.requestsOf
	}
	return b.requests.Load()
}

// tick must be called about once a second, so that the requests of each second are known.
func (b *budget) tick(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
}

// advance begins the seconds that have passed. mu must be held.
func (b *budget) advance(now time.Time) {
	second := int64(now.Sub(epoch) / time.Second)
	requests := b.total()
	for b.second = max(b.second, second-budgetWindow); b.second < second; {
		b.second++
		i := b.second % budgetWindow
		b.before[i], b.retries[i] = requests, 0
	}
}
