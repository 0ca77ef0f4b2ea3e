package backend

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// everyBalance is the names of all algorithms.
func everyBalance() (names []string) {
	for _, b := range balancers {
		names = append(names, b.name)
	}
	return names
}

// use picks a server for each of n requests with different keys, and returns how many each got.
func use(b *Backend, n int) map[string]int {
	got := map[string]int{}
	var a Attempt
	for i := range n {
		a.Reset(b)
		a.SetKey(fmt.Append(nil, i))
		if s := a.pick(epoch.Add(time.Second)); s != nil {
			got[s.Address]++
		} else {
			got[""]++
		}
	}
	return got
}

// A server of weight 0 gets nothing new, also if it is the only one that works. Backup servers are
// used if no other is available, and stop being used when one is.
func TestWeightZeroAndBackup(t *testing.T) {
	for _, balance := range everyBalance() {
		b, err := New(Options{Name: "b", Balance: balance, Servers: []ServerOptions{
			{Address: "10.0.0.1:80"}, {Address: "10.0.0.2:80", Weight: -1},
			{Address: "10.0.0.3:80", Backup: true}, {Address: "10.0.0.4:80", Weight: -1, Backup: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		expect := func(when, only string) {
			t.Helper()
			if got := use(b, 100); got[only] != 100 {
				t.Errorf("%s, %s: got %v, want all at %s", balance, when, got, only)
			}
		}
		expect("all available", "10.0.0.1:80")
		breaks(b.list()[0])
		expect("the first is down", "10.0.0.3:80")
		b.list()[0].connectSucceeded()
		expect("the first is back", "10.0.0.1:80")
		breaks(b.list()[0])
		breaks(b.list()[2])
		if got := use(b, 100); got["10.0.0.2:80"]+got["10.0.0.4:80"]+got[""] != 0 {
			t.Errorf("%s: the last resort is of weight 0, or none: %v", balance, got)
		}
		var a Attempt
		a.Reset(b)
		for a.next(time.Now(), nil) {
		}
		if a.Tries() != 2 {
			t.Errorf("%s: %d servers were tried, want the two that have a weight", balance, a.Tries())
		}
		b.Discard()
	}
}

// With all algorithms, a request tries different servers, and goes to backup servers after it has
// tried all others.
func TestTriesDiffer(t *testing.T) {
	for _, balance := range everyBalance() {
		b, err := New(Options{Name: "b", Balance: balance, Servers: []ServerOptions{
			{Address: "10.0.0.1:80"}, {Address: "10.0.0.2:80", Weight: 7}, {Address: "10.0.0.3:80", Backup: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			var a Attempt
			a.Reset(b)
			a.SetKey(fmt.Append(nil, i))
			var got []string
			for a.next(epoch.Add(time.Second), nil) {
				got = append(got, a.Server().Address)
			}
			if len(got) == 3 {
				slices.Sort(got[:2])
			}
			if want := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}; !slices.Equal(got, want) {
				t.Fatalf("%s: tried %v, want %v", balance, got, want)
			}
		}
		b.Discard()
	}
}

func TestFirst(t *testing.T) {
	b := simulated(t, firstName, 1, 5, 1)
	for i, s := range b.list() {
		if got := use(b, 10); got[s.Address] != 10 {
			t.Errorf("with %d servers down: got %v, want all at %s", i, got, s.Address)
		}
		breaks(s)
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, balance := range everyBalance() {
		b := simulated(t, balance, 1, 2, 3)
		breaks(b.list()[1])
		now := time.Now()
		a, key := new(Attempt), []byte("192.0.2.1")
		n := testing.AllocsPerRun(1000, func() {
			a.Reset(b)
			a.SetKey(key)
			for a.next(now, nil) {
			}
			a.NoteAnswer(time.Millisecond, 200, now)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", balance, n)
		}
	}
}

// Servers are drawn as often as their weights say.
func TestSampler(t *testing.T) {
	for _, weights := range [][]int{{1}, {1, 1}, {1, 2, 3}, {1000, 1, 1}, {1, 1000}} {
		b := simulated(t, leastName, weights...)
		p := b.members.Load().tiers[0].balancer.(*least).sampler
		const n = 200_000
		got, total := map[*Server]int{}, 0
		for range n {
			got[p.draw()]++
		}
		for _, w := range weights {
			total += w
		}
		for i, w := range weights {
			share, want := float64(got[b.list()[i]])/n, float64(w)/float64(total)
			// Five standard deviations are at most 0.0056.
			if share < want-0.006 || share > want+0.006 {
				t.Errorf("weights %v: server %d was drawn with the share %.4f, want %.4f", weights, i, share, want)
			}
		}
	}
}

// A connection whose bytes are forwarded unparsed counts as a request until it ends, so that least
// and hash see it.
func TestRawConnectionsCount(t *testing.T) {
	accept := func(c *proxytest.Conn) { _, _ = io.Copy(io.Discard, c.R) }
	one, two := proxytest.NewOrigin(t, mptcp.Off, accept), proxytest.NewOrigin(t, mptcp.Off, accept)
	b, _ := pool(t, Options{Balance: leastName, Servers: servers(one.Address(), two.Address())})
	var links []*Link
	for range 10 {
		var a Attempt
		a.Reset(b)
		l, err := a.OpenRaw(context.Background(), "", Addresses{})
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	for _, s := range b.list() {
		if n := s.load(); n < 4 {
			t.Errorf("%s has %d of 10 connections, want 4 to 6", s.Address, n)
		}
	}
	for _, l := range links {
		l.Close()
	}
	for _, s := range b.list() {
		if n := s.load(); n != 0 {
			t.Errorf("%s has %d connections after their end", s.Address, n)
		}
	}
	refusing := proxytest.NewRefusing(t)
	c, _ := pool(t, Options{Balance: leastName, Servers: servers(refusing.Address)})
	var a Attempt
	a.Reset(c)
	if _, err := a.OpenRaw(context.Background(), "", Addresses{}); err == nil || c.list()[0].load() != 0 {
		t.Errorf("after a refused connect (%v) the server has %d connections", err, c.list()[0].load())
	}
}

// A connection that is being made counts, too: requests do not all go to a server whose connects
// take long.
func TestDialsCount(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The server never answers the handshake.
	withTLS := func(string) (*tls.Config, error) { return &tls.Config{InsecureSkipVerify: true}, nil }
	b, _ := pool(t, Options{Balance: leastName, Servers: servers(l.Addr().String()), TLS: withTLS})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var a Attempt
		a.Reset(b)
		_, _ = a.Open(ctx, &Request{Now: time.Now()})
	}()
	if !proxytest.Within(proxytest.Patience, func() bool { return b.list()[0].load() == 1 }) {
		t.Errorf("the server has %d requests, want 1", b.list()[0].load())
	}
	cancel()
	<-done
	if n := b.list()[0].load(); n != 0 {
		t.Errorf("the server has %d requests after the end of the dial", n)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{10, 1000} {
		for _, balance := range everyBalance() {
			b.Run(fmt.Sprintf("%s/%d", balance, n), func(b *testing.B) {
				pool := simulated(b, balance, equal(n)...)
				now := time.Now()
				for _, s := range pool.list() {
					s.latency.answer(time.Millisecond, false, int64(now.Sub(epoch)))
				}
				for _, s := range pool.members.Load().tiers {
					switch s := s.balancer.(type) {
					case *least:
						s.random = newSampler(pool.list()).random
					case *fastest:
						s.random = newSampler(pool.list()).random
					}
				}
				key := []byte("2001:db8::1:2:3")
				b.RunParallel(func(p *testing.PB) {
					var a Attempt
					for p.Next() {
						a.Reset(pool)
						if balance == hashName {
							a.SetKey(key)
						}
						s := a.pick(now)
						s.countInFlight(1)
						s.countInFlight(-1)
					}
				})
			})
		}
	}
}

func BenchmarkNewBalancer(b *testing.B) {
	for _, n := range []int{10, 1000} {
		for _, balance := range everyBalance() {
			b.Run(fmt.Sprintf("%s/%d", balance, n), func(b *testing.B) {
				pool := simulated(b, balance, equal(n)...)
				for b.Loop() {
					if _, err := pool.newMembers(pool.list()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
