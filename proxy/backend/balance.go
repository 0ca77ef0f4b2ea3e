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
// A balancer only decides which candidate is best. Which servers are candidates, how often a
// request is tried, and what happens without a candidate are not its concern. Other algorithms than
// round robin fit, too:
//
//   - the first available server needs the order of the servers;
//   - the fewest requests of two random candidates needs Server.inFlight and Server.weight;
//   - the lowest latency needs a moving average, which Server would keep as it keeps inFlight;
//   - rendezvous hashing needs a key, which Open would copy from the Request to the Attempt, and
//     inFlight to bound the load;
//   - a sticky cookie needs the server that it names, in the same way, and another balancer that
//     chooses if that server is not a candidate.
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
	if s := a.backend.balancer.pick(a, now); s != nil || a.awaitsPlace(now) {
		return s
	}
	return a.lastResort(now)
}

// candidate reports whether the next try may use the server.
func (a *Attempt) candidate(s *Server, now time.Time) bool {
	return !s.full() && a.eligible(s, now)
}

// eligible reports whether the server is a candidate when it has a free place.
func (a *Attempt) eligible(s *Server, now time.Time) bool {
	return s.available(now) == available && !a.wasTried(s)
}

// lastResort returns the server for a try without a candidate: the one whose last failure is the
// longest ago, because it is the most likely to work again. It returns nil if there is none.
func (a *Attempt) lastResort(now time.Time) (best *Server) {
	var bestFailure int64
	for _, s := range a.backend.servers {
		if a.wasTried(s) || s.full() || s.available(now) == unavailable {
			continue
		}
		if at := s.lastFailure(); best == nil || at < bestFailure {
			best, bestFailure = s, at
		}
	}
	return best
}
