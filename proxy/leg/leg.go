// Package leg holds what the kernel reports about one connection of mpgate, to a client or to a
// server: whether it uses MPTCP and over how many subflows. It asks at most once a second, since
// asking costs about as much as a small request's parsing, and accounts for the connection in the
// metrics.
package leg

import (
	"sync/atomic"
	"syscall"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// age is how old an answer of the kernel may be.
const age = time.Second

// epoch makes times numbers that no setting of the clock moves. It lies an age back, so that the
// first answer is none.
var epoch = time.Now().Add(-age)

// Leg is one connection's. Open and Close belong to one goroutine; State and Refresh may be called
// from any, as many exchanges may share a connection.
type Leg struct {
	raw     syscall.RawConn
	metrics *telemetry.Instruments
	side    telemetry.Side
	reason  mptcp.Reason
	read    atomic.Int64  // when the kernel was last asked, ns since epoch
	state   atomic.Uint64 // transport<<32 | subflows
	later   atomic.Bool   // it fell back after a while
	live    *Live
	retired atomic.Bool
}

// Raw is the connection's, nil before Open.
func (l *Leg) Raw() syscall.RawConn { return l.raw }

// Retire says that the connection is to end once it is idle: a new one would be better. It may be
// called from any goroutine, also after Close.
func (l *Leg) Retire() { l.retired.Store(true) }

// Retired says whether Retire was called.
func (l *Leg) Retired() bool { return l.retired.Load() }

// Open asks the kernel for the first time. reason is what to say if it turns out not to be MPTCP:
// what the dial inferred, mptcp.NotOffered for a client of an MPTCP listener, mptcp.None where
// nobody asked for it. live, if not nil, has the connection until Close if it uses MPTCP.
func (l *Leg) Open(raw syscall.RawConn, side telemetry.Side, m *telemetry.Instruments, reason mptcp.Reason, live *Live) mptcp.Transport {
	t, err := mptcp.TransportOf(raw)
	if err != nil {
		t = mptcp.Unknown
	}
	return l.OpenAs(t, raw, side, m, reason, live)
}

// OpenAs is Open where it is known what the connection speaks.
func (l *Leg) OpenAs(t mptcp.Transport, raw syscall.RawConn, side telemetry.Side, m *telemetry.Instruments, reason mptcp.Reason, live *Live) mptcp.Transport {
	l.raw, l.metrics, l.side, l.reason = raw, m, side, reason
	if t == mptcp.TCP && reason != mptcp.None && reason != mptcp.NotOffered {
		t = mptcp.Fallback // earlier dials have learned not to ask this server
	}
	l.set(t, 0)
	if t == mptcp.MPTCP && live != nil {
		l.live = live
		live.add(l)
	}
	return t
}

func (l *Leg) set(t mptcp.Transport, subflows int) {
	if _, before := l.State(); before != subflows {
		l.metrics.MPTCPSubflows(l.side, subflows-before)
	}
	l.state.Store(uint64(t)<<32 | uint64(uint32(subflows)))
}

// State is what the connection spoke, and over how many subflows, when the kernel was last asked.
func (l *Leg) State() (mptcp.Transport, int) {
	s := l.state.Load()
	return mptcp.Transport(s >> 32), int(uint32(s))
}

// Refresh asks again if the last answer is older than a second and could have changed.
func (l *Leg) Refresh(now time.Time) (mptcp.Transport, int) {
	t, n := l.State()
	if t != mptcp.MPTCP {
		return t, n
	}
	at, read := int64(now.Sub(epoch)), l.read.Load()
	if at-read < int64(age) || !l.read.CompareAndSwap(read, at) { // or somebody else asks just now
		return t, n
	}
	n, err := mptcp.SubflowCount(l.raw)
	if err == mptcp.ErrNotMPTCP {
		t, n = mptcp.Fallback, 0
		l.later.Store(true)
	}
	l.set(t, n)
	return t, n
}

// Close counts the connection by what it spoke, while its socket is still open.
func (l *Leg) Close() {
	if l.live != nil {
		l.live.remove(l)
	}
	t, _ := l.State()
	reason := l.reason
	if l.later.Load() {
		reason = mptcp.Later
	}
	if t == mptcp.MPTCP {
		reason = mptcp.None
		if now, err := mptcp.TransportOf(l.raw); err == nil && now == mptcp.Fallback {
			t, reason = now, mptcp.Later
		}
	}
	if t == mptcp.Fallback && (reason == mptcp.None || reason == mptcp.NotOffered) {
		reason = mptcp.PeerOrPath // it was asked for and answered without
	}
	l.set(t, 0)
	l.metrics.MPTCPEnded(l.side, t.String())
	if reason != mptcp.None {
		l.metrics.MPTCPFellBack(l.side, reason.String())
	}
}
