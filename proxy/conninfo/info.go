// Package conninfo holds what the kernel reports about one connection, to a client or to a server:
// whether it uses MPTCP, and over how many subflows. It asks the kernel at most once a second,
// because one query costs about as much as parsing a small request. It also counts the connection
// in the metrics.
package conninfo

import (
	"sync/atomic"
	"syscall"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// maxAge is how old an answer of the kernel may be.
const maxAge = time.Second

// epoch is the zero of times that are stored as numbers. They come from the monotonic clock, so
// that setting the wall clock does not change them. It is maxAge before the start of the process,
// so that the zero value of lastRead counts as too old.
var epoch = time.Now().Add(-maxAge)

// Options say how a connection is counted. The zero value is valid.
type Options struct {
	Side        telemetry.Side
	Instruments *telemetry.Instruments // nil: not counted
	// Reason is why the connection does not use MPTCP, if that is the case: what the dial inferred,
	// mptcp.NotOffered for a client of an MPTCP listener, or mptcp.None if MPTCP was not requested.
	Reason mptcp.Reason
	// Registry, if not nil, contains the connection until Close if it uses MPTCP.
	Registry *Registry
	Checks   bool // only checks of the server use it
}

// Info is what is known about one connection. One goroutine calls Open and Close; any goroutine may
// call State and Refresh, because many exchanges may share a connection.
type Info struct {
	options       Options
	raw           syscall.RawConn
	lastRead      atomic.Int64  // when the kernel was last asked, ns since epoch
	state         atomic.Uint64 // transport<<32 | subflows
	fellBackLater atomic.Bool   // it used MPTCP at first
	registered    bool
	retired       atomic.Bool
}

// Raw returns the connection, or nil before Open.
func (i *Info) Raw() syscall.RawConn { return i.raw }

// OnlyChecks reports whether only checks of the server use the connection.
func (i *Info) OnlyChecks() bool { return i.options.Checks }

// Retire marks the connection to be closed once it is idle, because a new one would be better. It
// may be called from any goroutine, and after Close.
func (i *Info) Retire() { i.retired.Store(true) }

// Retired reports whether Retire was called.
func (i *Info) Retired() bool { return i.retired.Load() }

// Open asks the kernel for the transport of the connection, and starts to count it.
func (i *Info) Open(raw syscall.RawConn, o Options) mptcp.Transport {
	t, err := mptcp.TransportOf(raw)
	if err != nil {
		t = mptcp.Unknown
	}
	return i.OpenAs(t, raw, o)
}

// OpenAs is Open for a connection whose transport is known.
func (i *Info) OpenAs(t mptcp.Transport, raw syscall.RawConn, o Options) mptcp.Transport {
	i.raw, i.options = raw, o
	if t == mptcp.TCP && o.Reason != mptcp.None && o.Reason != mptcp.NotOffered {
		t = mptcp.Fallback // not requested, because earlier connections to this server fell back
	}
	i.set(t, 0)
	if t == mptcp.MPTCP && o.Registry != nil {
		i.registered = true
		o.Registry.add(i)
	}
	return t
}

func (i *Info) set(t mptcp.Transport, subflows int) {
	if _, before := i.State(); before != subflows {
		i.options.Instruments.MPTCPSubflows(i.options.Side, subflows-before)
	}
	i.state.Store(uint64(t)<<32 | uint64(uint32(subflows)))
}

// State returns the transport and the number of subflows as of the last answer of the kernel.
func (i *Info) State() (mptcp.Transport, int) {
	s := i.state.Load()
	return mptcp.Transport(s >> 32), int(uint32(s))
}

// Refresh is State, after asking the kernel again if its last answer is older than a second and may
// have changed.
func (i *Info) Refresh(now time.Time) (mptcp.Transport, int) {
	t, n := i.State()
	if t != mptcp.MPTCP {
		return t, n
	}
	at, last := int64(now.Sub(epoch)), i.lastRead.Load()
	// If the exchange fails, another goroutine is asking.
	if at-last < int64(maxAge) || !i.lastRead.CompareAndSwap(last, at) {
		return t, n
	}
	n, err := mptcp.SubflowCount(i.raw)
	if err == mptcp.ErrNotMPTCP {
		t, n = mptcp.Fallback, 0
		i.fellBackLater.Store(true)
	}
	i.set(t, n)
	return t, n
}

// Close counts the connection as ended, by its transport. It must be called before the socket is
// closed.
func (i *Info) Close() {
	o := &i.options
	if i.registered {
		o.Registry.remove(i)
	}
	t, _ := i.State()
	reason := o.Reason
	if i.fellBackLater.Load() {
		reason = mptcp.Later
	}
	if t == mptcp.MPTCP {
		reason = mptcp.None
		if now, err := mptcp.TransportOf(i.raw); err == nil && now == mptcp.Fallback {
			t, reason = now, mptcp.Later
		}
	}
	if t == mptcp.Fallback && (reason == mptcp.None || reason == mptcp.NotOffered) {
		reason = mptcp.PeerOrPath // MPTCP was requested, and the answer came without it
	}
	i.set(t, 0)
	o.Instruments.MPTCPEnded(o.Side, t.String())
	if reason != mptcp.None {
		o.Instruments.MPTCPFellBack(o.Side, reason.String())
	}
}
