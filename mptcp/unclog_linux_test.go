package mptcp_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// A connection whose reader is slow has a full receive buffer, too, and is left as it is.
func TestUnclogLeavesSlowReadersAlone(t *testing.T) {
	if s := mptcp.Host(); !s.Usable {
		if os.Getenv("CI") == "true" {
			t.Fatal("must not be skipped in CI: " + s.Why)
		}
		t.Skip(s.Why)
	}
	l, _, err := mptcp.Listen(t.Context(), "127.0.0.1:0", mptcp.ListenOptions{Mode: mptcp.Require})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, _, err := (&mptcp.Dialer{Mode: mptcp.Require}).Dial(t.Context(), l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 10 { // the kernel moves what it has on by and by
		_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Write(make([]byte, 16<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("16 MiB were taken with nobody reading: %v", err)
		}
	}
	rc, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	before := receiveBuffer(t, s)
	for range 3 {
		if did, err := mptcp.Unclog(rc); did || err != nil {
			t.Fatalf("something was done: %v, %v", did, err)
		}
	}
	if now := receiveBuffer(t, s); now != before {
		t.Errorf("the receive buffer was %d bytes, it is %d", before, now)
	}
}

func receiveBuffer(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := rc.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return n
}

// BenchmarkUnclog is what a look at a connection costs that is as it should be.
func BenchmarkUnclog(b *testing.B) {
	l, _, err := mptcp.Listen(b.Context(), "127.0.0.1:0", mptcp.ListenOptions{Mode: mptcp.Require})
	if err != nil {
		b.Skip(err)
	}
	defer l.Close()
	c, _, err := (&mptcp.Dialer{}).Dial(b.Context(), l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	rc, err := c.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if did, err := mptcp.Unclog(rc); did || err != nil {
			b.Fatal(did, err)
		}
	}
}
