package listener

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"mpgate/mptcp"
)

// Options describe one listener.
type Options struct {
	// Name is the listener's in the configuration; errors and logs contain it.
	Name string
	// Addresses to open: host:port, [IPv6]:port, :port for both IP versions, or
	// unix:/path (unix:@name for an abstract one). 0.0.0.0 is IPv4 only and [::]
	// IPv6 only, so that both can be listed.
	Addresses []string
	// Systemd is the name of inherited sockets (FileDescriptorName=). All of that name are taken.
	// Addresses are then used only if no socket at all was inherited.
	Systemd string
	// FileMode of a unix socket; 0 means 0660.
	FileMode os.FileMode
	MPTCP    mptcp.Mode
	// Interface is a device to bind to; it does not concern unix sockets.
	Interface string
	// KeepAlive as in mptcp.Dialer.
	KeepAlive time.Duration
	// Gate, if there is one, is entered for each accepted connection; the receiver of the
	// connection calls Leave when it ends.
	Gate *Gate
	// Failed, if it is set, is called for each accept that failed. It must not block.
	Failed func() `json:"-"`
	// Log gets accept errors, at most one a second. nil: slog.Default().
	Log *slog.Logger
}

const defaultFileMode = 0o660

func (o *Options) fileMode() os.FileMode {
	if o.FileMode == 0 {
		return defaultFileMode
	}
	return o.FileMode
}

func (o *Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.Default()
	}
	return o.Log
}

// Origin is where a socket comes from.
type Origin uint8

const (
	// Own: opened by this process.
	Own Origin = iota
	// Systemd: passed at the start (socket activation).
	Systemd
	// Parent: handed over by the process that this one replaces.
	Parent
	// Store: opened by an earlier process and kept in systemd's fd store.
	Store
)

func (o Origin) String() string {
	switch o {
	case Own:
		return "own"
	case Systemd:
		return "systemd"
	case Parent:
		return "parent"
	case Store:
		return "fdstore"
	}
	return fmt.Sprintf("Origin(%d)", uint8(o))
}

// SocketInfo is what is known about a listening socket at the start and in status.
type SocketInfo struct {
	Listener string
	// Address is host:port, or unix:/path.
	Address string
	// Transport is what the kernel granted: TCP, MPTCP or Unix.
	Transport mptcp.Transport
	Origin    Origin
	// Why is set where Transport is not what the configuration prefers: why that
	// is, and in Remedy what to do about it.
	Why, Remedy string
	// Reserve: new connections are steered to another inherited socket of this address, which is of
	// the other protocol. What still comes in here is served.
	Reserve bool
}

// Error is a fault found when a listener is opened.
type Error struct {
	// Listener is the name, "" where none is concerned.
	Listener string
	// What is wrong, and what would fix it ("" where What says it all).
	What, Remedy string
	// Err is the cause, if it was a system call.
	Err error
}

func (e *Error) Error() string {
	s := e.What
	if e.Listener != "" {
		s = fmt.Sprintf("listener %q: %s", e.Listener, s)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Remedy != "" {
		s += "; remedy: " + e.Remedy
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }
