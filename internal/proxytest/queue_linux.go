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
	family, socket := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())})
	if at.Addr().Is4() {
		family, socket = unix.AF_INET, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, socket); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := at.Port()
	if v4, ok := sa.(*unix.SockaddrInet4); ok {
		port = uint16(v4.Port)
	} else if v6, ok := sa.(*unix.SockaddrInet6); ok {
		port = uint16(v6.Port)
	}
	address := netip.AddrPortFrom(at.Addr(), port).String()
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
