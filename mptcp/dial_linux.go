package mptcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/task"
)

// 0. if the host is short of memory: TCP; with a Memory: ask it first; race_linux.go has what it
// changes
// 1. make the socket (MPTCP, or TCP where the host has none)
// 2. options and source
// 3. connect, wait on Go's poller
// 4. a *net.TCPConn of it
// 5. read the transport, and infer the reason
//
// net.Dialer would do 1 to 4, but tries a second time by TCP whatever the error was.
func (d *Dialer) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, Result, error) {
	if err := d.check(to); err != nil {
		return nil, Result{}, err
	}
	if err := ctx.Err(); err != nil {
		return nil, Result{}, err
	}
	if d.Mode == Prefer && hostMemoryShort() {
		return d.dialPlain(ctx, to, HostUnable)
	}
	if d.learns() {
		if ask, reason := d.Memory.ask(to, time.Now()); !ask {
			return d.dialPlain(ctx, to, reason)
		}
	}
	fd, r, err := d.prepared(to)
	asked := err == nil && r.Transport == MPTCP
	if d.learns() {
		if asked {
			return d.race(ctx, fd, to)
		}
		d.Memory.failed(to) // nothing was sent to the server: the next dial may retry
	}
	if err != nil {
		return nil, r, err
	}
	f, err := begin(fd, to)
	if err != nil {
		return nil, Result{}, err
	}
	defer f.Close()
	if err := wait(ctx, f); err != nil {
		return nil, Result{}, err
	}
	if asked {
		r = resultOf(f)
	}
	if d.Mode == Require && r.Transport != MPTCP {
		return nil, r, ErrRequired
	}
	c, err := d.conn(f, to)
	if err != nil {
		return nil, Result{}, err
	}
	return c, r, nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// socket makes the socket. The transport of its result is the requested one.
func (d *Dialer) socket(family int) (int, Result, error) {
	const kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	r := Result{Transport: TCP}
	if d.Mode != Off {
		if Disabled() {
			if d.Mode == Require {
				return -1, Result{}, &UnableError{Support: switchedOff(Support{Usable: true})}
			}
		} else {
			fd, err := unix.Socket(family, kind, unix.IPPROTO_MPTCP)
			if err == nil {
				return fd, Result{Transport: MPTCP}, nil
			}
			if !meansNoMPTCP(err) {
				return -1, Result{}, os.NewSyscallError("socket", err)
			}
			r = Result{Transport: Fallback, Reason: HostUnable}
			if d.Mode == Require {
				s := Support{Kernel: kernelRelease(), Err: err}
				s.Why, s.Remedy = unable(err, s.Kernel)
				return -1, r, &UnableError{Support: s}
			}
		}
	}
	fd, err := unix.Socket(family, kind, unix.IPPROTO_TCP)
	if err != nil {
		return -1, Result{}, os.NewSyscallError("socket", err)
	}
	return fd, r, nil
}

// prepared returns a socket that is ready to connect.
func (d *Dialer) prepared(to netip.AddrPort) (int, Result, error) {
	fd, r, err := d.socket(family(to.Addr()))
	if err != nil {
		return -1, r, err
	}
	if r.Transport == MPTCP {
		blackhole.baseline()
	}
	if err := d.prepare(fd, to); err != nil {
		unix.Close(fd)
		return -1, Result{}, err
	}
	return fd, r, nil
}

// prepare sets the options that are needed before connect. The device and the source come from the
// operator, so their errors fail the dial. The rest is best effort.
func (d *Dialer) prepare(fd int, to netip.AddrPort) error {
	if d.Interface != "" {
		if err := unix.BindToDevice(fd, d.Interface); err != nil {
			return fmt.Errorf("cannot bind to device %q: %w", d.Interface, os.NewSyscallError("setsockopt", err))
		}
	}
	if src := d.Source.Unmap(); src.IsValid() {
		// Without it the kernel picks the port before it knows the peer: then
		// 28,000 connections to all servers together would use up the range.
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		sa, err := sockaddr(netip.AddrPortFrom(src, 0))
		if err != nil {
			return err
		}
		// The kernel does not support IP_BIND_ADDRESS_NO_PORT.
		if err := unix.Bind(fd, sa); err == unix.EADDRINUSE {
			return &noPortError{os.NewSyscallError("bind", err)}
		} else if err != nil {
			return os.NewSyscallError("bind", err)
		}
	}
	return nil
}

func sockaddr(a netip.AddrPort) (unix.Sockaddr, error) {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if zone := a.Addr().Zone(); zone != "" {
		if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
			sa.ZoneId = uint32(n)
			return sa, nil
		}
		dev, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, &net.AddrError{Err: "no such zone", Addr: a.String()}
		}
		sa.ZoneId = uint32(dev.Index)
	}
	return sa, nil
}

// expired is a deadline in the past, which ends a wait at once.
var expired = time.Unix(1, 0)

// begin sends the SYN. An os.File waits, because it uses Go's poller.
func begin(fd int, to netip.AddrPort) (*os.File, error) {
	sa, err := sockaddr(to)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	switch err := unix.Connect(fd, sa); err {
	case nil, unix.EINPROGRESS, unix.EINTR:
		// An interrupted connect continues by itself.
	default:
		err := connectError(fd, sa, err)
		unix.Close(fd)
		return nil, err
	}
	// Only now: a socket that is neither connected nor connecting would wake the poller.
	return os.NewFile(uintptr(fd), "dial"), nil
}

// connectError returns the error of a connect of fd that failed at once. EADDRNOTAVAIL means that
// no local port is free, or that the host has no address to reach the peer from. A datagram socket,
// which has its own ports, tells them apart.
func connectError(fd int, to unix.Sockaddr, err error) error {
	named := os.NewSyscallError("connect", err)
	if err == unix.EAGAIN { // older kernels return EAGAIN if no port is free
		return &noPortError{named}
	}
	if err != unix.EADDRNOTAVAIL {
		return named
	}
	kind := unix.AF_INET6
	if _, ok := to.(*unix.SockaddrInet4); ok {
		kind = unix.AF_INET
	}
	other, err := unix.Socket(kind, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return named
	}
	defer unix.Close(other)
	if device, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err == nil && device != "" {
		_ = unix.BindToDevice(other, device)
	}
	if unix.Connect(other, to) == unix.EADDRNOTAVAIL {
		return named
	}
	return &noPortError{named}
}

// conn makes a *net.TCPConn of a socket that has connected: a duplicate, as net.FileConn
// must not be asked before the peer's address is known. For Touch it makes none.
func (d *Dialer) conn(f *os.File, to netip.AddrPort) (*net.TCPConn, error) {
	if d.touch {
		return nil, checkSelf(f, to)
	}
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	c := nc.(*net.TCPConn)
	if c.RemoteAddr() == nil {
		// The peer has sent a RST since.
		c.Close()
		return nil, os.NewSyscallError("connect", unix.ECONNRESET)
	}
	if c.LocalAddr().String() == c.RemoteAddr().String() {
		// A dead port of this host in the ephemeral range, and the kernel
		// happened to choose the same as ours: TCP's simultaneous open with oneself.
		c.Close()
		return nil, os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	d.keepAlive(c)
	return c, nil
}

// checkSelf returns an error if the socket is connected with itself; see conn.
func checkSelf(f *os.File, to netip.AddrPort) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var local netip.AddrPort
	err = rc.Control(func(fd uintptr) {
		switch a, _ := unix.Getsockname(int(fd)); a := a.(type) {
		case *unix.SockaddrInet4:
			local = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
		case *unix.SockaddrInet6:
			local = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
		}
	})
	if err == nil && local == netip.AddrPortFrom(to.Addr().WithZone(""), to.Port()) {
		err = os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	return err
}

// wait returns when the handshake has ended, well or badly, or the context is done.
func wait(ctx context.Context, f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var stop func() bool
	var outcome error
	err = rc.Write(func(fd uintptr) bool {
		var done bool
		done, outcome = handshaken(int(fd))
		if !done && stop == nil && ctx.Done() != nil {
			// The deadline is that of f, which goes away: there is nothing to undo
			// where this fires after the connect.
			stop = task.AfterDone(ctx, "dial: deadline", func() { f.SetWriteDeadline(expired) })
		}
		return done
	})
	if stop != nil {
		stop()
	}
	if ctx.Err() != nil && (err != nil || outcome != nil) {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return outcome
}

// handshaken polls without waiting: an event may have occurred before the poller was asked.
func handshaken(fd int) (bool, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, 0)
	if err == unix.EINTR || (err == nil && n == 0) {
		return false, nil
	}
	if err != nil {
		return true, os.NewSyscallError("poll", err)
	}
	v, e := getsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if e != 0 {
		return true, os.NewSyscallError("getsockopt", e)
	}
	if v != 0 {
		return true, os.NewSyscallError("connect", syscall.Errno(v))
	}
	return true, nil
}

// keepAlive sets what net.FileConn did not: it has set TCP_NODELAY and probes
// every 15 s, and ignores refusals as is done here.
func (d *Dialer) keepAlive(c *net.TCPConn) {
	switch {
	case d.KeepAlive < 0:
		_ = c.SetKeepAlive(false)
	case d.KeepAlive > 0 && d.KeepAlive != defaultKeepAlive:
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: d.KeepAlive, Interval: d.KeepAlive})
	}
}

// resultOf returns the result of a new connection that requested MPTCP.
func resultOf(f *os.File) Result {
	rc, err := f.SyscallConn()
	if err != nil {
		return Result{}
	}
	t, err := TransportOf(rc)
	if err != nil {
		return Result{}
	}
	r := Result{Transport: t}
	if t == Fallback {
		r.Reason = PeerOrPath
		if blackhole.explains() {
			r.Reason = Blackhole
		}
	}
	return r
}

// A blackholeWatch remembers the namespace's counters of vanished and withheld
// MP_CAPABLE SYNs. They move for every dial that the kernel sends out plain: a
// fallback after which they stand elsewhere is put down to that. With dials at the
// same time, or by other programs of the namespace, that may be wrong for one of
// them: the reason is inferred.
type blackholeWatch struct {
	mu    sync.Mutex
	known bool
	last  uint64
	at    time.Time
	moved bool
}

// The counters cost some 100 us to read, more than a dial, and the state they tell of
// lasts an hour.
const blackholeEvery = time.Second

var blackhole = new(blackholeWatch)

// baseline reads the counters once, before the first dial.
func (w *blackholeWatch) baseline() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.known {
		w.known, w.last = true, readBlackhole()
	}
}

// explains reports whether the counters have moved, as last seen.
func (w *blackholeWatch) explains() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.at) >= blackholeEvery {
		sum := readBlackhole()
		w.moved, w.last, w.at = sum != w.last, sum, now
	}
	return w.moved
}
