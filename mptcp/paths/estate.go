package paths

import "mpgate/mptcp"

// Estate is what a manager has made in the namespace and would take back at its end. It
// goes as JSON to the process that is to continue with it.
type Estate struct {
	Endpoints []Holding   `json:"endpoints,omitempty"`
	Limits    *HeldLimits `json:"limits,omitempty"`
	// LastID was given to an endpoint last: it is not to be used again soon.
	LastID uint8 `json:"last_id,omitempty"`
}

// Holding is an endpoint that was made.
type Holding struct {
	Path   string         `json:"path"`
	Asked  mptcp.Endpoint `json:"asked"`  // without ID
	Stored mptcp.Endpoint `json:"stored"` // as the kernel returned it
	// Intended is what was about to be written; in a journal only.
	Intended *mptcp.Endpoint `json:"intended,omitempty"`
	Was      *mptcp.Endpoint `json:"was,omitempty"` // adopted: what stood there
}

// HeldLimits are limits that were changed.
type HeldLimits struct {
	Was  mptcp.Limits `json:"was"`
	Mine mptcp.Limits `json:"mine"`
}

// Empty: nothing was made.
func (e *Estate) Empty() bool { return e == nil || len(e.Endpoints) == 0 && e.Limits == nil }
