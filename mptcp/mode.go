package mptcp

import "fmt"

// Mode says whether a listener or a dialer asks for MPTCP.
type Mode uint8

const (
	// Prefer asks for MPTCP and continues with TCP where the host has none.
	Prefer Mode = iota
	// Require asks for MPTCP and treats anything else as an error.
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

// Transport is what a socket speaks.
type Transport uint8

const (
	// Unknown is a socket of another kind, or one that this kernel cannot judge.
	Unknown Transport = iota
	// TCP was spoken and nothing else was asked for. A client that does not
	// offer MPTCP gets such a socket from an MPTCP listener.
	TCP
	// MPTCP is spoken at this moment.
	MPTCP
	// Fallback is TCP spoken where MPTCP was asked for.
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

// Reason is why a connection does not use MPTCP. The kernel does not tell;
// a reason is inferred from what can be seen.
type Reason uint8

const (
	// None: it uses MPTCP, or nobody asked for it.
	None Reason = iota
	// NotOffered: the client did not ask for MPTCP.
	NotOffered
	// PeerOrPath: we asked, the answer came without. The peer does not speak
	// it, or something between removed the option.
	PeerOrPath
	// Blackhole: SYNs that asked for MPTCP vanished, and plain ones did not; or
	// the kernel has for that reason stopped asking in this network namespace.
	Blackhole
	// HostUnable: this host has no MPTCP.
	HostUnable
	// Later: it was MPTCP and fell back in the course of its life.
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
