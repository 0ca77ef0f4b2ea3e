package backend

import (
	"fmt"
	"math"
	"net"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

func TestSmoothOrder(t *testing.T) {
	for _, c := range []struct {
		weights []int
		want    string
	}{
		{[]int{1}, "[0]"}, {[]int{1, 1, 1}, "[0 1 2]"}, {[]int{5, 1, 1}, "[0 1 0 0 0 2 0]"}, {[]int{1, 3}, "[1 0 1 1]"},
		{[]int{100, 100}, "[0 1]"}, {[]int{200, 600}, "[1 0 1 1]"},
	} {
		if got := fmt.Sprint(smoothOrder(c.weights)); got != c.want {
			t.Errorf("weights %v give %s, want %s", c.weights, got, c.want)
		}
	}
}

// Many servers with high weights: the round is short, the shares are right, and no server waits
// much longer than others of its weight.
func TestLongRound(t *testing.T) {
	var weights []int
	total := 0
	for i := range 1000 {
		weights = append(weights, 1+i*7919%1000)
		total += weights[i]
	}
	order := smoothOrder(weights)
	if len(order) > 2*maxRound {
		t.Errorf("the round has %d places", len(order))
	}
	turns, last, gap := make([]int, len(weights)), make([]int, len(weights)), make([]int, len(weights))
	for at, i := range append(order, order...) {
		turns[i]++
		gap[i] = max(gap[i], at-last[i])
		last[i] = at
	}
	for i, w := range weights {
		got, want := float64(turns[i])/float64(2*len(order)), float64(w)/float64(total)
		if math.Abs(got-want) > 0.01*want+1/float64(len(order)) {
			t.Errorf("the server of weight %d gets %.6f of the requests, want %.6f", w, got, want)
		}
		if most := 3*len(order)/(turns[i]/2) + len(weights); gap[i] > most {
			t.Errorf("the server of weight %d waits for %d turns, want at most %d", w, gap[i], most)
		}
	}
}

// The requests of a server that is unavailable are divided evenly among the others, and not all
// given to its successor.
func TestOutageIsShared(t *testing.T) {
	b := simulated(t, roundRobinName, equal(4)...)
	breaks(b.list()[1])
	got := map[string]int{}
	var a Attempt
	for range 300 {
		a.Reset(b)
		got[a.pick(time.Now()).Address]++
	}
	for _, i := range []int{0, 2, 3} {
		if n := got[b.list()[i].Address]; n != 100 {
			t.Errorf("%s got %d requests of 300, want 100", b.list()[i].Address, n)
		}
	}
}

// Most servers are unavailable: those that are left are found, and share the requests.
func TestMostAreDown(t *testing.T) {
	for _, balance := range []string{roundRobinName, leastName, latencyName, hashName} {
		b := simulated(t, balance, equal(1000)...)
		for i, s := range b.list() {
			if i != 500 && i != 501 {
				breaks(s)
			}
		}
		got := map[*Server]int{}
		var a Attempt
		for i := range 1000 {
			a.Reset(b)
			a.SetKey([]byte(fmt.Sprint(i)))
			s := a.pick(time.Now())
			got[s]++
			s.countInFlight(1)
		}
		if one, two := got[b.list()[500]], got[b.list()[501]]; one+two != 1000 || min(one, two) < 400 {
			t.Errorf("%s: the two servers got %d and %d of 1000 requests", balance, one, two)
		}
	}
}

// breaks begins an outage, without the task that probes the server.
func breaks(s *Server) {
	o := &outage{ended: make(chan struct{}), err: syscall.ECONNREFUSED}
	o.lastFailure.Store(1)
	s.outage.Store(o)
}

func TestServersGetTheirWeight(t *testing.T) {
	one, two := proxytest.NewOrigin(t, mptcp.Off, silent), proxytest.NewOrigin(t, mptcp.Off, silent)
	list := servers(one.Address(), two.Address())
	list[0].Weight = 3
	b, _ := pool(t, Options{Servers: list})
	got := map[string]int{}
	for range 20 {
		server, tries, err := open(t, b)
		if err != nil || tries != 1 {
			t.Fatalf("%d tries, %v", tries, err)
		}
		got[server]++
	}
	if got[one.Address()] != 15 || got[two.Address()] != 5 {
		t.Errorf("got %v, want 15 and 5", got)
	}
}

// An attempt picks each server once, those without an outage first.
func TestPick(t *testing.T) {
	b, _ := pool(t, Options{Servers: servers("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4")})
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, i := range []int{2, 0} { // the outage of the third server is the older one
		b.list()[i].connectFailed(refused)
	}
	var a Attempt
	a.Reset(b)
	for _, want := range []int{1, 3, 2} {
		if !a.next(time.Now(), nil) || a.Server() != b.list()[want] {
			t.Errorf("try %d: %s, want %s", a.Tries(), a.Server().Address, b.list()[want].Address)
		}
	}
	if a.next(time.Now(), nil) {
		t.Errorf("more than %d servers are tried", DefaultRetry.Tries)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	b, _ := pool(t, Options{Servers: servers("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")})
	b.list()[1].connectFailed(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	now := time.Now()
	a := new(Attempt)
	if n := testing.AllocsPerRun(1000, func() { a.Reset(b); a.next(now, nil); a.next(now, nil); a.next(now, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
