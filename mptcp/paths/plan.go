package paths

import (
	"fmt"
	"net/netip"
	"slices"

	"mpgate/mptcp"
)

// key identifies an endpoint in the kernel.
type key struct {
	addr netip.Addr
	port uint16
}

func keyOf(e mptcp.Endpoint) key { return key{e.Addr, e.Port} }

func (k key) String() string {
	if k.port == 0 {
		return k.addr.String()
	}
	return netip.AddrPortFrom(k.addr, k.port).String()
}

// want is an endpoint that a path needs.
type want struct {
	mptcp.Endpoint
	path string
}

// ownedEndpoint is an endpoint that this manager made.
type ownedEndpoint struct {
	requested mptcp.Endpoint // without ID
	stored    mptcp.Endpoint // as the kernel returned it
	previous  *mptcp.Endpoint
	path      string
}

// change is one step of a plan.
type change struct {
	del      *mptcp.Endpoint // first remove this
	set      *mptcp.Endpoint // or change the flags of this, which keeps its subflows
	add      *want           // then add this
	previous *mptcp.Endpoint // adopted: what stood there
	adopt    bool
}

// plan is the result of a comparison; it changes nothing. Contested endpoints are those of ours
// that another program changed, found now (fresh) or before.
type plan struct {
	changes  []change
	statuses []EndpointStatus
	fresh    map[key]string
	foreign  []key // records whose endpoint is no longer ours
}

// flagsMask leaves out what the kernel sets by itself.
const flagsMask = ^mptcp.FlagImplicit

func makePlan(wanted []want, have []mptcp.Endpoint, owned map[key]ownedEndpoint, contested map[key]string, adopt bool) plan {
	p := plan{fresh: map[key]string{}}
	for _, w := range wanted {
		i := slices.IndexFunc(have, func(e mptcp.Endpoint) bool { return keyOf(e) == keyOf(w.Endpoint) })
		if i < 0 {
			p.missing(w, owned, contested)
		} else {
			p.compare(w, have[i], owned, contested, adopt)
		}
	}
	for _, e := range have {
		if slices.ContainsFunc(wanted, func(w want) bool { return keyOf(w.Endpoint) == keyOf(e) }) {
			continue
		}
		r, ours := owned[keyOf(e)]
		if ours && e != r.stored {
			p.foreign = append(p.foreign, keyOf(e))
			ours = false
		}
		s := EndpointStatus{Endpoint: e, Path: r.path, Ours: ours, Found: true}
		if ours {
			s.Difference = "is not needed any more"
			p.changes = append(p.changes, change{del: &e, previous: r.previous})
		}
		p.statuses = append(p.statuses, s)
	}
	for k := range owned {
		if !slices.ContainsFunc(have, func(e mptcp.Endpoint) bool { return keyOf(e) == k }) &&
			!slices.ContainsFunc(wanted, func(w want) bool { return keyOf(w.Endpoint) == k }) {
			p.foreign = append(p.foreign, k) // removed by another program, and not needed
		}
	}
	return p
}

func (p *plan) missing(w want, owned map[key]ownedEndpoint, contested map[key]string) {
	k := keyOf(w.Endpoint)
	s := EndpointStatus{Endpoint: w.Endpoint, Path: w.path, Wanted: true, Difference: "is missing"}
	switch _, ours := owned[k]; {
	case contested[k] != "":
		s.Difference = contested[k]
	case ours:
		s.Difference = "another program removed it"
		p.fresh[k] = s.Difference
	default:
		p.changes = append(p.changes, change{add: &w})
	}
	p.statuses = append(p.statuses, s)
}

func (p *plan) compare(w want, have mptcp.Endpoint, owned map[key]ownedEndpoint, contested map[key]string, adopt bool) {
	k := keyOf(have)
	r, ours := owned[k]
	s := EndpointStatus{Endpoint: have, Path: w.path, Wanted: true, Found: true, Ours: ours}
	defer func() { p.statuses = append(p.statuses, s) }()
	switch {
	case ours && have == r.stored && r.requested == w.Endpoint:
		return
	case same(have, w.Endpoint):
		s.Ours = ours && have == r.stored
		return
	case contested[k] != "":
		s.Difference = contested[k]
	case ours && have != r.stored:
		s.Difference = fmt.Sprintf("another program changed it (flags %s, %s would be right)", have.Flags, w.Flags)
		p.fresh[k] = s.Difference
	case ours:
		s.Difference = fmt.Sprintf("has flags %s, %s would be right", have.Flags, w.Flags)
		p.changes = append(p.changes, replace(have, w, r.previous))
	case have.Flags&mptcp.FlagImplicit != 0:
		// The kernel's own, which an explicit one replaces.
		p.changes = append(p.changes, change{add: &w})
		s.Difference = "is missing"
	case adopt:
		s.Difference = fmt.Sprintf("has flags %s, %s would be right", have.Flags, w.Flags)
		c := replace(have, w, &have)
		c.adopt = true
		p.changes = append(p.changes, c)
	default:
		s.Difference = fmt.Sprintf("was made by another program with flags %s, and the path needs %s; adopt = true would change it", have.Flags, w.Flags)
	}
}

// same reports whether the kernel has what the path needs, regardless of who made it. A missing
// device is not a difference.
func same(have, want mptcp.Endpoint) bool {
	return have.Flags&flagsMask == want.Flags && (have.Interface == want.Interface || have.Interface == 0)
}

// replace changes the flags in place where the kernel can.
func replace(have mptcp.Endpoint, w want, was *mptcp.Endpoint) change {
	const inPlace = mptcp.FlagBackup
	if have.Interface == w.Interface && have.Flags&^inPlace == w.Flags&^inPlace {
		e := w.Endpoint
		e.ID = have.ID
		return change{set: &e, add: &w, previous: was}
	}
	return change{del: &have, add: &w, previous: was}
}
