package mptcp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ErrNotMPTCP is returned for a socket that uses TCP: it fell back, or did not request MPTCP.
var ErrNotMPTCP = errors.New("the connection does not use MPTCP")

// Has says which parts of an Info are valid. The others are zero because the kernel does not report
// them.
type Has uint16

const (
	// HasConnection: Token, Flags, the counts and limits.
	HasConnection Has = 1 << iota
	// HasBytes: bytes and retransmissions of the whole connection (Linux 6.5).
	HasBytes
	// HasTotal: SubflowsTotal is the kernel's own count (Linux 6.8); otherwise
	// it is made from the extra ones, or from the list.
	HasTotal
	// HasTimes: LastDataSent, LastDataReceived, LastAckReceived (Linux 6.10).
	HasTimes
	// HasSubflows: the list with addresses.
	HasSubflows
	// HasIDs: subflows carry their ID and Initial (Linux 6.5).
	HasIDs
	// HasTCP: subflows carry state, RTT, bytes.
	HasTCP
	// HasDiag: subflows carry Backup, LocalID and RemoteID. The socket options do
	// not tell: Diag.Fill does.
	HasDiag
)

// Info is the state of one MPTCP connection, as reported by the kernel. Read fills it and
// reuses its memory; the zero value is ready. It is not safe for concurrent use.
type Info struct {
	Has   Has
	Token uint32
	// Checksum: DSS checksums are in use.
	Checksum bool
	// FellBack: fell back to TCP after it was MPTCP (seldom seen: the options fail then).
	FellBack bool
	// RemoteKey: the peer's key is known, so the connection is fully established.
	RemoteKey bool

	// SubflowsTotal counts all subflows, the initial one included, if it lives.
	SubflowsTotal int
	// SubflowsExtra counts those in addition to the initial one, as the path manager does.
	SubflowsExtra, SubflowsMax int
	AddrSignalled, AddrSignalMax,
	AddrAccepted, AddrAcceptedMax,
	LocalAddrUsed, LocalAddrMax int

	WriteSeq, SndUna, RcvNxt       uint64
	BytesSent, BytesReceived       uint64
	BytesAcked, BytesRetrans       uint64
	Retrans                        uint32
	LastDataSent, LastDataReceived time.Duration // ago
	LastAckReceived                time.Duration // ago
	// Subflows in the kernel's order. One that has ended vanishes, with its counts;
	// for a while, and the initial one as a rule until the connection ends, it is
	// listed in StateClosed: see Subflow.Live.
	Subflows []Subflow
}

// Subflow is one TCP connection that belongs to an MPTCP connection.
type Subflow struct {
	// ID counts up from 1 in the life of the connection and is not used twice.
	ID            uint32
	Local, Remote netip.AddrPort
	State         State
	// Initial: the one that opened the connection.
	Initial bool
	// Backup: carries data only when no other subflow does. The address ids are
	// those that both sides know the addresses by; 0 is that of the initial subflow.
	// All three are there with HasDiag only.
	Backup            bool
	LocalID, RemoteID uint8

	RTT, RTTVar, MinRTT, RTO time.Duration
	// BytesSent counts retransmissions too; BytesAcked and BytesReceived do not.
	BytesSent, BytesAcked, BytesReceived, BytesRetrans uint64
	// Retrans counts segments sent again in the life of the subflow, Unacked
	// those under way now, Sacked and Lost those of them that arrived out of order
	// or are thought lost.
	Retrans, Unacked, Sacked, Lost uint32
	// Backoff counts timeouts in a row: above 0 the path is silent.
	Backoff                        uint8
	LastDataSent, LastDataReceived time.Duration // ago
	LastAckReceived                time.Duration // ago
	NotSent                        uint32        // bytes queued and not yet sent
	SndCwnd                        uint32        // segments
	SndMSS                         uint32        // bytes
	PacingRate, DeliveryRate       uint64        // bytes a second
}

// Live reports whether the subflow has not ended. Where the kernel does not tell
// states, those that are listed are taken for live.
func (s *Subflow) Live() bool { return s.State != StateClosed }

// State is that of a TCP connection, with the kernel's numbers.
type State uint8

// The states of RFC 9293, as Linux numbers them.
const (
	StateUnknown State = iota
	StateEstablished
	StateSynSent
	StateSynReceived
	StateFinWait1
	StateFinWait2
	StateTimeWait
	StateClosed
	StateCloseWait
	StateLastAck
	StateListen
	StateClosing
	StateNewSynReceived
)

var stateNames = [...]string{"", "established", "syn_sent", "syn_received", "fin_wait_1", "fin_wait_2", "time_wait",
	"closed", "close_wait", "last_ack", "listen", "closing", "new_syn_received"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// A SendState says whether a connection waits for acknowledgements.
type SendState struct {
	// Token is that of Info.
	Token uint32
	// Outstanding counts the bytes written and not yet acknowledged by the peer.
	Outstanding uint64
}

// reset empties i and keeps its memory.
func (i *Info) reset() { *i = Info{Subflows: i.Subflows[:0]} }

// Received is what a socket has received, at the TCP level. With several subflows it is that of the
// initial one.
type Received struct {
	State State
	// Segments counts those that came, with data or without; 0: the kernel does not tell.
	Segments uint32
	// Ago is how long ago the last one came, in the kernel's ticks of 1 to 10 ms.
	Ago time.Duration
}
