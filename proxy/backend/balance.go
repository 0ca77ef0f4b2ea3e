package backend

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A balancer is one algorithm that chooses servers. It has a file of its own and an entry in
// balancers.
//
// pick chooses the server for one try of a request: one for which a.candidate(server, now) is true,
// or nil if there is none. It is called by many goroutines at a time, and must not allocate.
//
// A balancer only decides which candidate is best. Which servers are candidates, how often a request
// is tried, and what happens without a candidate are not its concern. It may use:
//
//   - the servers in the order of the configuration, with Server.weight: smooth weighted round
//     robin, the first available server;
//   - Server.inFlight, the requests in progress: the fewest requests by weight, of two random
//     candidates;
//   - measurements that Server keeps in the same way as inFlight: a moving average of the latency;
//   - what Open copies from the Request to the Attempt: a hash key for rendezvous hashing, with
//     inFlight to bound the load, or the server that a sticky cookie names. A sticky balancer wraps
//     another one, which chooses if that server is not a candidate.
type balancer interface {
	pick(a *Attempt, now time.Time) *Server
}

// balancers are the constructors by the value of the key balance in the configuration.
var balancers = map[string]func([]*Server) balancer{
	roundRobinName: newRoundRobin,
}

func newBalancer(name string, servers []*Server) (balancer, error) {
	if name == "" {
		name = roundRobinName
	}
	create, ok := balancers[name]
	if !ok {
		return nil, fmt.Errorf("unknown balance %q: want one of %s", name, strings.Join(slices.Sorted(maps.Keys(balancers)), ", "))
	}
	return create(servers), nil
}

// pick returns the server for the next try: the choice of the balancer, or the last resort.
func (a *Attempt) pick(now time.Time) *Server {
	if s := a.backend.balancer.pick(a, now); s != nil {
		return s
	}
	return a.lastResort(now)
}

// candidate reports whether the next try may use the server.
func (a *Attempt) candidate(s *Server, now time.Time) bool {
	return s.available(now) == available && !a.wasTried(s)
}

// lastResort returns the server for a try without a candidate: the one whose last failure is the
// longest ago, because it is the most likely to work again. It returns nil if there is none.
func (a *Attempt) lastResort(now time.Time) (best *Server) {
	var bestFailure int64
	for _, s := range a.backend.servers {
		if a.wasTried(s) || s.available(now) == unavailable {
			continue
		}
		if at := s.lastFailure(); best == nil || at < bestFailure {
			best, bestFailure = s, at
		}
	}
	return best
}
