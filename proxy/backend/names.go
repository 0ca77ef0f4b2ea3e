package backend

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"mpgate/proxy/resolve"
)

// names are the addresses of a host name.
type names struct {
	resolved[netip.Addr]
	resolver *resolve.Resolver

	// What follows belongs to the lookup in progress.
	v4, v6 family
	whole  string // the name that had the addresses; see resolve.Resolver.Addresses
}

// family is what is known about the addresses of a name in one family.
type family struct {
	addrs   []netip.Addr
	missing bool // the last lookup found none
}

// confirmAfter is the time after which a name is resolved again if its addresses of one family are
// gone and those of the other are not: it happens by mistake.
const confirmAfter = time.Second

func newNames(host string, r *resolve.Resolver) *names {
	n := &names{resolver: r}
	n.resolved = newResolved(host, n.find)
	return n
}

// find asks for both families. What is known about one of them stays in use while the answer about
// it is missing.
func (n *names) find(ctx context.Context) found[netip.Addr] {
	v4, v6, whole := n.resolver.Addresses(ctx, n.name, n.whole)
	if v4.Err != nil && v6.Err != nil {
		return found[netip.Addr]{err: resolve.NoAddress(v4, v6)}
	}
	n.whole = whole
	f := found[netip.Addr]{ttl: resolve.MaxTTL}
	for _, one := range []struct {
		of     *family
		answer resolve.Family
	}{{&n.v6, v6}, {&n.v4, v4}} {
		f.ttl = min(f.ttl, one.of.update(one.answer))
		f.list = append(f.list, one.of.addrs...)
	}
	return f
}

// update takes the answer about one family, where the other family has addresses. It returns how
// long the result is valid.
func (f *family) update(a resolve.Family) time.Duration {
	switch {
	case a.Err == nil:
		f.addrs, f.missing = a.Addrs, false
		return a.TTL
	case len(f.addrs) == 0 || !resolve.NotFound(a.Err):
		return resolve.MaxTTL // the other family says when to ask again
	case f.missing:
		f.addrs, f.missing = nil, false
		return resolve.MaxTTL
	}
	f.missing = true
	return confirmAfter
}

// includes reports whether the last answer includes an address, and how many addresses it has.
// Without an answer every address is included.
func (n *names) includes(a netip.Addr) (included bool, of int) {
	addrs := n.snapshot.Load()
	if addrs == nil {
		return true, 1
	}
	return slices.Contains(*addrs, a), len(*addrs)
}
