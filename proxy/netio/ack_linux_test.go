package netio

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// delays says whether the kernel delays acknowledgements on c, as it does once data go to and fro.
func delays(t *testing.T, c *Conn) bool {
	t.Helper()
	var quick int
	var err error
	_ = c.raw.Control(func(fd uintptr) { quick, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK) })
	if err != nil {
		t.Fatal(err)
	}
	return quick == 0
}

func TestAcknowledge(t *testing.T) {
	c, peer := pair(t)
	for range 4 {
		send(t, peer, "x")
		wantRead(t, c, "x")
		send(t, c, "y")
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		wantRead(t, peer, "y")
	}
	if !delays(t, c) {
		t.Fatal("the kernel does not delay acknowledgements")
	}
	c.AcknowledgeNext()
	if !delays(t, c) {
		t.Error("acknowledged before a read waits")
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if delays(t, c) {
		t.Error("a read waits, and acknowledgements are still delayed")
	}
	send(t, c, "y")
	_ = c.Flush()
	wantRead(t, peer, "y")
	send(t, peer, "x")
	_ = c.SetReadDeadline(time.Time{})
	wantRead(t, c, "x")
	send(t, c, "y")
	_ = c.Flush()
	if !delays(t, c) {
		t.Fatal("the kernel does not delay acknowledgements any more")
	}
	c.Acknowledge()
	if delays(t, c) {
		t.Error("acknowledgements are still delayed")
	}
}
