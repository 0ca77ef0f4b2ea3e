package paths

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A dial whose address is the kernel's choice leaves by the path of its route, also where that path
// is silent: the route does not know. So while a path does not carry, such dials get the address of
// one that does, if the host has a route from that address by that path.

// detour is what dials have to know of the paths. It is replaced when that changes.
type detour struct {
	rt    *rtnetlink
	era   context.Context
	end   context.CancelFunc
	paths []detourPath
	any   bool // one of them does not carry

	mu    sync.Mutex // guards what follows
	known map[netip.Addr]netip.Addr
	at    time.Time
}

// detourPath is a path as dials see it.
type detourPath struct {
	index  int
	addrs  []netip.Addr
	dead   bool // it is silent, or not back yet
	dials  bool // it is for dials
	backup bool
}

func (p *detourPath) equal(q detourPath) bool {
	return p.index == q.index && slices.Equal(p.addrs, q.addrs) && p.dead == q.dead && p.dials == q.dials && p.backup == q.backup
}

const (
	// detourAge is how long the routes are taken to be as they were.
	detourAge  = time.Second
	mostDetour = 1024 // addresses that are remembered
)

// From is the address that a dial is to leave from so as not to use a path that does not carry; the
// zero Addr leaves it to the kernel. It costs next to nothing while all paths carry.
func (m *Manager) From(to netip.Addr) netip.Addr {
	d := m.detour.Load()
	if d == nil || !d.any {
		return netip.Addr{}
	}
	to = to.Unmap()
	from, ok := d.remembered(to, time.Now())
	if !ok {
		from = d.find(to)
		d.remember(to, from)
	}
	return from
}

func (d *detour) remembered(to netip.Addr, now time.Time) (from netip.Addr, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.at) > detourAge || len(d.known) >= mostDetour {
		d.known, d.at = map[netip.Addr]netip.Addr{}, now
	}
	from, ok = d.known[to]
	return from, ok
}

func (d *detour) remember(to, from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[to] = from
}

// Era is done once the answers of From may be others.
func (m *Manager) Era() context.Context {
	if d := m.detour.Load(); d != nil {
		return d.era
	}
	return context.Background()
}

// find asks for routes.
func (d *detour) find(to netip.Addr) netip.Addr {
	index, from, err := d.rt.route(ends{remote: to})
	if err != nil || !d.isDead(index, from) {
		return netip.Addr{}
	}
	for _, backup := range []bool{false, true} {
		for i := range d.paths {
			p := &d.paths[i]
			if p.dead || !p.dials || p.backup != backup {
				continue
			}
			for _, a := range p.addrs {
				if a.Is4() != to.Is4() {
					continue
				}
				if by, _, err := d.rt.route(ends{local: a, remote: to}); err == nil && by == p.index {
					return a
				}
			}
		}
	}
	return netip.Addr{}
}

// isDead says whether a route is by a path that does not carry: the one with the address, or the
// one with the device.
func (d *detour) isDead(index int, from netip.Addr) bool {
	i := slices.IndexFunc(d.paths, func(p detourPath) bool { return p.index == index && slices.Contains(p.addrs, from) })
	if i < 0 {
		i = slices.IndexFunc(d.paths, func(p detourPath) bool { return p.index == index })
	}
	return i >= 0 && d.paths[i].dead
}

// setDetour tells dials what has changed.
func (m *Manager) setDetour() {
	next := &detour{rt: m.rt, known: map[netip.Addr]netip.Addr{}}
	for _, p := range m.paths {
		if p.index == 0 || p.Announce {
			continue
		}
		one := detourPath{
			index: p.index, addrs: p.addrs, dead: p.state == Silent || p.state == Returning, dials: p.state == Up && p.Role != ForListeners, backup: p.Backup,
		}
		next.any = next.any || one.dead
		next.paths = append(next.paths, one)
	}
	last := m.detour.Load()
	if last != nil && slices.EqualFunc(last.paths, next.paths, func(a, b detourPath) bool { return a.equal(b) }) {
		return
	}
	next.era, next.end = context.WithCancel(context.Background())
	m.detour.Store(next)
	if last != nil {
		last.end()
	}
}

// endDetour leaves dials to the kernel.
func (m *Manager) endDetour() {
	if last := m.detour.Swap(nil); last != nil {
		last.end()
	}
}
