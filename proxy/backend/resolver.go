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
	earlier   []NameState // see Restore
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

// resolver returns the resolver for these options. mu must be held.
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
	return known(n, &n.hosts, o, host, newNames, false)
}

// service is host for the name of SRV records.
func (n *Names) service(o Resolve, name string) *services {
	return known(n, &n.services, o, name, newServices, true)
}

// known returns what is known about a name, from one of the maps of n, which it is added to if it
// is not there.
func known[T any, N interface {
	base() *resolved[T]
	restoreFrom(*NameState)
}](n *Names, in *map[nameKey]N, o Resolve, name string, create func(string, *resolve.Resolver) N, service bool) N {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := o.key(name)
	one, ok := (*in)[key]
	if !ok {
		one = create(name, n.resolver(o))
		if *in == nil {
			*in = map[nameKey]N{}
		}
		(*in)[key] = one
		b := one.base()
		b.every, b.servers, b.from, b.forget = o.Every, o.Servers, n, func() { delete(*in, key) }
		if s := n.take(name, o, service); s != nil {
			one.restoreFrom(s)
		}
	}
	one.base().refs++
	return one
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
	every     time.Duration    // instead of the TTL; 0: the TTL
	servers   []netip.AddrPort // of Resolve
	find      func(context.Context) found[T]
	resolving chan struct{} // holds one element while a lookup is in progress
	wanted    chan struct{} // holds one element if keepFresh is to make a lookup at once
	answered  chan struct{} // closed after the first lookup

	snapshot atomic.Pointer[[]T] // list, for reads without mu; nil before the first answer

	from   *Names
	forget func() // removes it from from
	refs   int    // guarded by from.mu

	mu       sync.Mutex    // guards what follows
	ended    chan struct{} // closed after the next lookup
	list     []T
	expires  time.Time // when list or err is to be replaced
	at       time.Time // when list was found
	err      error     // of the last lookup; list may be older
	failures int       // lookups without an answer since the last one that had one
	used     bool      // since the last refresh
	lookups  uint64    // in all
	failed   uint64    // of them
}

func newResolved[T any](name string, find func(context.Context) found[T]) resolved[T] {
	return resolved[T]{
		name: name, find: find, resolving: make(chan struct{}, 1), wanted: make(chan struct{}, 1), answered: make(chan struct{}),
		ended: make(chan struct{}),
	}
}

func (n *resolved[T]) base() *resolved[T] { return n }

// release ends the use of a name that Names.host or Names.service returned.
func (n *resolved[T]) release() {
	if n.from == nil { // a test made it
		return
	}
	n.from.mu.Lock()
	defer n.from.mu.Unlock()
	if n.refs--; n.refs == 0 {
		n.forget()
	}
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
// ends. keepFresh makes the lookup, which goes on when nobody waits for it any longer: where the
// first DNS server is silent, it takes more time than a connect has.
func (n *resolved[T]) lookup(ctx context.Context) ([]T, error) {
	list, ended, err := n.cached()
	if ended == nil || list != nil && len(n.resolving) > 0 {
		return list, err
	}
	if list != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, refreshWait)
		defer cancel()
	}
	n.want()
	select {
	case <-ended:
		list, _, err = n.cached()
	case <-ctx.Done():
		if list == nil {
			err = ctx.Err()
		}
	}
	return list, err
}

// cached returns the last answer. If it is not recent enough to be used without a lookup, ended is
// closed after the next one.
func (n *resolved[T]) cached() (list []T, ended <-chan struct{}, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used = true
	if !time.Now().Before(n.expires) {
		ended = n.ended
	}
	if n.list == nil {
		return nil, ended, n.err
	}
	return n.list, ended, nil
}

// want makes one of the tasks of keepFresh make a lookup at once.
func (n *resolved[T]) want() {
	select {
	case n.wanted <- struct{}{}:
	default:
	}
}

// resolve asks the resolver, unless there is a recent answer by now. The caller has sent to
// resolving; resolve receives from it.
func (n *resolved[T]) resolve(ctx context.Context) {
	defer func() { <-n.resolving }()
	n.mu.Lock()
	recent := time.Now().Before(n.expires)
	n.mu.Unlock()
	if recent { // another lookup ended just now
		return
	}
	f := n.find(ctx)
	if len(f.list) == 0 && ctx.Err() == context.Canceled { // the server or the backend ends
		n.want() // in case that others use the name
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = f.err
	n.lookups++
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
		n.failed++
	}
	close(n.ended)
	n.ended = make(chan struct{})
	select {
	case <-n.answered:
	default:
		close(n.answered)
	}
}

// refresh asks the resolver, unless a lookup is in progress or its last answer is recent.
func (n *resolved[T]) refresh(ctx context.Context) {
	select {
	case n.resolving <- struct{}{}:
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		n.resolve(ctx)
	default:
	}
}

// keepFresh refreshes the answer when it expires, until the context ends, so that no request waits
// for the resolver and a change is noticed under steady traffic, and at once when lookup wants
// that. It does so while the name is used: by new connections, or as inUse reports. It calls report
// with an error when lookups fail, and with nil when they succeed again; known is whether there is
// an earlier answer. Then it always calls after, if that is not nil.
func (n *resolved[T]) keepFresh(ctx context.Context, inUse func() bool, report func(known bool, why error), after func()) {
	reported := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wanted := false
		select {
		case <-timer.C:
		case <-n.wanted:
			wanted = true
		case <-ctx.Done():
			return
		}
		n.mu.Lock()
		used, expires := n.used, n.expires
		n.used = false
		n.mu.Unlock()
		if wanted || used || inUse() {
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
	At      time.Time     // when Found was last confirmed; zero: never
	InRow   int           // failed lookups since the last one that found something
	Lookups uint64        // in all, since the name is known
	Failed  uint64        // of Lookups
}

func (n *resolved[T]) status(kind string, text func(T) string) NameStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := NameStatus{
		Name: n.name, Kind: kind, Err: n.err, Expires: max(0, time.Until(n.expires)),
		At: n.at, InRow: n.failures, Lookups: n.lookups, Failed: n.failed,
	}
	for _, one := range n.list {
		s.Found = append(s.Found, text(one))
	}
	if n.list != nil {
		s.Age = time.Since(n.at)
	}
	return s
}
