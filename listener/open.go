package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mpgate/mptcp"
)

// A Listener is a set of listening sockets that are configured together.
type Listener struct {
	o          Options
	sockets    []*Socket
	activated  bool         // the sockets were taken by name
	armed      []string     // addresses of the MPTCP ones among them
	loggedFull atomic.Int64 // when it was last logged that the Gate is full, unix ns

	started    chan struct{} // closed by the first Serve
	leaveAfter time.Duration
	probing    sync.Mutex // held by the one caller of Probe

	mu      sync.Mutex
	leaving []*Socket // replaced, and accepted from for a while: see swap.go
	serving bool
	closed  bool
}

// A Socket is one listening socket of a Listener.
type Socket struct {
	info SocketInfo
	tcp  *net.TCPListener  // one of the two
	unix *net.UnixListener // is nil
	file unixFile          // what to remove on Close
	// keepAlive is to be set on accepted connections, nil: it stands as it should.
	// Sockets of our own let them inherit it. What net makes of an inherited
	// descriptor sets 15 s on each, and cannot be told otherwise.
	keepAlive *net.KeepAliveConfig
	shares    *Socket       // the same socket in the listener that this one replaces
	answered  chan struct{} // a probe
	held      atomic.Bool   // its loop waits for room in the gate
	swap      *swap         // what Serve has to do first; it has no tcp before
	place     uint32        // in the group of sockets that share its port
	placed    bool          // place is that of an inherited socket of a pair: see pair.go
	plain     *Socket       // of a pair: new connections are to be steered here, by way of that one
	leaves    time.Time     // zero: it stays
}

// Info says what the socket is.
func (s *Socket) Info() SocketInfo { return s.info }

// Addr is that of the socket.
func (s *Socket) Addr() net.Addr {
	if s.tcp != nil {
		return s.tcp.Addr()
	}
	if s.swap != nil {
		return s.swap.old.Addr()
	}
	return s.unix.Addr()
}

func newListener(o Options) *Listener {
	return &Listener{o: o, started: make(chan struct{}), leaveAfter: leaveAfter}
}

// Open takes the inherited sockets of o.Systemd, or opens o.Addresses; in may be
// nil. Either all sockets are there or none is left open.
func Open(ctx context.Context, o Options, in *Inherited) (*Listener, error) {
	l := newListener(o)
	err := l.open(ctx, in)
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Listener) open(ctx context.Context, in *Inherited) error {
	if l.o.Systemd != "" {
		files := in.Take(l.o.Systemd)
		if len(files) > 0 {
			if err := l.inherit(files); err != nil {
				in.untake(files) // for a reload that fixes it
				return err
			}
			l.pair()
			for _, f := range files {
				f.Close()
			}
			return nil
		}
		if len(l.o.Addresses) == 0 || in.Len() > 0 {
			return in.missing(&l.o)
		}
	}
	if len(l.o.Addresses) == 0 {
		return &Error{Listener: l.o.Name, What: "no address and no systemd name", Remedy: `address = "host:port" or systemd = "NAME"`}
	}
	for _, address := range l.o.Addresses {
		s, err := l.openOwn(ctx, address, in)
		if err != nil {
			return err
		}
		l.sockets = append(l.sockets, s)
	}
	return nil
}

// inherit makes sockets of all files, which stay the caller's.
func (l *Listener) inherit(files []InheritedFile) error {
	l.activated = true
	for _, f := range files {
		if k, err := kindOf(f.File); err == nil && k.transport == mptcp.MPTCP {
			l.armed = append(l.armed, k.address)
		}
	}
	for _, f := range files {
		s, err := l.fromFile(f)
		if err != nil {
			return err
		}
		l.sockets = append(l.sockets, s)
	}
	return nil
}

// fromFile checks an inherited socket: net.FileListener would accept a socket of any protocol,
// listening or not.
func (l *Listener) fromFile(f InheritedFile) (*Socket, error) {
	name := l.o.Systemd
	k, err := kindOf(f.File)
	if err != nil {
		return nil, &Error{Listener: l.o.Name, What: fmt.Sprintf("inherited fd %q is not a socket", name), Err: err,
			Remedy: "pass listening sockets only (ListenStream=)"}
	}
	switch {
	case !k.stream:
		return nil, &Error{Listener: l.o.Name, What: fmt.Sprintf("inherited socket %q (%s) is not a stream socket", name, k.address),
			Remedy: "ListenStream= in the .socket unit, not ListenDatagram= or ListenSequentialPacket="}
	case !k.listening:
		return nil, &Error{Listener: l.o.Name, What: fmt.Sprintf("inherited socket %q (%s) does not listen", name, k.address),
			Remedy: "Accept=no in the .socket unit (one socket for all connections)"}
	}
	if l.o.Interface != "" && k.device != l.o.Interface && k.transport != mptcp.Unix {
		return nil, &Error{Listener: l.o.Name, What: fmt.Sprintf("inherited socket %q (%s) is bound to device %q, and interface = %q",
			name, k.address, k.device, l.o.Interface), Remedy: fmt.Sprintf("BindToDevice=%s in the .socket unit", l.o.Interface)}
	}
	info := SocketInfo{Listener: l.o.Name, Address: k.address, Transport: k.transport, Origin: f.Origin}
	if err := l.judgeInherited(&info, name); err != nil {
		return nil, err
	}
	return l.adopt(f.File, info)
}

// adopt makes a socket of a listening one; the file stays the caller's.
func (l *Listener) adopt(f *os.File, info SocketInfo) (*Socket, error) {
	nl, err := net.FileListener(f)
	if err != nil {
		return nil, &Error{Listener: l.o.Name, What: fmt.Sprintf("inherited socket %q (%s)", f.Name(), info.Address), Err: err}
	}
	s := &Socket{info: info, answered: make(chan struct{}, 1)}
	switch nl := nl.(type) {
	case *net.TCPListener:
		s.tcp = nl
		if d := l.o.KeepAlive; d != 0 {
			s.keepAlive = &net.KeepAliveConfig{Enable: d > 0, Idle: d, Interval: d}
		}
	case *net.UnixListener:
		s.unix = nl
	default:
		nl.Close()
		return nil, &Error{Listener: l.o.Name, What: fmt.Sprintf("inherited socket %q (%s) is neither TCP nor unix", f.Name(), info.Address)}
	}
	return s, nil
}

// judgeInherited compares an inherited socket with the configuration.
func (l *Listener) judgeInherited(info *SocketInfo, name string) error {
	const remedy = "SocketProtocol=mptcp in the .socket unit (systemd 257 or later; older ones ignore the line), then restart the socket"
	switch mode, is := l.o.MPTCP, info.Transport; {
	case mode == mptcp.Require && is == mptcp.Unix:
		return l.unixNotMPTCP(info.Address)
	case mode == mptcp.Require && is != mptcp.MPTCP && !slices.Contains(l.armed, info.Address):
		return &Error{Listener: l.o.Name, What: fmt.Sprintf("inherited socket %q (%s) is TCP, and mptcp = \"require\"", name, info.Address),
			Remedy: remedy}
	case mode != mptcp.Off && is == mptcp.TCP && !mptcp.Disabled():
		info.Why, info.Remedy = "the socket that was passed is TCP", remedy
	case (mode == mptcp.Off || mptcp.Disabled()) && is == mptcp.MPTCP:
		info.Why = "the socket that was passed is MPTCP and mpgate cannot change that"
		info.Remedy = "remove SocketProtocol=mptcp from the .socket unit and restart the socket; with the units of mpgate units --pair no restart is needed"
	}
	return nil
}

func (l *Listener) unixNotMPTCP(address string) error {
	return &Error{Listener: l.o.Name, What: fmt.Sprintf("%s is a unix socket, and mptcp = \"require\"", address),
		Remedy: `mptcp = "off" for a listener of its own`}
}

func (l *Listener) openOwn(ctx context.Context, address string, in *Inherited) (*Socket, error) {
	if f := in.takeSpare(ctx, &l.o, address); f != nil {
		defer f.Close()
		return l.fromSpare(f, address)
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		s, err := l.openUnix(ctx, path)
		return s, in.explainHeld(address, err)
	}
	o := mptcp.ListenOptions{Mode: l.o.MPTCP, Interface: l.o.Interface, KeepAlive: l.o.KeepAlive}
	tcp, granted, err := mptcp.Listen(ctx, address, o)
	if errors.Is(err, syscall.EADDRINUSE) && in.dropConflicting(address) {
		for end := time.Now().Add(storeCloseTime); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(end) && pause(ctx, firstPause); {
			tcp, granted, err = mptcp.Listen(ctx, address, o)
		}
	}
	if err != nil {
		return nil, in.explainHeld(address, l.listenError(address, err))
	}
	info := SocketInfo{Listener: l.o.Name, Address: tcp.Addr().String(), Transport: granted}
	if l.o.MPTCP == mptcp.Prefer && granted != mptcp.MPTCP {
		if h := mptcp.Probe(); !h.Usable {
			info.Why, info.Remedy = h.Why, h.Remedy
		} else {
			info.Why, info.Remedy = "the kernel granted TCP only", "see mpgate doctor"
		}
	}
	return &Socket{info: info, tcp: tcp, answered: make(chan struct{}, 1)}, nil
}

// fromSpare uses a socket that an earlier process opened.
func (l *Listener) fromSpare(f *InheritedFile, address string) (*Socket, error) {
	k, err := kindOf(f.File)
	if err != nil {
		return nil, err
	}
	info := SocketInfo{Listener: l.o.Name, Address: k.address, Transport: k.transport, Origin: f.Origin}
	if l.o.MPTCP == mptcp.Prefer && k.transport == mptcp.TCP {
		h := mptcp.Probe()
		info.Why, info.Remedy = h.Why, h.Remedy
	}
	s, err := l.adopt(f.File, info)
	if path, ok := strings.CutPrefix(address, "unix:"); ok && err == nil {
		s.file = fileOf(path)
	}
	return s, err
}

func (l *Listener) listenError(address string, err error) error {
	e := &Error{Listener: l.o.Name, What: "cannot listen on " + address, Err: err}
	if u := (*mptcp.UnableError)(nil); errors.As(err, &u) {
		e.What = "mptcp = \"require\" on " + address + ", and this host does not support MPTCP: " + u.Support.Why
		e.Remedy, e.Err = u.Support.Remedy, u.Support.Err
		return e
	}
	e.Remedy = remedyFor(err)
	// The error already has the address.
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		e.Err = op.Err
	}
	return e
}

func (l *Listener) openUnix(ctx context.Context, path string) (*Socket, error) {
	if l.o.MPTCP == mptcp.Require {
		return nil, l.unixNotMPTCP("unix:" + path)
	}
	ul, file, err := listenUnix(ctx, path, l.o.fileMode())
	if err != nil {
		e := &Error{Listener: l.o.Name, What: "cannot listen on unix:" + path, Err: err, Remedy: remedyFor(err)}
		if le := (*Error)(nil); errors.As(err, &le) {
			e.What, e.Remedy, e.Err = le.What, le.Remedy, le.Err
		}
		return nil, e
	}
	return &Socket{
		info: SocketInfo{Listener: l.o.Name, Address: "unix:" + path, Transport: mptcp.Unix},
		unix: ul, file: file, answered: make(chan struct{}, 1),
	}, nil
}

// Name is the listener's in the configuration.
func (l *Listener) Name() string { return l.o.Name }

// Sockets says what the sockets are.
func (l *Listener) Sockets() []SocketInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]SocketInfo, len(l.sockets))
	for i, s := range l.sockets {
		out[i] = s.info
	}
	return out
}

// Files duplicates the sockets, for a process that is to take them over. They have the listener's
// name; the caller must close them.
func (l *Listener) Files() ([]*os.File, error) {
	var out []*os.File
	for _, s := range l.sockets {
		f, err := s.dup(l.o.Name)
		if err != nil {
			for _, f := range out {
				f.Close()
			}
			return nil, fmt.Errorf("listener %q: %s: %w", l.o.Name, s.info.Address, err)
		}
		out = append(out, f)
	}
	return out, nil
}

// Close ends Serve and closes the sockets; unix sockets that were opened here are
// removed from the file system.
func (l *Listener) Close() error { return l.close(true) }

// Release is Close that leaves unix sockets in the file system: another process
// continues with them.
func (l *Listener) Release() error { return l.close(false) }

func (l *Listener) close(remove bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	for _, s := range l.leaving {
		errs = append(errs, s.tcp.Close())
	}
	for _, s := range l.sockets {
		s.swap.undo()
		if remove {
			// While it still listens, so that no process considers the path stale.
			errs = append(errs, s.file.remove())
		}
		switch {
		case s.tcp != nil:
			errs = append(errs, s.tcp.Close())
		case s.unix != nil:
			errs = append(errs, s.unix.Close())
		}
	}
	return errors.Join(errs...)
}
