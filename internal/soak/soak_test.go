package soak

import (
	"context"
	"flag"
	"sync"
	"testing"
	"time"
)

var (
	length  = flag.Duration("soak", 10*time.Second, "how long to soak")
	reload  = flag.Duration("soak.reload", 5*time.Second, "time between reloads; at most a quarter of the whole")
	upgrade = flag.Duration("soak.upgrade", time.Minute, "time between upgrades; at most a half of the whole")
)

func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time that -soak says")
	}
	l := &ledger{}
	running, stop := context.WithCancel(context.Background())
	defer stop()
	secure, passed, ca := serverTLS(t)
	g := start(t, l, servers{
		good: serveHTTP(t, l, nil), goodTLS: serveHTTP(t, l, secure), ca: ca,
		bad: misbehave(t, l), mortal: mortal(running, t, l), steady: serveHTTP(t, l, nil),
	})
	over, cancel := context.WithTimeout(running, *length)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range g.clients(passed) {
		wg.Go(func() { c.run(over) })
	}
	wg.Go(func() { g.operate(over, min(*reload, *length/4), min(*upgrade, *length/2)) })
	wg.Wait()
	// The log is at most a second late.
	for deadline := time.Now().Add(10 * time.Second); l.missing() > 0 && time.Now().Before(deadline); {
		wait(running, 50*time.Millisecond)
	}
	stop()
	g.end()
	l.judge(t)
	g.judge()
}
