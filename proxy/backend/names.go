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
	// maxNameAge is how long an answer of the resolver is used for new connections. Go's resolver
	// does not report the TTL.
	maxNameAge = 5 * time.Second
	// refreshEvery is how often the name of a server in use is resolved in the background, plus or
	// minus an eighth, so that no request waits for the resolver and a changed address is noticed
	// under steady traffic.
	refreshEvery = 4 * time.Second
	// refreshWait is how long a connect waits for the resolver when an older answer is available.
	refreshWait = 500 * time.Millisecond
	// refreshTimeout bounds a lookup in the background.
	refreshTimeout = 10 * time.Second
	// maxErrorAge is how long an error of the resolver is used for a name that was never resolved.
	maxErrorAge = time.Second
	// preferTTL is how long an address is tried first after one before it could not be reached.
	preferTTL = time.Minute
	// failuresToReport is how many refreshes in a row must fail before that is reported: one packet
	// may be lost.
	failuresToReport = 2
)

// names resolves the name of a server. While the resolver fails, its last answer stays in use.
type names struct {
	host      string
	resolver  *net.Resolver // nil: the default one
	resolving chan struct{} // holds one element while a lookup is in progress

	snapshot atomic.Pointer[[]netip.Addr] // addrs, for reads without mu

	mu             sync.Mutex // guards what follows
	addrs          []netip.Addr
	resolvedAt     time.Time // when addrs or err were obtained
	err            error     // why there are no addrs
	used           bool      // since the last refresh
	lastErr        error     // of the last lookup; addrs may be older
	preferred      netip.Addr
	preferredUntil time.Time
}

func newNames(host string) *names { return &names{host: host, resolving: make(chan struct{}, 1)} }

// addresses returns the addresses in the order in which to try them. The caller may change the
// list.
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

// prefer makes an address the first to try for preferTTL, because those before it could not be
// reached.
func (n *names) prefer(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.preferred, n.preferredUntil = a, time.Now().Add(preferTTL)
}

// lookup returns the addresses for a new connection. If the last answer is old and no lookup is in
// progress, it waits for the resolver for refreshWait. Without an earlier answer it waits until ctx
// ends.
func (n *names) lookup(ctx context.Context) ([]netip.Addr, error) {
	addrs, err, recent := n.cached()
	if recent {
		return addrs, err
	}
	if addrs != nil {
		select {
		case n.resolving <- struct{}{}:
		default:
			return addrs, nil
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
	if addrs, err, recent := n.cached(); recent { // of the lookup that this call waited for
		<-n.resolving
		return addrs, err
	}
	return n.resolve(ctx)
}

// cached returns the last answer, and whether it is recent enough to be used without a lookup.
func (n *names) cached() (addrs []netip.Addr, err error, recent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used = true
	age := time.Since(n.resolvedAt)
	if n.addrs == nil {
		return nil, n.err, n.err != nil && age < maxErrorAge
	}
	return n.addrs, nil, age < maxNameAge
}

// resolve asks the resolver, and returns the last answer if that fails. The caller has sent to
// resolving; resolve receives from it.
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
	// Also after an error: a resolver that does not answer must not delay every connect.
	n.resolvedAt = time.Now()
	if err == nil {
		n.addrs, n.err = addrs, nil
		n.snapshot.Store(&addrs)
	} else if n.addrs == nil {
		n.err = err
	}
	return n.addrs, n.err
}

// refreshPeriodically resolves the name again until the context ends, while it is used: by new
// connections, or by those that inUse reports. It calls stale with an error when the resolver fails
// while the last answer stays in use, and with nil when it answers again.
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
		used := n.used
		n.used = false
		n.mu.Unlock()
		if used || inUse() {
			n.refresh(ctx)
			failures = n.noteRefresh(failures, stale)
		}
	}
}

// noteRefresh returns the number of refreshes in a row that have failed, given the number before
// the last one, and calls stale if there is something to report.
func (n *names) noteRefresh(failures int, stale func(error)) int {
	n.mu.Lock()
	err, resolved := n.lastErr, n.addrs != nil
	n.mu.Unlock()
	switch {
	case !resolved:
		return 0 // connects fail, which is reported by itself
	case err != nil:
		if failures++; failures == failuresToReport {
			stale(err)
		}
		return failures
	case failures >= failuresToReport:
		stale(nil)
	}
	return 0
}

// refresh asks the resolver, unless a lookup is in progress.
func (n *names) refresh(ctx context.Context) {
	select {
	case n.resolving <- struct{}{}:
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		_, _ = n.resolve(ctx)
	default:
	}
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
