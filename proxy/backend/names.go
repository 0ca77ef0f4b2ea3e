package backend

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxNameAge is how long an answer of the resolver is used. Go's resolver does not tell the record's own.
const maxNameAge = 5 * time.Second

// renewal is how long the resolver may take where its last answer is still at hand: the connect has to have time left.
const renewal = 500 * time.Millisecond

// loyalty is how long an address that could be reached when one before it could not goes first.
const loyalty = time.Minute

// names remembers what a server's name resolved to. When the resolver fails the last answer goes on serving.
type names struct {
	mu    sync.Mutex // held during a look-up, so that one is made for all who wait
	addrs []netip.Addr
	at    time.Time
	good  netip.Addr // see prefer
	until time.Time

	resolver *net.Resolver // nil: the default one
}

// ordered gives the addresses of a name, in the order in which they are to be tried. The list is the caller's.
func (n *names) ordered(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := n.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs = slices.Clone(addrs)
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(addrs, n.good); i > 0 && time.Now().Before(n.until) {
		copy(addrs[1:], addrs[:i])
		addrs[0] = n.good
	}
	return addrs, nil
}

// prefer has an address go first for a while: those before it could not be reached.
func (n *names) prefer(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.good, n.until = a, time.Now().Add(loyalty)
}

// connectTime is how long one of the addresses that are left may take to answer a connect: an equal part of the time that is left
// for all, but long enough for a lost SYN to be sent again (after 1 s, RFC 6298 section 2).
func connectTime(left time.Duration, addrs int) time.Duration {
	const least = 2 * time.Second
	return min(left, max(left/time.Duration(addrs), least))
}

func (n *names) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.addrs != nil && time.Since(n.at) < maxNameAge {
		return n.addrs, nil
	}
	if n.addrs != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, renewal)
		defer cancel()
	}
	resolver := n.resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		if n.addrs == nil {
			return nil, err
		}
		n.at = time.Now() // a resolver that is away is not asked for every connection
		return n.addrs, nil
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	n.addrs, n.at = addrs, time.Now()
	return addrs, nil
}
