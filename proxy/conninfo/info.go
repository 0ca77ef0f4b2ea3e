// Package conninfo holds what the kernel reports about one connection of mpgate, to a client or to a
// server: whether it uses MPTCP and over how many subflows. It asks at most once a second, since
// asking costs about as much as a small request's parsing, and accounts for the connection in the
// metrics.
package conninfo

import (
	"sync/atomic"
	"syscall"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// age is how old an answer of the kernel may be.
const maxAge = time.Second

// epoch makes times numbers that no setting of the clock moves. It lies an age back, so that the
// first answer is none.
var epoch = time.Now().Add(-maxAge)

// Leg is one connection's. Open and Close belong to one goroutine; State and Refresh may be called
// from any, as many exchanges may share a connection.
type Info struct {
	raw           syscall.RawConn
	instruments   *telemetry.Instruments
	side          telemetry.Side
	reason        mptcp.Reason
	lastRead      atomic.Int64  // when the kernel was last asked, ns since epoch
	state         atomic.Uint64 // transport<<32 | subflows
	fellBackLater atomic.Bool   // it fell back after a while
	registry      *Registry
	retired       atomic.Bool
}

// Raw is the connection's, nil before Open.
func (l *Info) Raw() syscall.RawConn { return l.raw }

// Retire says that the connection is to end once it is idle: a new one would be better. It may be
// called from any goroutine, also after Close.
func (l *Info) Retire() { l.retired.Store(true) }

// Retired says whether Retire was called.
func (l *Info) Retired() bool { return l.retired.Load() }

// Open asks the kernel for the first time. reason is what to say if it turns out not to be MPTCP:
// what the dial inferred, mptcp.NotOffered for a client of an MPTCP listener, mptcp.None where
// nobody asked for it. live, if not nil, has the connection until Close if it uses MPTCP.
func (l *Info) Open(raw syscall.RawConn, side telemetry.Side, m *telemetry.Instruments, reason mptcp.Reason, live *Registry) mptcp.Transport {
	t, err := mptcp.Speaks(raw)
	if err != nil {
		t = mptcp.Unknown
	}
	return l.OpenAs(t, raw, side, m, reason, live)
}

// OpenAs is Open where it is known what the connection speaks.
func (l *Info) OpenAs(t mptcp.Transport, raw syscall.RawConn, side telemetry.Side, m *telemetry.Instruments, reason mptcp.Reason, live *Registry) mptcp.Transport {
	l.raw, l.instruments, l.side, l.reason = raw, m, side, reason
	if t == mptcp.TCP && reason != mptcp.None && reason != mptcp.NotOffered {
		t = mptcp.Fallback // earlier dials have learned not to ask this server
	}
	l.set(t, 0)
	if t == mptcp.MPTCP && live != nil {
		l.registry = live
		live.add(l)
	}
	return t
}

func (l *Info) set(t mptcp.Transport, subflows int) {
	if _, before := l.State(); before != subflows {
		l.instruments.MPTCPSubflows(l.side, subflows-before)
	}
	l.state.Store(uint64(t)<<32 | uint64(uint32(subflows)))
}

// State is what the connection spoke, and over how many subflows, when the kernel was last asked.
func (l *Info) State() (mptcp.Transport, int) {
	s := l.state.Load()
	return mptcp.Transport(s >> 32), int(uint32(s))
}

// Refresh asks again if the last answer is older than a second and could have changed.
func (l *Info) Refresh(now time.Time) (mptcp.Transport, int) {
	t, n := l.State()
	if t != mptcp.MPTCP {
		return t, n
	}
	at, read := int64(now.Sub(epoch)), l.lastRead.Load()
	if at-read < int64(maxAge) || !l.lastRead.CompareAndSwap(read, at) { // or somebody else asks just now
		return t, n
	}
	n, err := mptcp.SubflowCount(l.raw)
	if err == mptcp.ErrNotMPTCP {
		t, n = mptcp.Fallback, 0
		l.fellBackLater.Store(true)
	}
	l.set(t, n)
	return t, n
}

// Close counts the connection by what it spoke, while its socket is still open.
func (l *Info) Close() {
	if l.registry != nil {
		l.registry.remove(l)
	}
	t, _ := l.State()
	reason := l.reason
	if l.fellBackLater.Load() {
		reason = mptcp.Later
	}
	if t == mptcp.MPTCP {
		reason = mptcp.None
		if now, err := mptcp.Speaks(l.raw); err == nil && now == mptcp.Fallback {
			t, reason = now, mptcp.Later
		}
	}
	if t == mptcp.Fallback && (reason == mptcp.None || reason == mptcp.NotOffered) {
		reason = mptcp.PeerOrPath // it was asked for and answered without
	}
	l.set(t, 0)
	l.instruments.MPTCPEnded(l.side, t.String())
	if reason != mptcp.None {
		l.instruments.MPTCPFellBack(l.side, reason.String())
	}
}
