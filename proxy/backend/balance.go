package backend

import (
	"fmt"
	"math/rand/v2"
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
// request is tried, and what happens without a candidate are not its concern. The servers that it
// is made of have a weight above 0. A change of the servers makes a new balancer: what should
// outlive it is kept in the servers.
type balancer interface {
	pick(a *Attempt, now time.Time) *Server
}

// balancers are the algorithms, by the value of the key balance in the configuration.
var balancers = []struct {
	name   string
	create func([]*Server) balancer
}{
	{roundRobinName, newRoundRobin}, // the default
	{leastName, newLeast},
	{latencyName, newLatency},
	{firstName, newFirst},
	{hashName, newHash},
}

// constructor returns how the balancer of that name is made.
func constructor(name string) (func([]*Server) balancer, error) {
	if name == "" {
		return balancers[0].create, nil
	}
	names := make([]string, len(balancers))
	for i, b := range balancers {
		if b.name == name {
			return b.create, nil
		}
		names[i] = b.name
	}
	return nil, fmt.Errorf("unknown balance %q: want one of %s", name, strings.Join(names, ", "))
}

// pick returns the server for the next try: the one of the client's cookie, the choice of the
// balancer, a backup server, or the last resort.
func (a *Attempt) pick(now time.Time) *Server {
	m := a.backend.members.Load()
	if s := a.sticky; s != nil && !a.wasTried(s) && !s.full() && s.mayKeep(now) {
		return s
	}
	for i := range m.tiers {
		t := &m.tiers[i]
		s := t.balancer.pick(a, now)
		if s == nil && a.passedOver { // all that could be used start slowly
			a.lot = useSlow
			s = t.balancer.pick(a, now)
		}
		if s != nil || a.backend.limited && a.anyEligible(t.servers, now) { // it waits for a place
			return s
		}
	}
	return a.lastResort(now)
}

// candidate reports whether the next try may use the server.
func (a *Attempt) candidate(s *Server, now time.Time) bool {
	return !s.full() && a.eligible(s, now) && (s.slow.since.Load() == 0 || a.usesSlow(s, now))
}

// eligible reports whether the server is a candidate when it has a free place.
func (a *Attempt) eligible(s *Server, now time.Time) bool {
	return s.weight.Load() > 0 && s.available(now) == available && !a.wasTried(s)
}

// lastResort returns the server for a try without a candidate: the one whose last failure is the
// longest ago, because it is the most likely to work again. It returns nil if there is none.
func (a *Attempt) lastResort(now time.Time) (best *Server) {
	var bestFailure int64
	for _, s := range a.backend.list() {
		if s.weight.Load() == 0 || a.wasTried(s) || s.full() || !s.mayTry(now) {
			continue
		}
		if at := s.lastFailure(); best == nil || at < bestFailure {
			best, bestFailure = s, at
		}
	}
	return best
}

// load is the number of requests that the server has, or will have when a connection to it is open.
func (s *Server) load() int64 { return s.inFlight.Load() + s.dialling.Load() }

// lighter reports whether s has fewer requests than t, in relation to their weights.
func (s *Server) lighter(t *Server) bool {
	return s.load()*t.weight.Load() < t.load()*s.weight.Load()
}

// lightest returns the candidate that has the fewest requests in relation to its weight. Balancers
// use it if they have found no candidate by looking at a few servers.
func lightest(servers []*Server, a *Attempt, now time.Time, random uint64) (best *Server) {
	start := int(random % uint64(len(servers)))
	for i := range servers {
		s := servers[(start+i)%len(servers)]
		if a.candidate(s, now) && (best == nil || s.lighter(best)) {
			best = s
		}
	}
	return best
}

// sampler draws servers at random, each as often as its weight says, in constant time: by the alias
// method of Walker, in the form of M. D. Vose, A linear algorithm for generating random numbers
// with a given distribution, 1991.
type sampler struct {
	servers []*Server
	columns []column
	random  func() uint64 // tests replace it
}

// column is chosen with the same probability as any other. It stands for the server of its own
// index if a random number is at most limit, else for the other one.
type column struct {
	limit uint32
	other uint32
}

func newSampler(servers []*Server) sampler {
	p := sampler{servers, make([]column, len(servers)), rand.Uint64}
	total := 0
	for _, s := range servers {
		total += int(s.weight.Load())
	}
	// Each column holds total; what a server has beyond that fills the columns of others.
	share := make([]int, len(servers))
	var small, large []int
	sort := func(i int) {
		if share[i] < total {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for i, s := range servers {
		share[i] = int(s.weight.Load()) * len(servers)
		sort(i)
	}
	for len(small) > 0 { // then large is not empty either: the shares add up
		i, j := small[len(small)-1], large[len(large)-1]
		small, large = small[:len(small)-1], large[:len(large)-1]
		p.columns[i] = column{uint32(float64(share[i]) / float64(total) * (1 << 32)), uint32(j)}
		share[j] -= total - share[i]
		sort(j)
	}
	for _, i := range large {
		p.columns[i] = column{1<<32 - 1, uint32(i)}
	}
	return p
}

func (p *sampler) draw() *Server {
	r := p.random()
	i := uint32((r >> 32) * uint64(len(p.columns)) >> 32)
	if c := p.columns[i]; uint32(r) > c.limit {
		i = c.other
	}
	return p.servers[i]
}

// maxDraws bounds the servers that two looks at.
const maxDraws = 8

// two draws two candidates. The second is nil if there is none, or if it is hard to find.
func (p *sampler) two(a *Attempt, now time.Time) (first, second *Server) {
	for range maxDraws {
		s := p.draw()
		switch {
		case s == first || !a.candidate(s, now):
		case first == nil && len(p.servers) > 1:
			first = s
		case first == nil:
			return s, nil
		default:
			return first, s
		}
	}
	if first == nil {
		first = lightest(p.servers, a, now, p.random())
	}
	return first, nil
}
