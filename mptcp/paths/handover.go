package paths

import "mpgate/mptcp"

// Handover is what a manager has made in the namespace and would revert at its end. It is passed as
// JSON to the process that continues with it.
type Handover struct {
	Endpoints []EndpointRecord `json:"endpoints,omitempty"`
	Limits    *LimitsRecord    `json:"limits,omitempty"`
	// LastID is the endpoint ID that was assigned last; it is not reused soon.
	LastID uint8 `json:"last_id,omitempty"`
}

// EndpointRecord is an endpoint that was made or adopted.
type EndpointRecord struct {
	Path      string         `json:"path"`
	Requested mptcp.Endpoint `json:"asked"`  // without ID
	Stored    mptcp.Endpoint `json:"stored"` // as the kernel returned it
	// Intended is what was about to be written; in a journal only.
	Intended *mptcp.Endpoint `json:"intended,omitempty"`
	Previous *mptcp.Endpoint `json:"was,omitempty"` // adopted: what stood there
}

// LimitsRecord are the limits before and after a change.
type LimitsRecord struct {
	Previous mptcp.Limits `json:"was"`
	Set      mptcp.Limits `json:"mine"`
}

// Empty: nothing was made.
func (e *Handover) Empty() bool { return e == nil || len(e.Endpoints) == 0 && e.Limits == nil }
