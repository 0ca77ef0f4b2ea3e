package netio

import (
	"net"
	"testing"
)

func TestExpectSilenceSendsAndWaits(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		go func() { // answers as fast as it can: no edge may be lost
			buf := make([]byte, 8)
			for {
				if _, err := peer.Read(buf); err != nil {
					return
				}
				if _, err := peer.Write([]byte("a")); err != nil {
					return
				}
			}
		}()
		var b Buffer
		for range 2000 {
			send(t, c, "question")
			c.ExpectSilence()
			fill(t, c, &b, "a")
		}
	})
}

func TestExpectSilenceSendsNothingToAPeerThatSpokeOrClosed(t *testing.T) {
	for name, out := range map[string]func(*testing.T, *net.TCPConn){
		"spoke":  func(t *testing.T, peer *net.TCPConn) { send(t, peer, "out of turn") },
		"closed": func(t *testing.T, peer *net.TCPConn) { _ = peer.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
				out(t, peer)
				waitReadable(t, c)
				send(t, c, "question")
				c.ExpectSilence()
				var b Buffer
				if err := c.Fill(&b); err != ErrSpoke {
					t.Fatalf("got %v, want ErrSpoke", err)
				}
				if c.Held() != len("question") {
					t.Errorf("%d bytes held, want all 8: something was sent", c.Held())
				}
				_ = c.Abort()
				buf := make([]byte, 1)
				if n, _ := peer.Read(buf); n > 0 {
					t.Errorf("the peer got %q", buf)
				}
			})
		})
	}
}

func TestUnreadComesFirst(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		var b Buffer
		send(t, peer, "header hello")
		fill2 := func(want int) {
			for b.Len() < want {
				if err := c.Fill(&b); err != nil {
					t.Fatal(err)
				}
			}
		}
		fill2(12)
		b.Discard(7)
		c.Unread(&b)
		if c.Idle() {
			t.Error("idle with bytes given back")
		}
		if err := c.WaitReadable(); err != nil {
			t.Fatal(err)
		}
		wantRead(t, c, "he")
		fill2(3)
		send(t, peer, " there")
		fill2(9)
		if got := string(b.Bytes()); got != "llo there" {
			t.Errorf("got %q", got)
		}
	})
}
