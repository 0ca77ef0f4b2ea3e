package proxytest

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
)

// Refusing is an address where nobody listens until Listen. Its port stays bound, so that no test
// beside gets it.
type Refusing struct {
	Address string

	t  testing.TB
	fd int
}

// NewRefusing takes a port.
func NewRefusing(t testing.TB) *Refusing {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	a, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return &Refusing{Address: fmt.Sprintf("127.0.0.1:%d", a.(*syscall.SockaddrInet4).Port), t: t, fd: fd}
}

// Listen ends the refusing.
func (r *Refusing) Listen() net.Listener {
	r.t.Helper()
	if err := syscall.Listen(r.fd, syscall.SOMAXCONN); err != nil {
		r.t.Fatal(err)
	}
	fd, err := syscall.Dup(r.fd)
	if err != nil {
		r.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), r.Address)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}
