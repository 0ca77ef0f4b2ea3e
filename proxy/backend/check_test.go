package backend

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// scriptedCheck succeeds after allowed is set. It reports a success as a connect does.
type scriptedCheck struct {
	allowed atomic.Bool
	runs    atomic.Int64
}

func (c *scriptedCheck) run(_ context.Context, s *Server) error {
	defer c.runs.Add(1)
	if !c.allowed.Load() {
		return errors.New("not yet")
	}
	s.connectSucceeded()
	return nil
}

// A server in an outage gets no requests until the check succeeds, though it accepts connections.
func TestCheckEndsAnOutage(t *testing.T) {
	refusing := proxytest.NewRefusing(t)
	other := proxytest.NewOrigin(t, mptcp.Off, silent)
	c := &scriptedCheck{}
	b, _ := pool(t, Options{Servers: servers(refusing.Address, other.Address())}, probingEvery(5*time.Millisecond),
		func(b *Backend) { b.check = c })
	if server, tries, err := open(t, b); err != nil || tries != 2 || server != other.Address() {
		t.Fatalf("%s after %d tries, %v; want %s after 2", server, tries, err, other.Address())
	}
	proxytest.OriginOn(t, refusing.Listen(), silent)
	if !proxytest.Within(proxytest.Patience, func() bool { return c.runs.Load() >= 2 }) {
		t.Fatal("the check is not repeated")
	}
	for range 4 {
		if server, _, err := open(t, b); err != nil || server != other.Address() {
			t.Errorf("%s, %v; want %s while the check fails", server, err, other.Address())
		}
	}
	c.allowed.Store(true)
	waitAvailable(t, b, true)
	used := map[string]bool{}
	for range 2 {
		server, _, err := open(t, b)
		if err != nil {
			t.Fatal(err)
		}
		used[server] = true
	}
	if !used[refusing.Address] {
		t.Error("the server gets no requests after a successful check")
	}
}
