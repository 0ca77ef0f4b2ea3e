package backend

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxNameAge is how long an answer of the resolver is used by new connections. Go's resolver
	// does not tell the TTL.
	maxNameAge = 5 * time.Second
	// renewEvery is how often the name of a server in use is resolved in the background, give or
	// take an eighth, so that no request waits for the resolver and a name that moves is noticed
	// under steady traffic.
	refreshEvery = 4 * time.Second
	// renewal is how long a connect waits for the resolver when an older answer is at hand.
	refreshWait = 500 * time.Millisecond
	// longestRenewal bounds a look-up in the background.
	refreshTimeout = 10 * time.Second
	// failureAge is how long an error of the resolver stands for a name that has never been
	// resolved.
	maxErrorAge = time.Second
	// preferTTL is how long an address that could be reached when one before it could not goes
	// first.
	preferTTL = time.Minute
)

// names is what a server's name resolves to. When the resolver fails the last answer goes on
// serving.
type names struct {
	host      string
	resolver  *net.Resolver // nil: the default one
	resolving chan struct{} // has room for the one who asks the resolver

	snapshot atomic.Pointer[[]netip.Addr] // addrs, for who only looks

	mu             sync.Mutex // guards what follows
	addrs          []netip.Addr
	resolvedAt     time.Time // of addrs, or of err
	err            error     // why there are none
	used           bool      // since the last renewal
	lastErr        error     // of the resolver's last answer; addrs may be older
	preferred      netip.Addr
	preferredUntil time.Time
}

func newNames(host string) *names { return &names{host: host, resolving: make(chan struct{}, 1)} }

// ordered gives the addresses, in the order in which they are to be tried. The list is the
// caller's.
func (n *names) addresses(ctx context.Context) ([]netip.Addr, error) {
	addrs, err := n.lookup(ctx)
	if err != nil {
		return nil, err
	}
	addrs = slices.Clone(addrs)
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(addrs, n.preferred); i > 0 && time.Now().Before(n.preferredUntil) {
		copy(addrs[1:], addrs[:i])
		addrs[0] = n.preferred
	}
	return addrs, nil
}

// prefer has an address go first for a while: those before it could not be reached.
func (n *names) prefer(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.preferred, n.preferredUntil = a, time.Now().Add(preferTTL)
}

// lookup gives the addresses for a new connection. It waits for the resolver if the last answer is
// old and nobody else asks, and for as long as it takes only if there never was one.
func (n *names) lookup(ctx context.Context) ([]netip.Addr, error) {
	addrs, err, fresh := n.cached()
	if fresh {
		return addrs, err
	}
	if addrs != nil {
		select {
		case n.resolving <- struct{}{}:
		default:
			return addrs, nil // the answer is on its way
		}
		ctx, cancel := context.WithTimeout(ctx, refreshWait)
		defer cancel()
		return n.resolve(ctx)
	}
	select {
	case n.resolving <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if addrs, err, fresh := n.cached(); fresh { // who asked before has the answer for all who waited
		<-n.resolving
		return addrs, err
	}
	return n.resolve(ctx)
}

// known gives what is known, and says whether that is recent enough.
func (n *names) cached() (addrs []netip.Addr, err error, fresh bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used = true
	age := time.Since(n.resolvedAt)
	if n.addrs == nil {
		return nil, n.err, n.err != nil && age < maxErrorAge
	}
	return n.addrs, nil, age < maxNameAge
}

// ask asks the resolver and gives the last answer if it fails. asking is held, and let go.
func (n *names) resolve(ctx context.Context) ([]netip.Addr, error) {
	defer func() { <-n.resolving }()
	resolver := n.resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", n.host)
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastErr = err
	n.resolvedAt = time.Now() // a resolver that does not answer is not asked for every connection
	if err == nil {
		n.addrs, n.err = addrs, nil
		n.snapshot.Store(&addrs)
	} else if n.addrs == nil {
		n.err = err
	}
	return n.addrs, n.err
}

// follow renews the answer now and then, until the context ends. inUse says whether there are
// connections to what the name resolves to. stale is told when the resolver fails while the last
// answer stays in use, and, with nil, when it answers again.
func (n *names) refreshPeriodically(ctx context.Context, inUse func() bool, stale func(error)) {
	failures := 0
	timer := time.NewTimer(refreshEvery)
	defer timer.Stop()
	for {
		timer.Reset(refreshEvery*7/8 + rand.N(refreshEvery/4))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		n.mu.Lock()
		asked := n.used
		n.used = false
		n.mu.Unlock()
		if asked || inUse() {
			n.refresh(ctx)
			failures = n.noteRefresh(failures, stale)
		}
	}
}

// reportFailures is how many renewals in a row must fail before that is reported: one packet may be
// lost.
const failuresToReport = 2

// judge counts the renewals in a row that failed, and tells stale where that is to be reported.
func (n *names) noteRefresh(failures int, stale func(error)) int {
	n.mu.Lock()
	failed, has := n.lastErr, n.addrs != nil
	n.mu.Unlock()
	switch {
	case !has:
		return 0 // connects fail, which is reported as such
	case failed != nil:
		if failures++; failures == failuresToReport {
			stale(failed)
		}
		return failures
	case failures >= failuresToReport:
		stale(nil)
	}
	return 0
}

// renew asks the resolver unless somebody does already.
func (n *names) refresh(ctx context.Context) {
	select {
	case n.resolving <- struct{}{}:
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		_, _ = n.resolve(ctx)
	default:
	}
}

// has says whether the name resolves to an address, as far as is known, and to how many in all.
func (n *names) includes(a netip.Addr) (has bool, of int) {
	addrs := n.snapshot.Load()
	if addrs == nil {
		return true, 1
	}
	return slices.Contains(*addrs, a), len(*addrs)
}

// connectTime is how long one of the addresses that are left may take to answer a connect: an equal
// part of the time that is left for all, but long enough for a lost SYN to be sent again (after 1
// s, RFC 6298 section 2).
func connectTime(left time.Duration, addrs int) time.Duration {
	const least = 2 * time.Second
	return min(left, max(left/time.Duration(addrs), least))
}
