package admin

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Go listens with MPTCP by default.
func TestNeverMPTCP(t *testing.T) {
	s := start(t, Options{Address: "127.0.0.1:0"})
	raw, err := s.listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	protocol := 0
	if cerr := raw.Control(func(fd uintptr) { protocol, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if protocol != unix.IPPROTO_TCP {
		t.Errorf("SO_PROTOCOL %d, want TCP", protocol)
	}
}
