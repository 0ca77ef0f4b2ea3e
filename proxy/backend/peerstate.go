package backend

import (
	"time"

	"mpgate/mptcp"
)

// On a socket with the protocol MPTCP, also after a fallback, a kernel worker of Linux forwards the
// end of the peer's stream. Until it has run, some 10 ms later on a busy host, a read reports that
// the connection is open and silent. A connection for a request that cannot be repeated is
// therefore also checked below MPTCP, where the end is visible at once:
//
//   - after a fallback, in the state of the TCP connection;
//   - with MPTCP, as a segment (DATA_FIN, RFC 8684 section 3.3.3): the connection counts as open if
//     none has arrived since its last exchange, or none recently.
type peerState uint8

const (
	peerOpen peerState = iota
	peerMayHaveClosed
	peerClosed
)

const (
	// workerTime is the longest time until the kernel's worker has run.
	workerTime = 100 * time.Millisecond
	// tick is the longest timer tick of the kernel (CONFIG_HZ=100).
	tick = 10 * time.Millisecond
	// maxPeerChecks bounds the connections that are checked for one request.
	maxPeerChecks = 4
)

// overMPTCP reports whether the connection uses MPTCP, and whether its socket has that protocol.
func (l *Link) overMPTCP() (uses, socket bool) {
	t, _ := l.info.State()
	return t == mptcp.MPTCP, t != mptcp.TCP && t != mptcp.Unix
}

// peerStateMayBeKnown reports whether peerState could return peerOpen.
func (c *conn) peerStateMayBeKnown(now time.Time) bool {
	uses, _ := c.link.overMPTCP()
	return !uses || c.segmentsKnown || now.Sub(c.used) >= 3*tick
}

// peerState returns whether the peer has closed an idle connection, as far as that is visible below
// MPTCP.
func (c *conn) peerState(now time.Time) peerState {
	uses, socket := c.link.overMPTCP()
	if !socket {
		return peerOpen // a read reports the end at once
	}
	r, err := mptcp.LastReceived(c.link.Raw())
	switch {
	case err != nil:
		return peerOpen // this kernel does not report it
	case !uses && r.State != mptcp.StateEstablished:
		return peerClosed
	case !uses:
		return peerOpen
	case r.State != mptcp.StateEstablished:
		return peerMayHaveClosed // the initial subflow has ended; others may be open
	case c.segmentsKnown && r.Segments == c.segments, r.Ago >= workerTime:
		return peerOpen
	}
	if idle := now.Sub(c.used); idle >= 3*tick && r.Ago > idle-2*tick {
		return peerOpen
	}
	return peerMayHaveClosed
}

// noteSegments records how many segments have arrived, for a later peerState.
func (c *conn) noteSegments() {
	c.segmentsKnown = false
	if uses, _ := c.link.overMPTCP(); uses {
		r, err := mptcp.LastReceived(c.link.Raw())
		c.segmentsKnown, c.segments = err == nil, r.Segments
	}
}

// closedByPeer reports whether the peer has closed a connection without exchanges, as far as TCP
// shows. With MPTCP it does not: frames that belong to no exchange are segments, too.
func (c *sharedConn) closedByPeer() bool {
	if now, _ := c.Streams(); now > 0 {
		return false // reads report it
	}
	if uses, _ := c.link.overMPTCP(); uses {
		return false
	}
	r, err := mptcp.LastReceived(c.link.Raw())
	return err == nil && r.State != mptcp.StateEstablished
}
