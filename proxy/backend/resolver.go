package backend

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/proxy/resolve"
)

const (
	// refreshWait is how long a connect waits for the resolver when an older answer is available.
	refreshWait = 500 * time.Millisecond
	// refreshTimeout bounds a lookup in the background.
	refreshTimeout = 20 * time.Second
	// maxRetry bounds the time from a lookup without an answer to the next one. It doubles from
	// resolve.MinTTL.
	maxRetry = 4 * time.Second
	// failuresToReport is how many lookups in a row must fail before that is reported: one packet
	// may be lost.
	failuresToReport = 2
)

// Names is what the resolver has found for the names of servers. Backends that share it know at
// once what the others have found, so that a reload needs no answer from a resolver. The zero value
// is empty.
type Names struct {
	mu        sync.Mutex // guards what follows
	resolvers map[string]*resolve.Resolver
	hosts     map[nameKey]*names
	services  map[nameKey]*services
}

// Resolve is how the names of servers are resolved. The zero value is by the system's resolver, as
// often as the TTL of the answers says.
type Resolve struct {
	Servers []netip.AddrPort // instead of those of the system
	Every   time.Duration    // instead of the TTL, from 1 s
}

type nameKey struct {
	name    string
	servers string
	every   time.Duration
}

func (o *Resolve) key(name string) nameKey { return nameKey{name, fmt.Sprint(o.Servers), o.Every} }

// Resolver returns the resolver for these options.
func (n *Names) Resolver(o Resolve) *resolve.Resolver {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.resolver(o)
}

func (n *Names) resolver(o Resolve) *resolve.Resolver {
	key := fmt.Sprint(o.Servers)
	r := n.resolvers[key]
	if r == nil {
		if n.resolvers == nil {
			n.resolvers = map[string]*resolve.Resolver{}
		}
		r = resolve.New(resolve.Options{Servers: o.Servers})
		n.resolvers[key] = r
	}
	return r
}

// host returns what is known about a host name. Each call is matched by one of release.
func (n *Names) host(o Resolve, host string) *names {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[o.key(host)]
	if h == nil {
		if n.hosts == nil {
			n.hosts = map[nameKey]*names{}
		}
		h = newNames(host, n.resolver(o))
		h.every, h.key, h.from = o.Every, o.key(host), n
		n.hosts[h.key] = h
	}
	h.refs++
	return h
}

// service is host for the name of SRV records.
func (n *Names) service(o Resolve, name string) *services {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.services[o.key(name)]
	if s == nil {
		if n.services == nil {
			n.services = map[nameKey]*services{}
		}
		s = newServices(name, n.resolver(o))
		s.every, s.key, s.from = o.Every, o.key(name), n
		n.services[s.key] = s
	}
	s.refs++
	return s
}

// found is the result of one lookup.
type found[T any] struct {
	list []T           // empty: the last one stays in use
	ttl  time.Duration // how long list is valid
	err  error         // why list is empty
}

// resolved is what a resolver last found for a name. While the resolver fails, or says that the
// name does not exist, the last answer stays in use.
type resolved[T any] struct {
	name      string
	every     time.Duration // instead of the TTL; 0: the TTL
	find      func(context.Context) found[T]
	resolving chan struct{} // holds one element while a lookup is in progress
	answered  chan struct{} // closed after the first lookup

	snapshot atomic.Pointer[[]T] // list, for reads without mu; nil before the first answer

	key  nameKey
	from *Names
	refs int // guarded by from.mu

	mu       sync.Mutex // guards what follows
	list     []T
	expires  time.Time // when list or err is to be replaced
	at       time.Time // when list was found
	err      error     // of the last lookup; list may be older
	failures int       // lookups without an answer since the last one that had one
	used     bool      // since the last refresh
}

func newResolved[T any](name string, find func(context.Context) found[T]) resolved[T] {
	return resolved[T]{name: name, find: find, resolving: make(chan struct{}, 1), answered: make(chan struct{})}
}

// last returns the last answer, or nil.
func (n *resolved[T]) last() []T {
	if p := n.snapshot.Load(); p != nil {
		return *p
	}
	return nil
}

// lookup returns the list for a new connection. If the last answer is old and no lookup is in
// progress, it waits for the resolver for refreshWait. Without an earlier answer it waits until ctx
// ends.
func (n *resolved[T]) lookup(ctx context.Context) ([]T, error) {
	list, err, recent := n.cached()
	if recent {
		return list, err
	}
	if list != nil {
		select {
		case n.resolving <- struct{}{}:
		default:
			return list, nil
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
	return n.resolve(ctx)
}

// cached returns the last answer, and whether it is recent enough to be used without a lookup.
func (n *resolved[T]) cached() (list []T, err error, recent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used = true
	recent = time.Now().Before(n.expires)
	if n.list == nil {
		return nil, n.err, recent
	}
	return n.list, nil, recent
}

// resolve asks the resolver, unless there is a recent answer by now, and returns the last answer if
// that fails. The caller has sent to resolving; resolve receives from it.
func (n *resolved[T]) resolve(ctx context.Context) ([]T, error) {
	defer func() { <-n.resolving }()
	n.mu.Lock()
	list, err, recent := n.list, n.err, time.Now().Before(n.expires)
	n.mu.Unlock()
	if recent { // of the lookup that this call waited for
		if list != nil {
			err = nil
		}
		return list, err
	}
	f := n.find(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = f.err
	now := time.Now()
	if len(f.list) > 0 {
		n.list, n.at, n.failures = f.list, now, 0
		n.snapshot.Store(&f.list)
		if n.every > 0 {
			f.ttl = n.every
		}
		n.expires = now.Add(f.ttl)
	} else {
		// Also after a failure no lookup follows at once: a resolver that does not answer must not
		// delay every connect.
		n.expires = now.Add(min(resolve.MinTTL<<min(n.failures, 8), maxRetry))
		n.failures++
	}
	select {
	case <-n.answered:
	default:
		close(n.answered)
	}
	if n.list == nil {
		return nil, n.err
	}
	return n.list, nil
}

// refresh asks the resolver, unless a lookup is in progress or its last answer is recent.
func (n *resolved[T]) refresh(ctx context.Context) {
	select {
	case n.resolving <- struct{}{}:
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		_, _ = n.resolve(ctx)
	default:
	}
}

// keepFresh refreshes the answer when it expires, until the context ends, so that no request waits
// for the resolver and a change is noticed under steady traffic. It does so while the name is used:
// by new connections, or as inUse reports. It calls report with an error when lookups fail, and
// with nil when they succeed again; known is whether there is an earlier answer. Then it always
// calls after, if that is not nil.
func (n *resolved[T]) keepFresh(ctx context.Context, inUse func() bool, report func(known bool, why error), after func()) {
	reported := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		n.mu.Lock()
		used, expires := n.used, n.expires
		n.used = false
		n.mu.Unlock()
		if used || inUse() {
			if !time.Now().Before(expires) {
				n.refresh(ctx)
			}
			reported = n.reportFailures(reported, report)
			if after != nil {
				after()
			}
		}
		timer.Reset(n.untilRefresh())
	}
}

// untilRefresh returns the time until the next refresh: at most a second after the answer expires,
// so that not all names are resolved at the same moment.
func (n *resolved[T]) untilRefresh() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := time.Until(n.expires)
	if left <= 0 { // it is not used, or another lookup is in progress
		return resolve.MinTTL
	}
	return left + rand.N(min(left/8, time.Second)+1)
}

// reportFailures calls report if there is something to report, and returns whether a failure was
// the last.
func (n *resolved[T]) reportFailures(reported bool, report func(bool, error)) bool {
	n.mu.Lock()
	err, failures, known := n.err, n.failures, n.list != nil
	n.mu.Unlock()
	switch {
	case failures >= failuresToReport && !reported:
		report(known, err)
		return true
	case failures == 0 && reported:
		report(true, nil)
		return false
	}
	return reported
}

// A NameStatus is what is known about the name of servers.
type NameStatus struct {
	Name    string        // as configured
	Kind    string        // "address", "all" or "srv"
	Found   []string      // the addresses, or the targets of SRV records with priority and weight
	Age     time.Duration // since Found was last confirmed
	Expires time.Duration // until the next lookup; 0: it is due when the name is used
	Err     error         // of the last lookup, if it failed
}

func (n *resolved[T]) status(kind string, text func(T) string) NameStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := NameStatus{Name: n.name, Kind: kind, Err: n.err, Expires: max(0, time.Until(n.expires))}
	for _, one := range n.list {
		s.Found = append(s.Found, text(one))
	}
	if n.list != nil {
		s.Age = time.Since(n.at)
	}
	return s
}
