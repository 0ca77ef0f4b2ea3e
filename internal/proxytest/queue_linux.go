package proxytest

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FullQueue makes an address of the loopback, with port 0 at any, answer no SYN: nobody accepts,
// and the queue is full.
func FullQueue(t testing.TB, at netip.AddrPort) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.AddrPortFrom(at.Addr(), uint16(sa.(*unix.SockaddrInet4).Port)).String()
	for range 16 {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		var d net.Dialer
		d.SetMultipathTCP(false)
		c, err := d.DialContext(ctx, "tcp", address)
		cancel()
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("16 connections fit a queue of none")
	return ""
}
