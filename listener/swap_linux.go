package listener

import (
	"net"
	"os"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// control runs f on the descriptor of a socket.
func control(l *net.TCPListener, f func(fd int) error) error {
	rc, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

// bindBeside binds a socket of the other protocol to the address of l, and does not
// let it listen.
func bindBeside(l *net.TCPListener, want mptcp.Transport) (f *os.File, err error) {
	protocol := unix.IPPROTO_TCP
	if want == mptcp.MPTCP {
		protocol = unix.IPPROTO_MPTCP
	}
	err = control(l, func(old int) error {
		domain, err := unix.GetsockoptInt(old, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return os.NewSyscallError("getsockopt SO_DOMAIN", err)
		}
		sa, err := unix.Getsockname(old)
		if err != nil {
			return os.NewSyscallError("getsockname", err)
		}
		fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		if err := bindAs(fd, old, domain, sa); err != nil {
			unix.Close(fd)
			return err
		}
		f = os.NewFile(uintptr(fd), "swap")
		return nil
	})
	return f, err
}

// bindAs gives fd the options and the address of old.
func bindAs(fd, old, domain int, sa unix.Sockaddr) error {
	if domain == unix.AF_INET6 {
		only, err := unix.GetsockoptInt(old, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
		}
		if err != nil {
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if dev, err := unix.GetsockoptString(old, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err == nil && dev != "" {
		if err := unix.BindToDevice(fd, dev); err != nil {
			return os.NewSyscallError("setsockopt SO_BINDTODEVICE", err)
		}
	}
	for _, s := range []int{old, fd} {
		if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_REUSEPORT", err)
		}
	}
	// As package net does: a port with connections in TIME-WAIT can be bound.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Bind(fd, sa); err != nil {
		_ = unix.SetsockoptInt(old, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0)
		return os.NewSyscallError("bind", err)
	}
	return nil
}

// The kernel limits backlog to net.core.somaxconn.
const backlog = 1<<16 - 1

func startListening(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	if err := rc.Control(func(fd uintptr) { lerr = unix.Listen(int(fd), backlog) }); err != nil {
		return err
	}
	return os.NewSyscallError("listen", lerr)
}

// steer sends new SYNs of a group of sockets to the one at that place: they stand in
// the order in which they began to listen. The program goes in by a plain TCP
// socket: on an MPTCP one the option is refused.
func steer(plain *net.TCPListener, place uint32) error {
	return control(plain, func(fd int) error {
		prog := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: place}}
		return os.NewSyscallError("setsockopt SO_ATTACH_REUSEPORT_CBPF", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET,
			unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}))
	})
}
