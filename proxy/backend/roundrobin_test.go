package backend

import (
	"fmt"
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
		{[]int{1}, "[0]"}, {[]int{1, 1, 1}, "[0 1 2]"}, {[]int{5, 1, 1}, "[0 0 1 0 2 0 0]"}, {[]int{1, 3}, "[1 0 1 1]"},
	} {
		if got := fmt.Sprint(smoothOrder(c.weights)); got != c.want {
			t.Errorf("weights %v give %s, want %s", c.weights, got, c.want)
		}
	}
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
		b.servers[i].connectFailed(refused)
	}
	var a Attempt
	a.Reset(b)
	for _, want := range []int{1, 3, 2} {
		if !a.next(time.Now(), nil) || a.Server() != b.servers[want] {
			t.Errorf("try %d: %s, want %s", a.Tries(), a.Server().Address, b.servers[want].Address)
		}
	}
	if a.next(time.Now(), nil) {
		t.Errorf("more than %d servers are tried", DefaultRetry.Tries)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	b, _ := pool(t, Options{Servers: servers("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")})
	b.servers[1].connectFailed(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	now := time.Now()
	a := new(Attempt)
	if n := testing.AllocsPerRun(1000, func() { a.Reset(b); a.next(now, nil); a.next(now, nil); a.next(now, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
