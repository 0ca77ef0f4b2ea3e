package proxytest

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"mpgate/mptcp"
)

// The address of a server that has ended refuses, also when it had connections, and a server that
// comes back there can listen.
func TestPortOfEndedServer(t *testing.T) {
	for _, mode := range []mptcp.Mode{mptcp.Off, mptcp.Prefer} {
		o := NewOrigin(t, mode, func(c *Conn) {})
		Dial(t, o.Address(), mptcp.Off).WantClosed()
		o.Close()
		if _, err := net.Dial("tcp", o.Address()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want that the connection is refused", err)
		}
		var list []net.Listener
		for range 2000 {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, l)
			if l.Addr().String() == o.Address() {
				t.Error("another socket got the port")
			}
		}
		for _, l := range list {
			l.Close()
		}
		l, err := net.Listen("tcp", o.Address())
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}

func TestFreeAddress(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		address := FreeAddress(t)
		if seen[address] {
			t.Errorf("%s was given twice", address)
		}
		seen[address] = true
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}
