package auth

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Queue bounds the checks of passwords, which are slow on purpose, so that they leave processors
// for everything else: how many run at a time, how many wait, and for how long. A client can hold
// only a part of the places.
type Queue struct {
	running *semaphore.Weighted
	size    int64

	mu      sync.Mutex // guards what follows
	waiting int
	clients map[netip.Prefix]int // waiting or running
}

const (
	maxWaiting          = 64
	maxWaitingPerClient = 16
	maxWait             = 5 * time.Second
)

// errBusy means that a check did not get its turn.
var errBusy = errors.New("too many passwords are being checked")

// NewQueue makes a queue for threads processors; 0 stands for half of those that Go uses, but at
// least one.
func NewQueue(threads int) *Queue {
	if threads <= 0 {
		threads = max(1, runtime.GOMAXPROCS(0)/2)
	}
	return &Queue{running: semaphore.NewWeighted(int64(threads)), size: int64(threads), clients: map[netip.Prefix]int{}}
}

// run calls f, which uses so many threads, at most q.size, when it is its turn. Its error is
// errBusy, or that of ctx.
func (q *Queue) run(ctx context.Context, client netip.Addr, threads int64, f func()) error {
	who := network(client)
	if !q.enter(who) {
		return errBusy
	}
	defer q.leave(who)
	limited, cancel := context.WithTimeout(ctx, maxWait)
	err := q.running.Acquire(limited, threads)
	cancel()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errBusy
	}
	defer q.running.Release(threads)
	f()
	return nil
}

func (q *Queue) enter(who netip.Prefix) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting >= maxWaiting+int(q.size) || q.clients[who] >= maxWaitingPerClient {
		return false
	}
	q.waiting++
	q.clients[who]++
	return true
}

func (q *Queue) leave(who netip.Prefix) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting--
	if q.clients[who]--; q.clients[who] == 0 {
		delete(q.clients, who)
	}
}

// network is what counts as one client: an address, or a /64 of IPv6.
func network(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() && !a.Is4In6() {
		bits = 64
	}
	p, _ := a.Unmap().Prefix(bits)
	return p
}
