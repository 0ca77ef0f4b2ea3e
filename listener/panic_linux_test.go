package listener

import (
	"net"
	"sync/atomic"
	"testing"

	"mpgate/task"
)

// TestPanicOfAccept closes the one connection, gives its place back, and the accepting goes on at
// once.
func TestPanicOfAccept(t *testing.T) {
	told := make(chan *task.Panic, 8)
	t.Cleanup(task.OnPanic(func(p *task.Panic) { told <- p }))
	gate := NewGate(1)
	l := open(t, Options{Name: "web", Addresses: []string{"127.0.0.1:0"}, Gate: gate}, nil)
	var faulty atomic.Bool
	faulty.Store(true)
	serve(t, l, func(c net.Conn, s *Socket) {
		if faulty.Swap(false) {
			panic("accept")
		}
		sendAddress(c, s)
		gate.Leave()
	})
	address := l.Sockets()[0].Address
	if got := ask(t, address); got != "" {
		t.Errorf("got %q", got)
	}
	if p := <-told; p.Task != "listener web: new connection" || p.Value != "accept" {
		t.Errorf("reported: %v", p)
	}
	if got := ask(t, address); got != address {
		t.Errorf("then got %q", got)
	}
}
