package backend

import (
	"context"
	"slices"
	"time"
)

// members are the servers of a backend at one time, and the balancers that choose among them. When
// servers come or go, all of it is replaced by one store: a request sees the list of before or the
// list of after. A Server that stays is the same object in both, with its connections and state.
type members struct {
	servers []*Server // never changed in place; may be empty
	tiers   []tier    // the preferred one first
	sticky  *sticky   // nil: no cookies
}

// tier is a group of servers, and the balancer that chooses among them.
type tier struct {
	servers  []*Server
	balancer balancer
}

// tier is the number of the group that a server belongs to. Those of a higher tier are used if none
// of a lower one is available: the later priorities of SRV records, then the backup servers.
func (s *Server) tier() int {
	if s.backup {
		return s.priority + 1<<16
	}
	return s.priority
}

// newMembers makes the balancers. Servers of weight 0 are in none.
func (b *Backend) newMembers(servers []*Server) (*members, error) {
	create, err := constructor(b.options.Balance)
	if err != nil {
		return nil, err
	}
	m := &members{servers: servers, sticky: newSticky(b.options.Sticky, servers)}
	byTier := map[int][]*Server{}
	for _, s := range servers {
		if s.weight.Load() > 0 {
			byTier[s.tier()] = append(byTier[s.tier()], s)
		}
	}
	var tiers []int
	for t := range byTier {
		tiers = append(tiers, t)
	}
	slices.Sort(tiers)
	for _, t := range tiers {
		m.tiers = append(m.tiers, tier{byTier[t], create(byTier[t])})
	}
	return m, nil
}

// list returns the servers at present. The caller must not change the list.
func (b *Backend) list() []*Server { return b.members.Load().servers }

// setServers replaces the servers. New ones get a meter, and their tasks if the backend runs. Those
// that are gone get no further requests: their idle connections are closed, and those in use after
// their exchanges. membersMu must be held.
func (b *Backend) setServers(servers []*Server) error {
	m, err := b.newMembers(servers)
	if err != nil {
		return err
	}
	before, after, had := map[*Server]bool{}, map[*Server]bool{}, map[*entry]bool{}
	for _, s := range b.list() {
		before[s], had[s.entry] = true, true
	}
	for _, s := range servers {
		after[s] = true
		if before[s] {
			continue
		}
		s.meter = b.options.Instruments.Server(b.options.Name, s.Address)
		if b.running {
			if had[s.entry] { // the first servers of a name have nobody to share with
				s.startSlowly(time.Now())
			}
			s.startTasks()
		}
	}
	b.members.Store(m)
	b.recount()
	for s := range before {
		if !after[s] {
			s.remove()
		}
	}
	return nil
}

// startServers starts the tasks of all servers, and from then on those of new ones.
func (b *Backend) startServers() {
	b.membersMu.Lock()
	defer b.membersMu.Unlock()
	b.running = true
	b.health.Panics(b.panics.Load()) // the backend before may have left another value
	for _, s := range b.list() {
		s.startTasks()
	}
	for _, e := range b.entries {
		if e.fixed == nil {
			b.background.start("backend "+b.Name()+": servers of "+e.name(), func(ctx context.Context) { b.follow(ctx, e) })
		}
	}
}

// remove ends the tasks of a server that the backend no longer has, and closes its idle
// connections. Places that become free there are for no request that waits.
func (s *Server) remove() {
	s.remember()
	s.admin.Store(uint32(AdminDown))
	s.cancel()
	s.close()
}
