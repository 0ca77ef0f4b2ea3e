package paths

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A dial without a source address leaves by the path of its route, even if that path is silent. So
// while a path is silent or returning, such dials get the address of a working path, if the host
// has a route from that address by that path.

// sourceTable is the state of the paths for dials. It is replaced when that changes.
type sourceTable struct {
	rt         *rtnetlink
	valid      context.Context
	invalidate context.CancelFunc
	paths      []sourcePath
	any        bool // one of them does not carry

	mu    sync.Mutex // guards what follows
	cache map[netip.Addr]netip.Addr
	at    time.Time
}

// sourcePath is the state of one path.
type sourcePath struct {
	index  int
	addrs  []netip.Addr
	dead   bool // it is silent, or not back yet
	dials  bool // it is for dials
	backup bool
}

func (p *sourcePath) equal(q sourcePath) bool {
	return p.index == q.index && slices.Equal(p.addrs, q.addrs) && p.dead == q.dead && p.dials == q.dials && p.backup == q.backup
}

const (
	// sourceAge is how long routes are cached.
	sourceAge  = time.Second
	maxSources = 1024 // addresses that are remembered
)

// SelectSource returns the source address for a dial, so that it does not use a failed path; the
// zero Addr leaves the choice to the kernel. It is cheap while all paths work.
func (m *Manager) SelectSource(to netip.Addr) netip.Addr {
	d := m.sources.Load()
	if d == nil || !d.any {
		return netip.Addr{}
	}
	to = to.Unmap()
	from, ok := d.get(to, time.Now())
	if !ok {
		from = d.lookUp(to)
		d.put(to, from)
	}
	return from
}

func (d *sourceTable) get(to netip.Addr, now time.Time) (from netip.Addr, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.at) > sourceAge || len(d.cache) >= maxSources {
		d.cache, d.at = map[netip.Addr]netip.Addr{}, now
	}
	from, ok = d.cache[to]
	return from, ok
}

func (d *sourceTable) put(to, from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cache[to] = from
}

// Valid returns a context that is done once SelectSource may return other addresses.
func (m *Manager) Valid() context.Context {
	if d := m.sources.Load(); d != nil {
		return d.valid
	}
	return context.Background()
}

// lookUp reads the routes.
func (d *sourceTable) lookUp(to netip.Addr) netip.Addr {
	index, from, err := d.rt.route(addrPair{remote: to}, 0)
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
				if by, _, err := d.rt.route(addrPair{local: a, remote: to}, 0); err == nil && by == p.index {
					return a
				}
			}
		}
	}
	return netip.Addr{}
}

// isDead reports whether a route uses a failed path: the one with the address, or the one with the
// device.
func (d *sourceTable) isDead(index int, from netip.Addr) bool {
	i := slices.IndexFunc(d.paths, func(p sourcePath) bool { return p.index == index && slices.Contains(p.addrs, from) })
	if i < 0 {
		i = slices.IndexFunc(d.paths, func(p sourcePath) bool { return p.index == index })
	}
	return i >= 0 && d.paths[i].dead
}

// updateSources publishes the state of the paths for dials.
func (m *Manager) updateSources() {
	next := &sourceTable{rt: m.rt, cache: map[netip.Addr]netip.Addr{}}
	for _, p := range m.paths {
		if p.index == 0 || p.Announce {
			continue
		}
		one := sourcePath{
			index: p.index, addrs: p.addrs, dead: p.state == Silent || p.state == Returning, dials: p.state == Up && p.Role != ForListeners, backup: p.Backup,
		}
		next.any = next.any || one.dead
		next.paths = append(next.paths, one)
	}
	last := m.sources.Load()
	if last != nil && slices.EqualFunc(last.paths, next.paths, func(a, b sourcePath) bool { return a.equal(b) }) {
		return
	}
	next.valid, next.invalidate = context.WithCancel(context.Background())
	m.sources.Store(next)
	if last != nil {
		last.invalidate()
	}
}

// clearSources leaves the choice of addresses to the kernel.
func (m *Manager) clearSources() {
	if last := m.sources.Swap(nil); last != nil {
		last.invalidate()
	}
}
