package backend

import (
	"sync"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

func TestKeepRequests(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, proxytest.Echo)
	b, _ := pool(t, Options{Servers: servers(o.Address()), Keep: Keep{Requests: 3}})
	for range 7 {
		ask(t, b, "GET")
	}
	if n := o.Connections(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

func TestKeepNone(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, proxytest.Echo)
	b, _ := pool(t, Options{Servers: servers(o.Address()), Keep: Keep{Idle: -1}})
	for range 3 {
		ask(t, b, "GET")
		b.list()[0].closeExpired(time.Now())
	}
	if n := o.Connections(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// Connections beyond Keep.Idle are closed when they were not used for a while, the others stay.
func TestKeepIdle(t *testing.T) {
	t.Parallel()
	o := proxytest.NewOrigin(t, mptcp.Off, proxytest.Echo)
	b, in := pool(t, Options{Servers: servers(o.Address()), Keep: Keep{Idle: 2}})
	var wg sync.WaitGroup
	started := make(chan struct{})
	for range 6 {
		v := mustEnter(t, b, "all")
		wg.Go(func() { <-started; exchange(t, v.up, "GET"); v.End() })
	}
	close(started)
	wg.Wait()
	proxytest.WaitMetric(t, in.Registry(), 2, "mpgate_backend_connections_idle")
	proxytest.WaitMetric(t, in.Registry(), 2, "mpgate_backend_connections_open")
}

func TestKeepAge(t *testing.T) {
	t.Parallel()
	o := proxytest.NewOrigin(t, mptcp.Off, proxytest.Echo)
	b, in := pool(t, Options{Servers: servers(o.Address()), Keep: Keep{Age: 10 * time.Millisecond}})
	ask(t, b, "GET")
	proxytest.WaitMetric(t, in.Registry(), 0, "mpgate_backend_connections_open")
	now := time.Now()
	k := Keep{Age: time.Hour}
	earliest, latest := k.until(now), k.until(now)
	for range 1000 {
		at := k.until(now)
		if at.Before(earliest) {
			earliest = at
		}
		if at.After(latest) {
			latest = at
		}
	}
	if latest.After(now.Add(time.Hour)) || earliest.Before(now.Add(52*time.Minute)) || latest.Sub(earliest) < time.Minute {
		t.Errorf("from %v to %v", earliest.Sub(now), latest.Sub(now))
	}
}
