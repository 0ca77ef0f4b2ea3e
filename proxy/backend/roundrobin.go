package backend

import (
	"sync/atomic"
	"time"
)

const roundRobinName = "round_robin"

// roundRobin uses the servers in turn, each as often as its weight says (smooth weighted round
// robin, as in nginx).
type roundRobin struct {
	round []*Server // in the order of use
	next  atomic.Uint64
}

func newRoundRobin(servers []*Server) balancer {
	weights := make([]int, len(servers))
	for i, s := range servers {
		weights[i] = s.weight
	}
	r := &roundRobin{}
	for _, i := range smoothOrder(weights) {
		r.round = append(r.round, servers[i])
	}
	return r
}

// pick returns the next candidate of the round. The round advances by one for each try.
func (r *roundRobin) pick(a *Attempt, now time.Time) *Server {
	n := uint64(len(r.round))
	start := r.next.Add(1) - 1
	for i := range n {
		if s := r.round[(start+i)%n]; a.candidate(s, now) {
			return s
		}
	}
	return nil
}

// smoothOrder returns indexes of weights, each as often as its weight, spread as evenly as
// possible.
func smoothOrder(weights []int) (order []int) {
	total := 0
	for _, w := range weights {
		total += w
	}
	credit := make([]int, len(weights))
	for range total {
		best := 0
		for i, w := range weights {
			credit[i] += w
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		order = append(order, best)
	}
	return order
}
