package paths

import (
	"net/netip"
	"time"

	"mpgate/mptcp"
)

// State of a path; see the package comment.
type State uint8

const (
	Up State = iota
	// Down: its link is down, or it has no address.
	Down
	// Silent: the link is up, and nothing comes back.
	Silent
	// Returning: back, and held for a while, as it flaps.
	Returning
	// Unjoined: its link and its address are there, and no connection gets a subflow on it.
	Unjoined
)

func (s State) String() string { return word(int(s), "up", "down", "silent", "returning", "unjoined") }

// MarshalText is for JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText is for JSON.
func (m Manage) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalText is for JSON.
func (f Failover) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// MarshalText is for JSON.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// MarshalText is for JSON.
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// PathStatus is what is known about one path.
type PathStatus struct {
	Name string `json:"name"`
	// Declared is false for an interface that is only watched for fail-over.
	Declared  bool         `json:"declared"`
	Interface string       `json:"interface,omitempty"`
	Addresses []netip.Addr `json:"addresses"`
	Role      Role         `json:"role"`
	Backup    bool         `json:"backup,omitempty"`
	State     State        `json:"state"`
	// Why it is not up.
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since"`
	// Waiting: the address is not taken from the kernel, or given to it again, as long as this
	// many of our connections have their only subflow there, or one that carries.
	Waiting int `json:"waiting,omitempty"`
	Totals
}

// Totals are what a path carried, and what happened to it, since the manager began.
type Totals struct {
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`
	BytesRetrans  uint64 `json:"bytes_retransmitted"`
	// Subflows now; Opened and Closed count, Failed are those of the closed that ended with an
	// error.
	Subflows int    `json:"subflows"`
	Opened   uint64 `json:"subflows_opened"`
	Closed   uint64 `json:"subflows_closed"`
	Failed   uint64 `json:"subflows_failed"`
	Cuts     uint64 `json:"cuts"`
	Returns  uint64 `json:"returns"`
	// Stalled is that of the last cut.
	Stalled time.Duration `json:"last_stall_ns,omitempty"`
}

// EndpointStatus is an endpoint that is wanted, in the kernel, or both.
type EndpointStatus struct {
	mptcp.Endpoint
	Path   string `json:"path,omitempty"`
	Ours   bool   `json:"ours"`   // made by this manager
	Wanted bool   `json:"wanted"` // a path needs it
	Found  bool   `json:"found"`  // it is in the kernel
	// Difference in words; "" for none.
	Difference string `json:"difference,omitempty"`
}

// Status is a picture of the whole.
type Status struct {
	Manage    Manage           `json:"manage"`
	Failover  Failover         `json:"failover"`
	Paths     []PathStatus     `json:"paths"`
	Endpoints []EndpointStatus `json:"endpoints"`
	// Limits as in the kernel, and as wanted (nil: left alone).
	Limits       mptcp.Limits  `json:"limits"`
	WantedLimits *mptcp.Limits `json:"wanted_limits,omitempty"`
	// Notes: other writers, faults of reading and writing.
	Notes []string `json:"notes,omitempty"`
}

// InSync reports whether the kernel has what is wanted.
func (s *Status) InSync() bool {
	for _, e := range s.Endpoints {
		if e.Difference != "" {
			return false
		}
	}
	return s.WantedLimits == nil || *s.WantedLimits == s.Limits
}
