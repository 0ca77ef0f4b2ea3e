package netio

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestDrop(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		send(t, peer, "read ahead")
		var b Buffer
		if err := c.Fill(&b); err != nil {
			t.Fatal(err)
		}
		c.Unread(&b)
		send(t, c, "held") // leaves first
		go send(t, peer, strings.Repeat("x", 100<<10)+"tail")
		if err := c.Drop(Linger{10 + 100<<10, time.Minute, time.Minute}); err != nil {
			t.Fatal(err)
		}
		wantRead(t, peer, "held")
		if err := c.Drop(Linger{1 << 40, 20 * time.Millisecond, time.Minute}); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("after silence: got %v, want a deadline error", err)
		}
		if err := c.Drop(Linger{1 << 40, time.Minute, 20 * time.Millisecond}); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("after its time: got %v, want a deadline error", err)
		}
		send(t, peer, "more")
		if err := peer.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := c.Drop(Linger{1 << 40, time.Minute, time.Minute}); err != nil {
			t.Fatalf("at the end of the stream: %v", err)
		}
		if err := c.Fill(&b); err != io.EOF {
			t.Fatalf("got %v, want EOF: what was dropped is gone", err)
		}
	})
}

// A unix socket is of the kind that copies.
func TestDropOnUnixSocket(t *testing.T) {
	c, peer := unixPair(t)
	send(t, peer, strings.Repeat("x", 1000))
	if err := c.Drop(Linger{1000, time.Minute, time.Minute}); err != nil {
		t.Fatal(err)
	}
	send(t, peer, "y")
	wantRead(t, c, "y")
}
