package backend

import (
	"time"

	"mpgate/mptcp"
)

// On a socket of MPTCP, fallen back or not, Linux hands the end of the peer's stream on by a worker
// of the kernel. Until that has run, some 10 ms later on a busy host, a read says that the
// connection is open and silent. What carries a request that cannot be repeated is therefore looked
// at below MPTCP, too, where the end shows at once:
//
//   - after a fallback the state of the TCP connection tells it;
//   - with MPTCP it is a segment like others (DATA_FIN, RFC 8684 section 3.3.3): the connection counts as open if
//     none has come since its last exchange, or none of late.
type peerState uint8

const (
	peerOpen peerState = iota
	peerMayHaveClosed
	peerClosed
)

const (
	// workerTime is how long the kernel's worker takes at most.
	workerTime = 100 * time.Millisecond
	// tick is the kernel's at most (CONFIG_HZ=100).
	tick = 10 * time.Millisecond
	// maxLooks bounds the connections that are looked at for one request.
	maxPeerChecks = 4
)

// overMPTCP says whether the connection uses MPTCP, and whether its socket is of that protocol.
func (l *Link) overMPTCP() (speaks, socket bool) {
	t, _ := l.info.State()
	return t == mptcp.MPTCP, t != mptcp.TCP && t != mptcp.Unix
}

// worthALook says whether a look could say that the connection is open.
func (c *conn) peerStateMayBeKnown(now time.Time) bool {
	speaks, _ := c.link.overMPTCP()
	return !speaks || c.segmentsKnown || now.Sub(c.used) >= 3*tick
}

// look says whether a connection that waits for its next use is open, as far as that shows below
// MPTCP.
func (c *conn) peerState(now time.Time) peerState {
	speaks, socket := c.link.overMPTCP()
	if !socket {
		return peerOpen // a read shows it at once
	}
	r, err := mptcp.LastReceived(c.link.Raw())
	switch {
	case err != nil:
		return peerOpen // this kernel does not tell
	case !speaks && r.State != mptcp.StateEstablished:
		return peerClosed
	case !speaks:
		return peerOpen
	case r.State != mptcp.StateEstablished:
		return peerMayHaveClosed // its initial subflow has ended; others may live
	case c.segmentsKnown && r.Segments == c.segments, r.Ago >= workerTime:
		return peerOpen
	}
	if idle := now.Sub(c.used); idle >= 3*tick && r.Ago > idle-2*tick {
		return peerOpen
	}
	return peerMayHaveClosed
}

// hasEnded says whether the peer has ended a connection that carries nothing now, as far as TCP
// tells. With MPTCP it does not: frames that belong to no exchange are segments, too.
func (c *sharedConn) closedByPeer() bool {
	if now, _ := c.Streams(); now > 0 {
		return false // what is read says so
	}
	if speaks, _ := c.link.overMPTCP(); speaks {
		return false
	}
	r, err := mptcp.LastReceived(c.link.Raw())
	return err == nil && r.State != mptcp.StateEstablished
}

// count notes how much came until now, for a later look.
func (c *conn) noteSegments() {
	c.segmentsKnown = false
	if speaks, _ := c.link.overMPTCP(); speaks {
		r, err := mptcp.LastReceived(c.link.Raw())
		c.segmentsKnown, c.segments = err == nil, r.Segments
	}
}
