package backend

import (
	"context"
	"net/http"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// While the host is short of memory for sockets, connections that use MPTCP carry no new exchanges
// if the server may be reached over TCP.
func TestMPTCPConnectionsAreAvoidedWithoutHostMemory(t *testing.T) {
	proxytest.NeedMPTCP(t)
	short := func() bool { return true }
	for mode, taken := range map[mptcp.Mode]bool{mptcp.Prefer: false, mptcp.Require: true, mptcp.Off: true} {
		o := proxytest.NewOrigin(t, mptcp.Prefer, silent)
		b, _ := pool(t, Options{Servers: []ServerOptions{{Address: o.Address(), MPTCP: mode}}})
		s := b.list()[0]
		_, c, err := s.dial(context.Background(), Addresses{}, false)
		if err != nil {
			t.Fatal(err)
		}
		s.putIdle(c, time.Now())
		b.options.MemoryShort = short
		again := s.takeIdle(true, true)
		if (again != nil) != taken {
			t.Errorf("%v: an idle connection is taken: %v, want %v", mode, again != nil, taken)
		}
		if again != nil {
			again.close()
		}
	}
}

func TestSharedMPTCPConnectionsAreAvoidedWithoutHostMemory(t *testing.T) {
	proxytest.NeedMPTCP(t)
	l := proxytest.Listen(t, mptcp.Prefer)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	web := &http.Server{Protocols: &protocols}
	go func() { _ = web.Serve(l) }()
	defer web.Close()
	b, _ := pool(t, Options{Servers: []ServerOptions{{Address: l.Addr().String()}}, Protocol: HTTP2})
	s := b.list()[0]
	isShort := false
	b.options.MemoryShort = func() bool { return isShort }
	for _, want := range []struct {
		short bool
		conns int
	}{{false, 1}, {false, 1}, {true, 2}, {false, 2}} {
		isShort = want.short
		up, err := s.openShared(context.Background(), &Request{Repeatable: true, Bodyless: true, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		defer up.Release(time.Now())
		s.shared.mu.Lock()
		n := len(s.shared.conns)
		s.shared.mu.Unlock()
		if n != want.conns {
			t.Errorf("short of memory %v: %d connections, want %d", want.short, n, want.conns)
		}
	}
}
