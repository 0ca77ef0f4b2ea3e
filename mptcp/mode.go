package mptcp

import "fmt"

// Mode says whether a listener or a dialer requests MPTCP.
type Mode uint8

const (
	// Prefer requests MPTCP and uses TCP if the host does not support it.
	Prefer Mode = iota
	// Require requests MPTCP and treats anything else as an error.
	Require
	// Off uses plain TCP.
	Off
)

// Values are the texts of all modes, in their order.
func (Mode) Values() []string { return []string{"prefer", "require", "off"} }

func (m Mode) String() string {
	if values := m.Values(); int(m) < len(values) {
		return values[m]
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// Transport is the transport protocol of a socket.
type Transport uint8

const (
	// Unknown is a socket of another kind, or one whose state this kernel does not report.
	Unknown Transport = iota
	// TCP was requested. An MPTCP listener also returns such a socket for a client that does not
	// request MPTCP.
	TCP
	// MPTCP is in use.
	MPTCP
	// Fallback is TCP although MPTCP was requested.
	Fallback
	// Unix is a unix domain socket.
	Unix
)

func (t Transport) String() string {
	switch t {
	case TCP:
		return "tcp"
	case MPTCP:
		return "mptcp"
	case Fallback:
		return "fallback"
	case Unix:
		return "unix"
	}
	return ""
}

// Reason is why a connection does not use MPTCP. The kernel does not report it; it is inferred.
type Reason uint8

const (
	// None: it uses MPTCP, or MPTCP was not requested.
	None Reason = iota
	// NotOffered: the client did not request MPTCP.
	NotOffered
	// PeerOrPath: the answer did not contain the MPTCP option. The peer does not support it, or a
	// middlebox removed it.
	PeerOrPath
	// Blackhole: MPTCP SYNs were dropped, and plain ones were not; or the kernel has stopped
	// requesting MPTCP in this network namespace for that reason.
	Blackhole
	// HostUnable: this host does not support MPTCP.
	HostUnable
	// Later: it used MPTCP and fell back later.
	Later
)

func (r Reason) String() string {
	switch r {
	case NotOffered:
		return "not_offered"
	case PeerOrPath:
		return "peer_or_path"
	case Blackhole:
		return "blackhole"
	case HostUnable:
		return "host"
	case Later:
		return "later"
	}
	return ""
}
