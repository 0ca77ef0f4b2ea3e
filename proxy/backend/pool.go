package backend

import (
	"fmt"
	"slices"
	"time"
)

// members are the servers of a backend at one time, and the balancer that chooses among them. When
// servers come or go, all of it is replaced by one store: a request sees the list of before or the
// list of after. A Server that stays is the same object in both, with its connections and state.
type members struct {
	servers   []*Server  // never changed in place; may be empty
	balancers []balancer // of the servers, and of the backup servers
	sticky    *sticky    // nil: no cookies
}

// list returns the servers at present. The caller must not change the list.
func (b *Backend) list() []*Server { return b.members.Load().servers }

// setServers replaces the servers. New ones get a meter, and their tasks if the backend runs. Those
// that are gone get no further requests: their idle connections are closed, and those in use after
// their exchanges.
func (b *Backend) setServers(servers []*Server) error {
	b.membersMu.Lock()
	defer b.membersMu.Unlock()
	balancers, err := newBalancers(b.options.Balance, servers)
	if err != nil {
		return fmt.Errorf("backend %q: %w", b.options.Name, err)
	}
	var before []*Server
	if m := b.members.Load(); m != nil {
		before = m.servers
	}
	for _, s := range servers {
		if s.meter == nil {
			s.meter = b.options.Instruments.Server(b.options.Name, s.Address)
		}
		if b.running && !slices.Contains(before, s) {
			s.startSlowly(time.Now())
			s.startTasks()
		}
	}
	b.members.Store(&members{servers, balancers, newSticky(b.options.Sticky, servers)})
	b.recount()
	for _, s := range before {
		if !slices.Contains(servers, s) {
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
	for _, s := range b.list() {
		s.startTasks()
	}
}

// remove ends the tasks of a server that the backend no longer has, and closes its idle
// connections.
func (s *Server) remove() {
	s.remember()
	s.cancel()
	s.close()
}
