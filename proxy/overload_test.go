package proxy_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy/backend"
)

// BenchmarkOverload sends four times as many requests as a server can process, which has 10 places
// and needs 50 ms for each request. It reports the share of the capacity that is served
// (goodput-%), and the 99th percentile of the time of what is served, of which up to 1 s is spent
// in the queue. The capacity is what 10 clients get that wait for each response.
//
//	go test ./proxy -run '^$' -bench Overload -benchtime 1x
func BenchmarkOverload(b *testing.B) {
	const places, work, load = 10, 50 * time.Millisecond, 4
	for b.Loop() {
		o := plain.origin(b, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				<-time.After(work)
				c.Send(proxytest.EchoOf(r))
			}
		})
		g := start(b, setup{noLog: true, backend: backend.Options{
			MaxConnections: places, Queue: backend.Queue{Requests: 10_000, Time: time.Second},
		}}, o)
		capacity, _, _ := measure(g, places, 0, 4*time.Second)
		const clients = load * places * int(time.Second/work)
		goodput, p99, refused := measure(g, clients, time.Second, 10*time.Second)
		b.ReportMetric(100*goodput/capacity, "goodput-%")
		b.ReportMetric(float64(p99.Milliseconds()), "p99-ms")
		b.ReportMetric(refused, "refused/s")
	}
}

// measure makes each client send a request at each interval, or as soon as it has a response, for
// some time. It returns the requests that were served and refused in a second.
func measure(g *gateway, clients int, interval, duration time.Duration) (goodput float64, p99 time.Duration, refused float64) {
	var mu sync.Mutex
	var served []time.Duration
	var wg sync.WaitGroup
	var list []*proxytest.Client
	for range clients {
		list = append(list, g.client())
	}
	end := time.Now().Add(duration)
	for i, c := range list {
		due := time.Now().Add(time.Duration(i) * interval / time.Duration(clients))
		wg.Go(func() {
			for due.Before(end) {
				<-time.After(time.Until(due))
				began := time.Now()
				a := c.Get("/")
				now := time.Now()
				mu.Lock()
				switch {
				case now.After(end):
				case a.Status == 200:
					served = append(served, now.Sub(began))
				default:
					refused++
				}
				mu.Unlock()
				if due = due.Add(interval); due.Before(now) {
					due = now
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(served)
	return float64(len(served)) / duration.Seconds(), served[len(served)*99/100], refused / duration.Seconds()
}
