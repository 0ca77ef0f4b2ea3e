package paths

import (
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// look reads the host, updates the state of each path, and synchronizes endpoints.
func (m *Manager) look(now time.Time) {
	h, err := m.rt.host()
	m.noteError("read links and addresses", err)
	m.noteError("hear of links and addresses", m.rt.listenError(now))
	if err == nil {
		if !reflect.DeepEqual(h, m.found) || now.Sub(m.egressesAt) > time.Minute {
			clear(m.egresses)
			m.found, m.egressesAt = h, now
		}
		m.merge(resolve(m.o.Paths, h, m.o.Failover != FailoverOff), now)
	}
	m.sync()
	m.repairJoins(now)
	m.followRoutes()
	m.publish()
}

// merge updates the paths to the current state of the host.
func (m *Manager) merge(found []resolved, now time.Time) {
	var before []*path
	before, m.paths = m.paths, nil
	m.byAddr = map[netip.Addr]*path{}
	type loss struct {
		p     *path
		addrs []netip.Addr
		whole bool // the path went down
	}
	var lost []loss
	for _, r := range found {
		i := slices.IndexFunc(before, func(p *path) bool { return p.Name == r.Name })
		var p *path
		if i >= 0 {
			p = before[i]
			before = slices.Delete(before, i, i+1)
		} else {
			p = &path{state: Up, since: now, renewals: map[key]bool{}}
		}
		old := p.resolved
		p.resolved = r
		m.paths = append(m.paths, p)
		for _, a := range r.addrs {
			m.byAddr[a] = p
		}
		gone := without(old.addrs, r.addrs)
		if i >= 0 && len(without(r.addrs, old.addrs)) > 0 {
			p.settlingSince = now
		}
		switch {
		case !r.up() && i < 0:
			p.state, p.downAt, p.downAtStart = Down, now, true
			if r.declared {
				m.o.Logger.Warn("path is down", "path", r.Name, "why", r.why)
			}
			m.markAllForRenewal(p)
		case !r.up() && p.state != Down:
			p.fail(Down, r.why, now)
			lost = append(lost, loss{p, slices.Concat(r.addrs, gone), true})
		case r.up() && p.state == Down:
			p.back(now)
			p.settlingSince = now
			fallthrough
		case len(gone) > 0:
			lost = append(lost, loss{p, gone, false})
		}
		if !r.up() {
			p.reason = r.why
		}
		if i < 0 || p.state == Down && old.why == "" {
			m.reportUp(p)
		}
		m.clearContested(p, &old)
	}
	for _, p := range before {
		p.probe.close()
		if m.o.Hooks.Gone != nil {
			m.o.Hooks.Gone(p.Name)
		}
	}
	// The states of all paths are up to date here, so no path that is down counts as a sibling.
	for _, l := range lost {
		switch {
		case len(l.addrs) == 0:
		case l.whole:
			m.cut(l.p, l.addrs, l.p.reason, 0)
		default:
			m.loseAddresses(l.p, l.addrs)
		}
	}
}

// clearContested forgets endpoints of the path that another program changed, after the host has
// changed: a network manager may remove an address when its link goes down.
func (m *Manager) clearContested(p *path, old *resolved) {
	if old.why == p.why && slices.Equal(old.addrs, p.addrs) && old.index == p.index {
		return
	}
	for k, r := range m.owned {
		if r.path == p.Name && m.contested[k] != "" {
			delete(m.contested, k)
			delete(m.owned, k)
		}
	}
}

func (m *Manager) reportUp(p *path) {
	if m.o.Hooks.Up != nil {
		m.o.Hooks.Up(p.Name, p.state == Up && p.unjoined == "")
	}
}
