package backend

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

const roundRobinName = "round_robin"

const (
	// maxRound bounds the length of a round. If the weights add up to more, they are rounded.
	maxRound = 1 << 16
	// maxSteps bounds the places of the round that one request looks at.
	maxSteps = 64
)

// roundRobin uses the servers in turn, each as often as its weight says, and spreads the turns of
// each evenly (smooth weighted round robin, as in nginx). The order is computed in advance, so a
// request needs one atomic addition.
type roundRobin struct {
	servers []*Server
	round   []*Server // in the order of use
	next    atomic.Uint64
}

func newRoundRobin(servers []*Server) balancer {
	weights := make([]int, len(servers))
	for i, s := range servers {
		weights[i] = int(s.weight.Load())
	}
	r := &roundRobin{servers: servers}
	for _, i := range smoothOrder(weights) {
		r.round = append(r.round, servers[i])
	}
	return r
}

// pick returns the next candidate of the round. Each place is used once, also by a request that
// does not use its server: so the requests of a server that is unavailable are divided evenly among
// the others, instead of all going to the next one in the round.
func (r *roundRobin) pick(a *Attempt, now time.Time) *Server {
	n := uint64(len(r.round))
	for range min(n, maxSteps) {
		if s := r.round[(r.next.Add(1)-1)%n]; a.candidate(s, now) {
			return s
		}
	}
	return lightest(r.servers, a, now, rand.Uint64())
}

// smoothOrder returns indexes of weights, each as often as its weight in relation to the others,
// spread as evenly as possible. Servers of the same weight take the turns of their weight in their
// order, and the weights are spread by the algorithm of nginx: in each turn each gets a credit of
// its share, and the one with the most credit pays for the turn.
func smoothOrder(weights []int) (order []int) {
	weights = reduce(weights)
	type class struct{ weight, credit, next int }
	var classes []*class
	members := map[int][]int{}
	total := 0
	for i, w := range weights {
		if members[w] == nil {
			classes = append(classes, &class{weight: w})
		}
		members[w] = append(members[w], i)
		total += w
	}
	for range total {
		best := classes[0]
		for _, c := range classes {
			c.credit += c.weight * len(members[c.weight])
			if c.credit > best.credit {
				best = c
			}
		}
		best.credit -= total
		list := members[best.weight]
		order = append(order, list[best.next%len(list)])
		best.next++
	}
	return order
}

// reduce divides weights by their greatest common divisor, and further if their sum is above
// maxRound.
func reduce(weights []int) []int {
	divisor, total := 0, 0
	for _, w := range weights {
		total += w
		for a := w; a != 0; {
			divisor, a = a, divisor%a
		}
	}
	weights, total = slices.Clone(weights), total/divisor
	scale := min(1, float64(maxRound)/float64(total))
	for i := range weights {
		weights[i] = max(1, int(scale*float64(weights[i]/divisor)+0.5))
	}
	return weights
}
