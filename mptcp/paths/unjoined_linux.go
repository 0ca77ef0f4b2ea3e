package paths

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"mpgate/mptcp"
)

// A path may have its link and its address, and still carry nothing: the kernel finds no route for
// a subflow that starts at the address, or no server accepts the join. Nothing tells of that, so
// the connections are counted that have a subflow on the path, and those that could have one.

// unjoinedPasses is in how many passes of the accounting in a row all connections must have lacked
// a subflow.
const unjoinedPasses = 2

// retryUnjoined is how often joins are tried again where no cause is known.
const retryUnjoined = 5 * time.Minute

// countJoins counts the connection that m.info describes, on each path.
func (m *Manager) countJoins(c *Conn) {
	i := &m.info
	if len(i.Subflows) == 0 {
		return
	}
	remote := i.Subflows[0].Remote.Addr()
	// A new connection gets its further subflows after the first data.
	known := m.accounting.conns[i.Token] != nil
	settled := c.Side == Back && known && i.BytesReceived > 0 && !remote.IsLoopback()
	live := 0
	for k := range i.Subflows {
		if i.Subflows[k].Live() {
			live++
		}
	}
	for _, p := range m.paths {
		if !p.declared || p.state != Up || p.Announce {
			continue
		}
		if slices.ContainsFunc(i.Subflows, func(s mptcp.Subflow) bool {
			return s.State == mptcp.StateEstablished && slices.Contains(p.addrs, s.Local.Addr())
		}) {
			p.joins.using++
			continue
		}
		k := slices.IndexFunc(p.addrs, func(a netip.Addr) bool { return a.Is4() == remote.Is4() })
		if !settled || p.Role == ForListeners || k < 0 {
			continue
		}
		p.joins.lacking++
		p.joins.pair = addrPair{p.addrs[k], remote}
		if live > int(m.inKernel.Subflows) {
			p.joins.full++
		}
	}
}

// judgeJoins decides, at the end of a pass, which paths carry nothing.
func (m *Manager) judgeJoins(now time.Time) {
	for _, p := range m.paths {
		c := p.joins
		p.joins = joinCount{}
		switch {
		case m.o.Manage == ManageOff:
		case p.state != Up, c.using > 0:
			p.lackedPasses = 0
			m.setUnjoined(p, "", now)
		case c.lacking > 0:
			if p.lackedPasses++; p.lackedPasses >= unjoinedPasses {
				if p.unjoined == "" {
					p.routed, p.rejoinedAt = m.hasRoute(p, c.pair), now
				}
				p.unjoinedTo = c.pair
				m.setUnjoined(p, m.whyUnjoined(p, &c), now)
			}
		}
	}
}

// setUnjoined notes why no connection gets a subflow on the path; "": some do.
func (m *Manager) setUnjoined(p *path, why string, now time.Time) {
	before := p.unjoined
	if why == before {
		return
	}
	p.unjoined = why
	switch {
	case why == "":
		if p.state != Up {
			return
		}
		m.o.Logger.Info("path carries data again", "path", p.Name, "after", now.Sub(p.unjoinedSince).Round(time.Millisecond).String())
	case before == "":
		p.unjoinedSince = now
		fallthrough
	default:
		m.o.Logger.Warn("path carries no data", "path", p.Name, "why", why)
	}
	m.reportUp(p)
}

// whyUnjoined finds the reason.
func (m *Manager) whyUnjoined(p *path, c *joinCount) string {
	from, to := c.pair.local, c.pair.remote
	switch {
	case !slices.ContainsFunc(m.last.statuses, func(s EndpointStatus) bool {
		return s.Found && s.Addr == from && s.Flags&mptcp.FlagSubflow != 0
	}):
		return fmt.Sprintf("the kernel has no endpoint %s with the flag subflow; remedy: manage = \"sync\", or ip mptcp endpoint add %s dev %s subflow", from, from, p.device)
	case !m.hasRoute(p, c.pair):
		return fmt.Sprintf("there is no route from %s to %s by %s; remedy: a source route, which mpgate doctor describes", from, to, p.device)
	case c.full == c.lacking:
		return fmt.Sprintf("the connections have %d further subflows, as many as the limit allows; remedy: limits = { subflows = %d }", m.inKernel.Subflows, min(m.inKernel.Subflows+1, maxEndpoints))
	}
	return fmt.Sprintf("no join from %s to %s has succeeded: the server allows no further subflow, or the path does not reach it", from, to)
}

// hasRoute reports whether the kernel finds a route for a subflow of the path.
func (m *Manager) hasRoute(p *path, k addrPair) bool {
	index, _, err := m.rt.route(k, p.index)
	return err == nil && index == p.index
}

// repairJoins has joins tried again on paths that carry nothing, when the kernel finds a route that
// was missing, and otherwise from time to time.
func (m *Manager) repairJoins(now time.Time) {
	for _, p := range m.paths {
		if p.unjoined == "" || p.state != Up || !p.rejoin.at.IsZero() {
			continue
		}
		routed := m.hasRoute(p, p.unjoinedTo)
		if found := routed && !p.routed; found || routed && now.Sub(p.rejoinedAt) >= retryUnjoined {
			if found {
				m.o.Logger.Info("a missing route of a path has appeared; joins are tried again", "path", p.Name)
			}
			clear(m.egresses)
			p.rejoinedAt = now
			p.rejoin.begin(now)
			p.rejoin.at, p.rejoin.repaired = now, true
		}
		p.routed = routed
	}
}
