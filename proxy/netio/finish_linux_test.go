package netio

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// segments is how many TCP segments the socket has received.
func segments(t *testing.T, c *net.TCPConn) uint32 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n uint32
	_ = raw.Control(func(fd uintptr) {
		var i *unix.TCPInfo
		if i, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = i.Segs_in
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFinishSendsTheFINWithTheLastBytes(t *testing.T) {
	if raceEnabled {
		t.Skip("the raw calls are others under the race detector")
	}
	c, peer := pair(t)
	before := segments(t, peer)
	send(t, c, "the last bytes")
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(peer); string(got) != "the last bytes" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if n := segments(t, peer) - before; n != 1 {
		t.Errorf("%d segments, want 1", n)
	}
}

// What the peer sent and nobody read makes the kernel reset the connection at the close. What was
// held has left by then.
func TestFinishBesideUnreadInput(t *testing.T) {
	c, peer := pair(t)
	send(t, peer, "nobody reads this")
	if err := c.WaitReadable(); err != nil {
		t.Fatal(err)
	}
	send(t, c, "the last bytes")
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	wantRead(t, peer, "the last bytes")
}

func TestFinishSendsMoreThanTheSocketTakes(t *testing.T) {
	c, peer := pair(t)
	c.UseLargeBlocks()
	if err := c.sock.(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 4<<10-1)
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Finish() }()
	if got, err := io.ReadAll(peer); !bytes.Equal(got, want) || err != nil {
		t.Errorf("read %d bytes, %v; want %d", len(got), err, len(want))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What is held and cannot be sent makes a read wait, too.
func TestReadByHoldsWhileNothingCanBeSent(t *testing.T) {
	c, _ := pair(t)
	stuff(t, c)
	send(t, c, "stuck")
	c.ReadBy(time.Now().Add(50 * time.Millisecond))
	var b Buffer
	defer b.Release()
	began := time.Now()
	if err := c.Fill(&b); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 20*time.Second {
		t.Errorf("got %v after %v, want a deadline error", err, time.Since(began))
	}
}

func TestReadBySetsNoTimerBeforeItWaits(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		send(t, peer, "a")
		if err := c.WaitReadable(); err != nil {
			t.Fatal(err)
		}
		c.ReadBy(time.Now().Add(time.Minute))
		wantRead(t, c, "a")
		if c.deadline.armed.Load() != 0 {
			t.Error("a read that did not wait has set the timer")
		}
		for _, read := range []func() error{
			func() error { _, err := c.Read(make([]byte, 1)); return err },
			c.WaitReadable,
			func() error { var b Buffer; defer b.Release(); return c.Fill(&b) },
		} {
			c.ReadBy(time.Now().Add(10 * time.Millisecond))
			if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a read that waits gave %v", err)
			}
		}
	})
}
