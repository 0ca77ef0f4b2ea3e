package listener

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// kind is what the kernel reports about a descriptor.
type kind struct {
	stream, listening bool
	transport         mptcp.Transport
	address           string
	device            string // that it is bound to
}

func kindOf(f *os.File) (kind, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return kind{}, err
	}
	var k kind
	var kindErr error
	if err := rc.Control(func(fd uintptr) { k, kindErr = kindOfFD(int(fd)) }); err != nil {
		return kind{}, err
	}
	return k, kindErr
}

func kindOfFD(fd int) (kind, error) {
	var k kind
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return k, os.NewSyscallError("getsockopt SO_TYPE", err)
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return k, os.NewSyscallError("getsockopt SO_ACCEPTCONN", err)
	}
	k.stream, k.listening = typ == unix.SOCK_STREAM, listening != 0
	if k.transport, err = mptcp.Granted(fd); err != nil {
		return k, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return k, os.NewSyscallError("getsockname", err)
	}
	k.address = addressOf(sa)
	// No such option on unix sockets.
	if dev, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err == nil {
		k.device = dev
	}
	return k, nil
}

func addressOf(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		a := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			a = a.WithZone(strconv.Itoa(int(sa.ZoneId)))
		}
		return netip.AddrPortFrom(a, uint16(sa.Port)).String()
	case *unix.SockaddrUnix:
		return "unix:" + sa.Name
	}
	return "of another kind"
}

func describe(f *os.File) string {
	k, err := kindOf(f)
	switch {
	case err != nil:
		return "not a socket"
	case !k.stream:
		return k.address + ", not a stream socket"
	case !k.listening:
		return k.address + ", not listening"
	}
	return fmt.Sprintf("%s, %s", k.address, k.transport)
}

func (s *Socket) dup(name string) (*os.File, error) {
	switch {
	case s.tcp != nil:
		return Dup(s.tcp, name)
	case s.swap != nil:
		return s.swap.old.dup(name) // it does not listen yet
	}
	return Dup(s.unix, name)
}

// Dup duplicates the descriptor of a socket, for another process. (*net.TCPListener).File would do,
// but the file that it makes turns the socket to blocking, for us too, once Fd is called, and
// os/exec calls it.
func Dup(socket syscall.Conn, name string) (*os.File, error) {
	rc, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var n int
	var dupErr error
	if err := rc.Control(func(fd uintptr) { n, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	return os.NewFile(uintptr(n), name), nil
}
