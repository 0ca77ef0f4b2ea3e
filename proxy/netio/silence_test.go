package netio

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
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
			c.ExpectIdle()
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
				c.ExpectIdle()
				var b Buffer
				if err := c.Fill(&b); err != ErrNotIdle {
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

func TestExpectSilenceLooksBehindADeadlineThatIsOver(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		send(t, peer, "spoken out of turn")
		if err := c.WaitReadable(); err != nil {
			t.Fatal(err)
		}
		// The poller's timer has fired before the read begins.
		_ = c.SetReadDeadline(time.Now().Add(-time.Second))
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		c.ExpectIdle()
		var b Buffer
		if err := c.Fill(&b); err != ErrNotIdle {
			t.Fatalf("got %q, %v, want %v", b.Bytes(), err, ErrNotIdle)
		}
		_ = c.Abort()
		if got, _ := io.ReadAll(peer); len(got) > 0 {
			t.Errorf("%q was sent to a peer that had spoken out of turn", got)
		}
	})
}

func TestExpectSilenceOutlivesADeadline(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		send(t, peer, "spoken out of turn")
		if err := c.WaitReadable(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		c.ExpectIdle()
		_ = c.SetReadDeadline(time.Now().Add(-time.Second))
		var b Buffer
		if err := c.Fill(&b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want the deadline", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second)) // whoever waits on is as careful
		if err := c.Fill(&b); err != ErrNotIdle {
			t.Fatalf("got %q, %v, want %v", b.Bytes(), err, ErrNotIdle)
		}
	})
}
