package backend

import "time"

const leastName = "least"

// least uses the one of two random servers that has fewer requests in relation to its weight. Two
// are nearly as good as all: the longest queue grows with log log n instead of log n (M.
// Mitzenmacher, The power of two choices in randomized load balancing, 2001). And gateways that
// share servers do not all choose the same one.
type least struct{ sampler }

func newLeast(servers []*Server) balancer { return &least{newSampler(servers)} }

func (l *least) pick(a *Attempt, now time.Time) *Server {
	first, second := l.two(a, now)
	// Between equals the first decides, which was drawn by weight.
	if second != nil && second.lighter(first) {
		return second
	}
	return first
}
