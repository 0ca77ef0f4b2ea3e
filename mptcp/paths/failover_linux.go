package paths

import (
	"net/netip"
	"slices"
	"time"

	"mpgate/mptcp"
)

// flowAddrs are the two ends of a subflow.
type flowAddrs struct{ local, remote netip.AddrPort }

// at says which subflows are meant: those whose local address is one of addrs and,
// with p, those that leave by that path or by none.
type at struct {
	addrs []netip.Addr
	p     *path
}

func (m *Manager) isAt(a *at, s *mptcp.Subflow) bool {
	if slices.Contains(a.addrs, s.Local.Addr()) {
		return true
	}
	if a.p == nil {
		return false
	}
	l := m.locate(s)
	return l.path == a.p || l.dead && a.p.state == Down
}

// survey lists the subflows of our connections that are meant and have a sibling
// which can carry. spared counts connections with none.
func (m *Manager) survey(a *at) (found []flowAddrs, spared int, server flowAddrs) {
	for c := range m.o.Source {
		if m.info.Read(c.Raw) != nil {
			continue // TCP, or closed
		}
		on, others := m.split(a)
		switch {
		case on == 0:
		case others == 0:
			spared++
		default:
			for i := range m.info.Subflows {
				if s := &m.info.Subflows[i]; s.Live() && m.isAt(a, s) {
					found = append(found, flowAddrs{s.Local, s.Remote})
					if c.Side == Back {
						server = flowAddrs{s.Local, s.Remote}
					}
				}
			}
		}
	}
	return found, spared, server
}

// split counts the live subflows of m.info that are meant, and the others that can carry.
func (m *Manager) split(a *at) (on, others int) {
	for i := range m.info.Subflows {
		s := &m.info.Subflows[i]
		switch {
		case !s.Live():
		case m.isAt(a, s):
			on++
		case s.State == mptcp.StateEstablished && !m.locate(s).dead:
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
	for k, r := range m.owned {
		if slices.Contains(addrs, k.addr) && r.path == p.Name {
			p.again[k] = true
		}
	}
	if m.o.Failover == FailoverOff {
		m.o.Logger.Warn("path is down", "path", p.Name, "why", why)
		return
	}
	clear(m.places)
	meant := at{addrs: addrs}
	if p.state != Up {
		meant.p = p
	}
	if p.state == Silent {
		meant.addrs = nil // some may leave by another path
	}
	found, spared, server := m.survey(&meant)
	ended := 0
	if spared == 0 && p.state != Silent && m.o.Manage == ManageSync {
		// An announced address is taken back by RM_ADDR also when its subflows have ended, one
		// that is not only together with them.
		first, last := m.announced(found)
		ended = m.destroy(first, p)
		m.withdraw(addrs)
		m.destroy(last, p) // as a rule they are gone
		ended += len(last)
	} else {
		ended = m.destroy(found, p)
	}
	c := Cut{Path: p.Name, Why: why, Subflows: ended, Spared: spared, Stalled: stalled, Took: time.Since(begin)}
	p.totals.Cuts++
	p.totals.Stalled = stalled
	p.probe.close()
	p.probe = probe{local: server.local.Addr(), remote: server.remote, cutAt: begin}
	m.o.Logger.Warn("path is down", "path", p.Name, "why", why, "subflows_ended", c.Subflows, "spared", c.Spared,
		"stalled", stalled.Round(time.Millisecond), "took", c.Took.Round(time.Microsecond))
	if m.o.Hooks.Cut != nil {
		m.o.Hooks.Cut(c)
	}
}

// withdraw deletes our endpoints of those addresses.
func (m *Manager) withdraw(addrs []netip.Addr) {
	have, err := m.pm.Endpoints()
	m.fault("read endpoints", err)
	for k, r := range m.owned {
		if !slices.Contains(addrs, k.addr) || !slices.Contains(have, r.stored) {
			continue // or another program's by now, under the same ID
		}
		if r.was != nil {
			continue // adopted: sync gives it back
		}
		err := m.pm.DelEndpoint(r.stored.ID, k.addr)
		m.fault("delete endpoint "+k.String(), err)
		if err == nil {
			delete(m.owned, k)
			if p := m.byAddr[k.addr]; p != nil {
				delete(p.again, k)
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
	m.fault("end subflows", err)
	return ended
}
