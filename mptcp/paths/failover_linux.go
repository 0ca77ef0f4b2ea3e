package paths

import (
	"net/netip"
	"slices"
	"time"

	"mpgate/mptcp"
)

// flowAddrs are the two ends of a subflow.
type flowAddrs struct{ local, remote netip.AddrPort }

func (m *Manager) isSelected(a *selection, s *mptcp.Subflow) bool {
	if slices.Contains(a.addrs, s.Local.Addr()) {
		return true
	}
	if a.p == nil {
		return false
	}
	l := m.egressOf(s)
	return l.path == a.p || l.dead && a.p.state == Down
}

// survey is what was found on a path that failed.
type survey struct {
	found  []flowAddrs // with a sibling that can carry
	tokens []uint32    // of their connections
	spared int         // connections with none
	server flowAddrs   // one of those found, to a server
}

// survey examines all our connections.
func (m *Manager) survey(a *selection) (v survey) {
	for c := range m.o.Source {
		if m.info.Read(c.Raw) != nil {
			continue // TCP, or closed
		}
		on, others := m.countAt(a)
		switch {
		case on == 0:
			continue
		case others == 0:
			v.spared++
			continue
		}
		if len(v.tokens) < maxMissed {
			v.tokens = append(v.tokens, m.info.Token)
		}
		for i := range m.info.Subflows {
			s := &m.info.Subflows[i]
			if !s.Live() || !m.isSelected(a, s) {
				continue
			}
			v.found = append(v.found, flowAddrs{s.Local, s.Remote})
			if c.Side == Back {
				v.server = flowAddrs{s.Local, s.Remote}
			}
		}
	}
	return v
}

// countAt counts the live subflows of m.info that are selected, and the others that can carry data.
func (m *Manager) countAt(a *selection) (on, others int) {
	for i := range m.info.Subflows {
		s := &m.info.Subflows[i]
		switch {
		case !s.Live():
		case m.isSelected(a, s):
			on++
		case s.State == mptcp.StateEstablished && !m.egressOf(s).dead:
			others++
		}
	}
	return on, others
}

// cut ends the subflows at addresses of a path that went down or silent.
//
// Where the link is down and the endpoint is ours, that is deleted too: then the
// kernel sends RM_ADDR on the others, so that the peer ends its half and sends
// again what was lost. A silent path is a guess: other
// programs' connections are left out of it, and our subflows ended one by one.
func (m *Manager) cut(p *path, addrs []netip.Addr, why string, stalled time.Duration) {
	begin := time.Now()
	m.markForRenewal(p, addrs)
	if m.o.Failover == FailoverOff {
		m.o.Logger.Warn("path is down", "path", p.Name, "why", why)
		return
	}
	clear(m.egresses)
	// Subflows of an address that this host has lost are dead. Those of an address that it still
	// has may use another path: they are kept.
	meant := selection{addrs: without(addrs, p.addrs)}
	if p.state != Up {
		meant.p = p
	}
	v := m.survey(&meant)
	p.rejoin.end()
	slices.Sort(v.tokens)
	p.rejoin.missed = v.tokens
	ended := m.endSubflows(p, addrs, &v)
	c := Cut{Path: p.Name, Why: why, Subflows: ended, Spared: v.spared, Stalled: stalled, Took: time.Since(begin)}
	p.totals.Cuts++
	p.totals.Stalled = stalled
	p.probe.close()
	p.probe = probe{local: v.server.local.Addr(), remote: v.server.remote, cutAt: begin}
	m.o.Logger.Warn("path is down", "path", p.Name, "why", why, "subflows_ended", c.Subflows, "spared", c.Spared,
		"stalled", stalled.Round(time.Millisecond).String(), "took", c.Took.Round(time.Microsecond).String())
	if m.o.Hooks.Cut != nil {
		m.o.Hooks.Cut(c)
	}
}

// loseAddresses ends the subflows at addresses that a path has lost while it keeps others.
func (m *Manager) loseAddresses(p *path, addrs []netip.Addr) {
	m.markForRenewal(p, addrs)
	if m.o.Failover == FailoverOff {
		return
	}
	clear(m.egresses)
	v := m.survey(&selection{addrs: addrs})
	ended := m.endSubflows(p, addrs, &v)
	m.o.Logger.Info("path has lost an address", "path", p.Name, "addresses", addrs, "subflows_ended", ended, "spared", v.spared)
}

// markForRenewal marks our endpoints of those addresses as to be made again.
func (m *Manager) markForRenewal(p *path, addrs []netip.Addr) {
	for k, r := range m.owned {
		if slices.Contains(addrs, k.addr) && r.path == p.Name {
			p.renewals[k] = true
		}
	}
}

// markAllForRenewal marks all our endpoints of a path as to be made again.
func (m *Manager) markAllForRenewal(p *path) {
	for k, r := range m.owned {
		if r.path == p.Name {
			p.renewals[k] = true
		}
	}
}

// endSubflows ends the subflows that were found, and withdraws the addresses if that is safe.
func (m *Manager) endSubflows(p *path, addrs []netip.Addr, v *survey) int {
	if v.spared > 0 || p.state == Silent || m.o.Manage != ManageSync || m.connectionsAtRisk(m.isAnnounced(addrs), addrs...) > 0 {
		return m.destroy(v.found, p)
	}
	// An announced address is taken back by RM_ADDR also when its subflows have ended, one
	// that is not only together with them.
	first, last := m.announced(v.found)
	ended := m.destroy(first, p)
	m.withdraw(addrs)
	m.destroy(last, p) // as a rule they are gone
	return ended + len(last)
}

// isAnnounced says whether one of our endpoints announces one of those addresses.
func (m *Manager) isAnnounced(addrs []netip.Addr) bool {
	for k, r := range m.owned {
		if slices.Contains(addrs, k.addr) && r.stored.Flags&mptcp.FlagSignal != 0 {
			return true
		}
	}
	return false
}

// withdraw deletes our endpoints of those addresses.
func (m *Manager) withdraw(addrs []netip.Addr) {
	have, err := m.pm.Endpoints()
	m.noteError("read endpoints", err)
	for k, r := range m.owned {
		if !slices.Contains(addrs, k.addr) || !slices.Contains(have, r.stored) {
			continue // or another program's by now, under the same ID
		}
		if r.previous != nil {
			continue // adopted: sync gives it back
		}
		err := m.pm.DelEndpoint(r.stored.ID, k.addr)
		m.noteError("delete endpoint "+k.String(), err)
		if err == nil {
			delete(m.owned, k)
			if p := m.byAddr[k.addr]; p != nil {
				delete(p.renewals, k)
			}
		}
	}
}

// announced splits subflows into those that are to be ended before their endpoint is
// deleted, and those whose endpoint has to find them alive.
func (m *Manager) announced(found []flowAddrs) (first, last []flowAddrs) {
	for _, f := range found {
		r, ours := m.owned[key{addr: f.local.Addr()}]
		if ours && r.stored.Flags&mptcp.FlagSignal == 0 {
			last = append(last, f)
		} else {
			first = append(first, f)
		}
	}
	return first, last
}

// destroy ends subflows, all at once, and counts those that were there. One that is
// bound to a device is found only with it.
func (m *Manager) destroy(flows []flowAddrs, p *path) int {
	targets := make([]mptcp.Target, 0, 2*len(flows))
	for _, f := range flows {
		targets = append(targets, mptcp.Target{Local: f.local, Remote: f.remote})
		if p.index != 0 {
			targets = append(targets, mptcp.Target{Local: f.local, Remote: f.remote, Interface: p.index})
		}
	}
	ended, err := m.diag.DestroyAll(targets)
	m.noteError("end subflows", err)
	return ended
}
