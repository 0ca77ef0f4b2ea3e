package paths

import (
	"slices"
	"time"

	"mpgate/mptcp"
)

// A path that is back:
//
//	its link is up      Returning: held if it flaps, and until its routes have settled
//	restore            Up: its endpoints are made again, and the kernel joins there
//	rejoin              if the join failed: once more, while no connection has a subflow there

// readyAt returns when a path that is back may be used.
func (m *Manager) readyAt(p *path) time.Time {
	if at := m.settlesAt(p); at.After(p.holdUntil) {
		return at
	}
	return p.holdUntil
}

// settlesAt returns when the routes of a path are considered complete; the zero time if they are.
func (m *Manager) settlesAt(p *path) time.Time {
	if p.settlingSince.IsZero() {
		return time.Time{}
	}
	at, most := m.rt.lastNotice(p.index).Add(settleTime), p.settlingSince.Add(maxSettleTime)
	if at.After(most) {
		return most
	}
	return at
}

// settling reports whether a path's endpoints must wait for routes, and schedules the next sync.
func (m *Manager) settling(p *path) bool {
	if p == nil || p.settlingSince.IsZero() {
		return false
	}
	at := m.settlesAt(p)
	if !time.Now().Before(at) {
		return false
	}
	m.syncAt(at)
	return true
}

// ended notes that a path has come to rest.
func (m *Manager) settled(p *path) {
	p.settlingSince = time.Time{}
	clear(m.egresses) // they may come from incomplete routes
	m.followRoutes()
}

// followRoutes subscribes to route notifications while a path is coming back.
func (m *Manager) followRoutes() {
	m.noteError("hear of routes", m.rt.followRoutes(slices.ContainsFunc(m.paths, func(p *path) bool {
		return p.state == Down || p.state == Returning || !p.settlingSince.IsZero()
	})))
}

// restore puts a path into use again.
func (m *Manager) restore(p *path, now time.Time) {
	r := Return{Path: p.Name, After: now.Sub(p.downAt), Hold: p.hold()}
	p.state, p.reason, p.since, p.unjoined = Up, "", now, ""
	first := p.downAtStart
	p.downAtStart = false
	if !first {
		p.returnedAt = now
		p.totals.Returns++
	}
	p.rejoin.begin(now)
	m.o.Logger.Info("path is back", "path", p.Name, "after", r.After.Round(time.Millisecond).String(), "held", r.Hold.String())
	m.reportUp(p)
	if m.o.Hooks.Return != nil && !first {
		m.o.Hooks.Return(r)
	}
	m.sync()
	m.followRoutes()
	m.publish()
}

// rejoin makes the kernel repeat joins that were lost. The kernel makes one attempt for each
// endpoint and connection. For another attempt the endpoint must be removed and added, which ends
// its subflows, so this is done only while none of our connections has one. If some have, or the
// endpoint cannot be renewed, connections to servers are replaced: a new connection gets the
// subflow.
func (m *Manager) rejoin(p *path, now time.Time) {
	r := &p.rejoin
	if p.state != Up || m.o.Failover == FailoverOff && m.o.Manage != ManageSync {
		r.end()
		return
	}
	j := m.joined(p)
	renewable := m.o.Manage == ManageSync && m.ownsEndpointOf(p)
	switch {
	case j.lacking == 0 && len(j.lost)+len(j.never) == 0:
		r.end()
		return
	case j.using > 0 || !renewable:
		m.retire(p, &j)
	default:
		m.o.Logger.Info("no connection has a subflow on a path that came back; trying again", "path", p.Name, "connections", j.lacking)
		m.markAllForRenewal(p)
		m.sync()
	}
	if r.left--; r.left == 0 {
		if j.lacking > 0 {
			m.o.Logger.Info("some connections have no subflow on a path that came back", "path", p.Name, "connections", j.lacking, "others_have", j.using)
		}
		r.end()
		return
	}
	r.wait *= 2
	r.at = now.Add(r.wait)
}

// ownsEndpointOf reports whether a path has an endpoint of ours.
func (m *Manager) ownsEndpointOf(p *path) bool {
	for _, r := range m.owned {
		if r.path == p.Name {
			return true
		}
	}
	return false
}

// retire makes connections to servers end once they are idle: those that lost their subflow on the
// path and, once for each return, those that never had one while others have. Some servers may
// never be reachable by the path.
func (m *Manager) retire(p *path, j *joins) {
	n := 0
	for _, o := range j.lost {
		o.Retire()
		n++
	}
	if (j.backs || p.rejoin.repaired) && !p.rejoin.replaced {
		p.rejoin.replaced = true
		for _, o := range j.never {
			o.Retire()
			n++
		}
	}
	if n > 0 && !p.rejoin.logged {
		p.rejoin.logged = true
		m.o.Logger.Info("replacing connections to servers that have no subflow on a path that came back", "path", p.Name, "connections", n)
	}
}

// joins counts the connections with and without a subflow on a path that is back.
type joins struct {
	using, lacking int  // connections that have one, and that could
	backs          bool // one to a server has
	// Owners of connections to servers: lost had a subflow when the path was cut, never had none.
	lost, never []interface{ Retire() }
}

// joined counts which of our connections have an established subflow at a path's addresses, and
// which could have one.
func (m *Manager) joined(p *path) (j joins) {
	var flags mptcp.EndpointFlags
	for _, r := range m.owned {
		if r.path == p.Name {
			flags |= r.stored.Flags
		}
	}
	for c := range m.o.Source {
		if m.info.Read(c.Raw) != nil {
			continue
		}
		_, missed := slices.BinarySearch(p.rejoin.missed, m.info.Token)
		switch {
		case slices.ContainsFunc(m.info.Subflows, func(s mptcp.Subflow) bool {
			return s.State == mptcp.StateEstablished && slices.Contains(p.addrs, s.Local.Addr())
		}):
			j.using++
			j.backs = j.backs || c.Side == Back
		case c.Side == Front:
			if flags&mptcp.FlagSignal != 0 && missed {
				j.lacking++
			}
		default:
			if flags&mptcp.FlagSubflow != 0 {
				j.lacking++
			}
			switch {
			case c.Owner == nil || len(j.lost)+len(j.never) >= maxMissed:
			case missed:
				j.lost = append(j.lost, c.Owner)
			default:
				j.never = append(j.never, c.Owner)
			}
		}
	}
	return j
}
