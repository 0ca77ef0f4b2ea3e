package filter

import (
	"net/netip"

	"mpgate/telemetry"
)

// Access admits clients by their addresses. It has two keys, allow and deny.
type Access struct {
	allow, deny Networks
	restricted  bool // there is a list of those who are admitted
}

// NewAccess makes an Access. Deny has precedence. An empty allow admits everybody else.
func NewAccess(allow, deny []netip.Prefix) *Access {
	return &Access{allow: NewNetworks(allow), deny: NewNetworks(deny), restricted: len(allow) > 0}
}

// Name implements Filter. If there are both keys, it is allow.
func (f *Access) Name() string {
	if f.restricted {
		return "allow"
	}
	return "deny"
}

// FilterRequest implements RequestFilter.
func (f *Access) FilterRequest(r *Request) (done bool) {
	client := r.Record.Client
	if r.Explain != nil && !client.IsValid() {
		r.Explain(f.Name() + ": depends on the address of the client, which is not given")
		return false
	}
	if !f.deny.Has(client) && (!f.restricted || f.allow.Has(client)) {
		return false
	}
	return r.End(Answer{Status: 403, End: telemetry.EndDenied, Text: "this client is not admitted"})
}
