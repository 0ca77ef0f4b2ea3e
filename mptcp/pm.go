package mptcp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// EndpointFlags say what an endpoint is for.
type EndpointFlags uint32

// The flags of <linux/mptcp_pm.h>. A kernel that does not know one ignores it:
// compare what AddEndpoint returns.
const (
	FlagSignal   EndpointFlags = 1 << iota // announced to peers
	FlagSubflow                            // subflows are made from it
	FlagBackup                             // its subflows are spare ones
	FlagFullmesh                           // to every address of the peer (not with FlagSignal)
	FlagImplicit                           // made by the kernel, not by an operator; cannot be set
	FlagLaminar                            // Linux 6.18: used to answer announcements
)

func (f EndpointFlags) String() string {
	var s []string
	for i, name := range []string{"signal", "subflow", "backup", "fullmesh", "implicit", "laminar"} {
		if f&(1<<i) != 0 {
			s = append(s, name)
			f &^= 1 << i
		}
	}
	if f != 0 {
		s = append(s, fmt.Sprintf("%#x", uint32(f)))
	}
	return strings.Join(s, ",")
}

// An Endpoint is an address that the in-kernel path manager of a network
// namespace may use or announce.
type Endpoint struct {
	ID    uint8 // 0: the kernel chooses
	Addr  netip.Addr
	Port  uint16 // 0: that of the connection. Not with FlagSubflow
	Flags EndpointFlags
	// Interface is an index, 0 for none.
	Interface int
}

// Limits are those of the in-kernel path manager, for each connection; 8 at most.
type Limits struct {
	// Subflows in addition to the initial one.
	Subflows uint32
	// AddrAccepted: how many announced addresses are tried.
	AddrAccepted uint32
}

// EventType is the kernel's number of an event.
type EventType uint8

// The events of <linux/mptcp_pm.h>.
const (
	EventCreated            EventType = 1
	EventEstablished        EventType = 2
	EventClosed             EventType = 3
	EventAnnounced          EventType = 6
	EventRemoved            EventType = 7
	EventSubflowEstablished EventType = 10
	EventSubflowClosed      EventType = 11
	EventSubflowPriority    EventType = 13
	EventListenerCreated    EventType = 15
	EventListenerClosed     EventType = 16
)

func (t EventType) String() string {
	switch t {
	case EventCreated:
		return "created"
	case EventEstablished:
		return "established"
	case EventClosed:
		return "closed"
	case EventAnnounced:
		return "announced"
	case EventRemoved:
		return "removed"
	case EventSubflowEstablished:
		return "subflow_established"
	case EventSubflowClosed:
		return "subflow_closed"
	case EventSubflowPriority:
		return "subflow_priority"
	case EventListenerCreated:
		return "listener_created"
	case EventListenerClosed:
		return "listener_closed"
	}
	return fmt.Sprintf("EventType(%d)", uint8(t))
}

// An Event is an event of an MPTCP connection of the namespace, of any process. Fields that do not
// belong to its type are zero.
type Event struct {
	Type EventType
	// Token is that of the connection: Info.Token.
	Token         uint32
	Local, Remote netip.AddrPort
	// LocalID and RemoteID are address ids; 0 is the address of the initial subflow.
	LocalID, RemoteID uint8
	ServerSide        bool
	// DenyJoinID0: the peer wants no joins to its initial address.
	DenyJoinID0 bool
	Backup      bool
	Interface   int
	// Error is why a subflow closed, 0 where it was closed in order.
	Error syscall.Errno
	// ResetReason is the code of MP_TCPRST (RFC 8684, 3.6), ResetFlags its flags.
	ResetReason, ResetFlags uint32
}

// ErrOverrun: events came faster than they were read, and some are lost.
var ErrOverrun = errors.New("MPTCP events were lost: read the state anew")
