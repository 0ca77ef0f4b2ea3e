package proxytest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// firstPort is the first of the ports that FreeAddress gives.
const firstPort = 12000

var (
	givenMu sync.Mutex
	given   = map[int]bool{}
)

// FreeAddress returns an address of the loopback for a program or a configuration that must name
// one. Its port is below those that the kernel gives to sockets that ask for any port, so that no
// test beside gets it.
func FreeAddress(t testing.TB) string {
	t.Helper()
	givenMu.Lock()
	defer givenMu.Unlock()
	n := 20000
	if data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var low int
		if _, err := fmt.Sscan(string(data), &low); err == nil {
			n = low - firstPort
		}
	}
	if n < 1000 {
		t.Fatalf("no ports from %d on are free of the kernel's own (net.ipv4.ip_local_port_range)", firstPort)
	}
	for range 100 {
		port := firstPort + rand.IntN(n)
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil || given[port] {
			continue
		}
		given[port] = true
		_ = l.Close()
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}

// keepPort binds an address of TCP where nobody listens any more, until the end of the test. Others
// do not get it by asking for any port, and who names it may listen there.
func keepPort(t testing.TB, address net.Addr) {
	to, ok := address.(*net.TCPAddr)
	if !ok {
		return
	}
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: [16]byte(to.IP.To16()), Port: to.Port})
	if ip := to.IP.To4(); ip != nil {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte(ip), Port: to.Port}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return // the test is short of descriptors, by intent
	}
	unix.CloseOnExec(fd)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, sa); err != nil {
		t.Logf("the port of a server that has ended is not kept: %s: %v", to, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
}
