package backend

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// simulation sends requests through the balancer of a backend in virtual time. It is
// deterministic. Requests arrive at random (Poisson); each server works on some at a time, and the
// others wait in its waiting.
type simulation struct {
	backend *Backend
	rate    float64 // requests a second
	workers int     // of each server
	// service returns how long a server works on a request that it begins at a time.
	service func(server int, at time.Duration, random *rand.Rand) time.Duration
	key     func(random *rand.Rand) []byte // nil: none

	random *rand.Rand
	events events
	queues []waiting
	sent   []int // requests by server
	took   []time.Duration
	busy   []int // most requests that a server had at a time
}

type waiting struct {
	working int
	waiting []time.Duration // when they arrived
}

// event is the end of a request at a server.
type event struct {
	at, arrived time.Duration
	server      int
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// simulated makes a backend that no connection is made to, whose random numbers are always the
// same. weights has one for each server.
func simulated(t testing.TB, balance string, weights ...int) *Backend {
	t.Helper()
	o := Options{Name: "simulated", Balance: balance}
	for i, w := range weights {
		o.Servers = append(o.Servers, ServerOptions{Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), Weight: w})
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Discard)
	for _, l := range b.members.Load().tiers {
		source := rand.NewPCG(1, 2)
		switch l := l.balancer.(type) {
		case *least:
			l.random = source.Uint64
		case *fastest:
			l.random = source.Uint64
		}
	}
	return b
}

// equal returns n weights of 1.
func equal(n int) []int { return slices.Repeat([]int{1}, n) }

// run simulates the requests that arrive within a time.
func (m *simulation) run(until time.Duration) {
	n := len(m.backend.list())
	m.random = rand.New(rand.NewPCG(3, 4))
	m.queues, m.sent, m.busy = make([]waiting, n), make([]int, n), make([]int, n)
	index := map[*Server]int{}
	for i, s := range m.backend.list() {
		index[s] = i
	}
	var a Attempt
	for at := time.Duration(0); ; {
		at += time.Duration(m.random.ExpFloat64() / m.rate * float64(time.Second))
		if at > until {
			break
		}
		m.endsUntil(at)
		a.Reset(m.backend)
		if m.key != nil {
			a.SetKey(m.key(m.random))
		}
		s := a.pick(epoch.Add(at))
		s.countInFlight(1)
		i := index[s]
		m.sent[i]++
		m.busy[i] = max(m.busy[i], int(s.inFlight.Load()))
		if q := &m.queues[i]; q.working < m.workers {
			q.working++
			m.begin(i, at, at)
		} else {
			q.waiting = append(q.waiting, at)
		}
	}
	m.endsUntil(math.MaxInt64)
}

func (m *simulation) begin(server int, at, arrived time.Duration) {
	heap.Push(&m.events, event{at + m.service(server, at, m.random), arrived, server})
}

func (m *simulation) endsUntil(until time.Duration) {
	for len(m.events) > 0 && m.events[0].at <= until {
		e := heap.Pop(&m.events).(event)
		s, q := m.backend.list()[e.server], &m.queues[e.server]
		a := Attempt{backend: m.backend, server: s}
		a.NoteAnswer(e.at-e.arrived, 200, epoch.Add(e.at))
		s.countInFlight(-1)
		m.took = append(m.took, e.at-e.arrived)
		if len(q.waiting) > 0 {
			arrived := q.waiting[0]
			q.waiting = q.waiting[1:]
			m.begin(e.server, e.at, arrived)
		} else {
			q.working--
		}
	}
}

// p returns a percentile of the times.
func (m *simulation) p(percent float64) time.Duration {
	slices.Sort(m.took)
	return m.took[int(float64(len(m.took))*percent/100)]
}

// exponentially returns a random time with that mean.
func exponentially(mean time.Duration, random *rand.Rand) time.Duration {
	return time.Duration(random.ExpFloat64() * float64(mean))
}

// With servers of unequal speed, least and latency have far shorter waits than round robin: 8 of 10
// servers need 10 ms, 2 need 30 ms.
func TestUnequalServers(t *testing.T) {
	result := map[string]*simulation{}
	for _, balance := range []string{roundRobinName, leastName, latencyName} {
		m := &simulation{
			backend: simulated(t, balance, equal(10)...), rate: 1200, workers: 4,
			service: func(server int, _ time.Duration, random *rand.Rand) time.Duration {
				if server < 2 {
					return exponentially(30*time.Millisecond, random)
				}
				return exponentially(10*time.Millisecond, random)
			},
		}
		m.run(60 * time.Second)
		t.Logf("%-12s p50 %6.1f ms, p99 %6.1f ms; requests %v", balance, ms(m.p(50)), ms(m.p(99)), m.sent)
		result[balance] = m
	}
	turn, least, latency := result[roundRobinName].p(99), result[leastName].p(99), result[latencyName].p(99)
	if least > turn/2 {
		t.Errorf("p99 of least is %v, of round_robin %v: want at most half", least, turn)
	}
	if latency > turn/2 {
		t.Errorf("p99 of latency is %v, of round_robin %v: want at most half", latency, turn)
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// A server that stops for 5 s gets a few requests in that time, not a tenth of all, and its share
// again afterwards.
func TestStoppedServer(t *testing.T) {
	const from, to = 20 * time.Second, 25 * time.Second
	for _, balance := range []string{roundRobinName, leastName, latencyName} {
		m := &simulation{
			backend: simulated(t, balance, equal(10)...), rate: 1000, workers: 1 << 20,
			service: func(server int, at time.Duration, random *rand.Rand) time.Duration {
				took := exponentially(10*time.Millisecond, random)
				if end := at + took; server == 0 && end > from && at < to {
					took += to - max(from, at)
				}
				return took
			},
		}
		m.run(60 * time.Second)
		slow := 0
		for _, d := range m.took {
			if d > time.Second {
				slow++
			}
		}
		t.Logf("%-12s %d of 5000 requests waited for more than a second; requests %v", balance, slow, m.sent)
		if balance == latencyName && (slow > 25 || m.sent[0] < 2500) {
			t.Errorf("%d requests waited for the stopped server, which got %d in all: want at most 25, and at least 2500", slow, m.sent[0])
		}
	}
}

// The share of requests follows the weights, with all algorithms but first and hash.
func TestSharesFollowWeights(t *testing.T) {
	weights := []int{1, 2, 3, 4}
	for _, rate := range []float64{10, 400, 3000} { // nearly idle; some requests in progress; many
		for _, balance := range []string{roundRobinName, leastName, latencyName} {
			m := &simulation{
				backend: simulated(t, balance, weights...), rate: rate, workers: 1 << 20,
				service: func(int, time.Duration, *rand.Rand) time.Duration { return 10 * time.Millisecond },
			}
			m.run(time.Duration(20000 / rate * float64(time.Second)))
			for i, n := range m.sent {
				got, want := float64(n)/float64(len(m.took)), float64(weights[i])/10
				tolerance := 0.25*want + 0.02
				if balance == latencyName && rate < 100 {
					tolerance *= 2 // a server whose last answer is older is tried earlier
				}
				if math.Abs(got-want) > tolerance {
					t.Errorf("%s at %v requests a second: the server of weight %d got %.3f of the requests, want %.3f", balance, rate, weights[i], got, want)
				}
			}
		}
	}
}
