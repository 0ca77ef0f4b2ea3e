package paths

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

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
// Where the link is down and the endpoint is ours, that is deleted: then the
// kernel ends the subflows, sends RM_ADDR on the others, so that the peer ends its half and
// sends again what was lost, and all in one call. A silent path is a guess: other
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
	withdraw := spared == 0 && p.state != Silent && m.o.Manage == ManageSync
	// First what no deletion ends: that returns only some milliseconds after it has taken
	// effect (RCU).
	for _, f := range found {
		if !withdraw || !slices.Contains(addrs, f.local.Addr()) {
			m.destroy(f, p)
		}
	}
	if withdraw {
		m.withdraw(addrs)
		for _, f := range found {
			if slices.Contains(addrs, f.local.Addr()) {
				m.destroy(f, p) // as a rule it is gone
			}
		}
	}
	c := Cut{Path: p.Name, Why: why, Subflows: len(found), Spared: spared, Stalled: stalled, Took: time.Since(begin)}
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

// destroy ends one subflow. One that is bound to a device is found only with it.
func (m *Manager) destroy(f flowAddrs, p *path) {
	err := m.diag.Destroy(f.local, f.remote, 0)
	if errors.Is(err, unix.ENOENT) && p.index != 0 {
		err = m.diag.Destroy(f.local, f.remote, p.index)
	}
	if errors.Is(err, unix.ENOENT) {
		err = nil // it has ended
	}
	m.fault("end subflows", err)
}
