package paths

import (
	"net/netip"
	"time"
)

// Snapshot is the state of the paths, and of connections with their subflows.
type Snapshot struct {
	Time time.Time `json:"time"`
	Status
	Connections []ConnSnapshot `json:"connections"`
	// More is the number of connections that were left out.
	More int `json:"more,omitempty"`
}

// ConnSnapshot is one connection that uses MPTCP.
type ConnSnapshot struct {
	Side     Side              `json:"side"`
	Token    uint32            `json:"token"`
	Subflows []SubflowSnapshot `json:"subflows"`
}

// SubflowSnapshot is one subflow.
type SubflowSnapshot struct {
	ID     uint32         `json:"id"`
	Path   string         `json:"path,omitempty"`
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	State  string         `json:"state"`
	Backup bool           `json:"backup,omitempty"`
	RTT    time.Duration  `json:"rtt_ns"`
	// DeliveryRate in bytes a second, as the kernel last measured it.
	DeliveryRate  uint64 `json:"delivery_rate"`
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`
	BytesRetrans  uint64 `json:"bytes_retransmitted"`
	Unacked       uint32 `json:"unacked_segments,omitempty"`
}
