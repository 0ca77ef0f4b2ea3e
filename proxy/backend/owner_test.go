package backend

import (
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// owned makes an exchange on a connection, which then belongs to an owner.
func owned(t *testing.T, b *Backend, o *Owner, used Stream) {
	t.Helper()
	if used == nil {
		var a Attempt
		a.Reset(b)
		var err error
		if used, err = a.Open(t.Context(), &Request{Now: time.Now(), Repeatable: true, Bodyless: true, Owner: o, Authenticates: true}); err != nil {
			t.Fatal(err)
		}
	}
	exchange(t, used, "GET")
}

// An owner's connections are used by it alone, end with it, and are limited in number.
func TestOwnedConnections(t *testing.T) {
	server, other := proxytest.NewOrigin(t, mptcp.Off, proxytest.Echo), proxytest.NewOrigin(t, mptcp.Off, proxytest.Echo)
	b, in := pool(t, Options{Servers: servers(server.Address(), other.Address())})
	open := func() float64 { return proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_open") }
	idle := func() float64 { return proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_idle") }
	var alice, bob Owner
	owned(t, b, &alice, nil)
	owned(t, b, &bob, nil)
	for i := range 4 { // each stays with its own server, whatever the balancer prefers
		for _, o := range []*Owner{&alice, &bob} {
			var a Attempt
			a.Reset(b)
			up, err := a.Open(t.Context(), &Request{Now: time.Now(), Repeatable: true, Bodyless: true, Owner: o})
			if err != nil || !up.Reused() || up.(*conn).owner != o {
				t.Fatalf("round %d: %v; want the owner's connection", i, err)
			}
			exchange(t, up, "GET")
		}
	}
	if ask(t, b, "GET"); open() != 3 || idle() != 3 {
		t.Errorf("%v connections, %v idle; want one each for two owners and for a stranger", open(), idle())
	}
	var many []Stream
	for range maxOwned + 4 {
		var a Attempt
		a.Reset(b)
		up, err := a.Open(t.Context(), &Request{Now: time.Now(), Repeatable: true, Bodyless: true, Owner: &alice, Authenticates: true})
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, up)
	}
	last := many[0]
	for _, up := range many[1:] {
		owned(t, b, &alice, up)
	}
	if idle() > 2*maxOwned+2 {
		t.Errorf("%v connections are idle, want at most %d for each server and two", idle(), maxOwned)
	}
	alice.Close()
	exchange(t, last, "GET") // its owner is closed
	if n := idle(); n > 2 {
		t.Errorf("%v connections are idle after their owner's end", n)
	}
	bob.Close()
	bob.Close()
	if n := len(b.list()[0].owned) + len(b.list()[1].owned); n != 0 {
		t.Errorf("%d owners are left", n)
	}
}

// Owned connections also end after the idle timeout and with the backend.
func TestOwnedConnectionsEnd(t *testing.T) {
	server := proxytest.NewOrigin(t, mptcp.Off, proxytest.Echo)
	b, in := pool(t, Options{Servers: servers(server.Address())})
	open := func() float64 { return proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_open") }
	var alice Owner
	owned(t, b, &alice, nil)
	s := b.list()[0]
	if s.closeExpired(time.Now()); open() != 1 {
		t.Errorf("%v connections, want that of the owner", open())
	}
	if s.closeExpired(time.Now().Add(b.IdleTimeout())); open() != 0 || len(s.owned) != 0 {
		t.Errorf("%v connections after the idle time", open())
	}
	owned(t, b, &alice, nil)
	if s.close(); open() != 0 {
		t.Errorf("%v connections after the end of the backend", open())
	}
	if owned(t, b, &alice, nil); open() != 0 {
		t.Errorf("%v connections that came back after it", open())
	}
	alice.Close()
}
