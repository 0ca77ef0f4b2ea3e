package limit

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
)

func TestConcurrency(t *testing.T) {
	l := New(Options{PerKey: 2, Requests: 3})
	var held []*filter.Request
	enter := func(client string, status int) {
		t.Helper()
		r := request(client)
		if done := l.FilterRequest(r); done != (status != 0) || r.Answer.Status != status {
			t.Fatalf("%s: done %v, status %d, want %d", client, done, r.Answer.Status, status)
		}
		if status != 0 {
			if field(r, "Retry-After") != "1" {
				t.Error("no Retry-After")
			}
			l.FilterEnd(r) // as the chain does
			return
		}
		held = append(held, r)
	}
	enter("192.0.2.1", 0)
	enter("192.0.2.1", 0)
	enter("192.0.2.1", 429)
	enter("192.0.2.2", 0)
	enter("192.0.2.3", 503)
	enter("192.0.2.3", 503)
	l.FilterEnd(held[0])
	enter("192.0.2.3", 0)
	for _, r := range held[1:] {
		l.FilterEnd(r)
	}
	if n := l.inAll.now.Load(); n != 0 {
		t.Errorf("%d requests are still counted", n)
	}
	for i := range l.perKey.shards {
		for _, p := range l.perKey.shards[i].places {
			if p.number != 0 {
				t.Errorf("a key has still %d", p.number)
			}
		}
	}
}

func TestSideBySide(t *testing.T) {
	l := New(Options{Rate: Rate{1_000_000, time.Second}, PerKey: 4, Requests: 10, Body: 5})
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for i := range 2000 {
				r := request(netip.AddrFrom4([4]byte{10, 0, byte(g), byte(i)}).String())
				r.ContentLength = message.Unknown
				if !l.FilterRequest(r) {
					_, _ = l.FilterRequestBody(r, &pieces{"123456"}).Next(true)
				}
				l.FilterEnd(r)
			}
		})
	}
	wait.Wait()
	if n := l.inAll.now.Load(); n != 0 {
		t.Errorf("%d requests are still counted", n)
	}
}
