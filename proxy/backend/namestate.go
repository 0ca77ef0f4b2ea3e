package backend

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"mpgate/proxy/resolve"
)

// NameState is what a later process takes over of the name of servers, so that it needs no answer
// from a resolver. It has Addrs or Services. Times are those of the wall clock.
type NameState struct {
	Name     string
	Servers  []netip.AddrPort  `json:",omitempty"` // of Resolve: what others say does not count
	Addrs    []netip.Addr      `json:",omitempty"`
	Services []resolve.Service `json:",omitempty"`
	At       time.Time         // when it was last confirmed
	Expires  time.Time
}

// States returns what is known about the names, for Restore.
func (n *Names) States() (list []NameState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, one := range n.hosts {
		if s, ok := one.state(); ok {
			s.Addrs = one.last()
			list = append(list, s)
		}
	}
	for _, one := range n.services {
		if s, ok := one.state(); ok {
			s.Services = one.last()
			list = append(list, s)
		}
	}
	return list
}

// state is without what was found. ok: there is something.
func (n *resolved[T]) state() (s NameState, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return NameState{Name: n.name, Servers: n.servers, At: n.at.Round(0), Expires: n.expires.Round(0)}, n.list != nil
}

// Restore sets what was known about names in another process. It counts for the names of backends
// that are made until Restore is called with nil.
func (n *Names) Restore(list []NameState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.earlier = list
}

// restore takes over an earlier answer. No other goroutine has n yet.
func (n *resolved[T]) restore(s *NameState, list []T) {
	now := time.Now()
	n.list, n.at = list, now.Add(-max(0, now.Sub(s.At)))
	n.snapshot.Store(&list)
	// Not at once, so that the first requests do not wait for the resolver; and the clock may have
	// been set.
	n.expires = now.Add(min(max(s.Expires.Sub(now), resolve.MinTTL), cmp.Or(n.every, resolve.MaxTTL)))
	close(n.answered)
}

// take returns the earlier state of a name; nil: there is none. mu must be held.
func (n *Names) take(name string, o Resolve, service bool) *NameState {
	for i := range n.earlier {
		s := &n.earlier[i]
		if s.Name == name && (len(s.Services) > 0) == service && len(s.Addrs)+len(s.Services) > 0 && slices.Equal(s.Servers, o.Servers) {
			return s
		}
	}
	return nil
}

// restoreFrom takes over the addresses of both families.
func (n *names) restoreFrom(s *NameState) {
	for _, a := range s.Addrs {
		if a.Is4() {
			n.v4.addrs = append(n.v4.addrs, a)
		} else {
			n.v6.addrs = append(n.v6.addrs, a)
		}
	}
	n.restore(s, s.Addrs)
}

func (s *services) restoreFrom(t *NameState) { s.restore(t, t.Services) }
