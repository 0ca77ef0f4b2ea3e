package paths

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// sync compares the namespace with the configuration and, with ManageSync, changes it.
func (m *Manager) sync() {
	m.retryAt = time.Time{}
	m.revertUnmanaged()
	if m.o.Manage == ManageOff {
		m.last, m.notes, m.inKernel = plan{}, nil, mptcp.Limits{}
		return
	}
	wanted, notes := m.wanted()
	m.rename(wanted)
	have, err := m.pm.Endpoints()
	m.noteError("read endpoints", err)
	if err != nil {
		return
	}
	adopt := m.o.Adopt && m.o.Manage == ManageSync
	p := makePlan(wanted, have, m.owned, m.contested, adopt)
	if m.o.Manage == ManageSync && m.apply(&p, have) {
		if have, err = m.pm.Endpoints(); err == nil { // read back
			p = makePlan(wanted, have, m.owned, m.contested, adopt)
		}
	}
	m.last = p
	m.syncLimits()
	m.recordOwned()
	m.setNotes(append(notes, m.differences()...))
	if m.isPostponed() && m.o.Manage == ManageSync {
		m.retryIn = min(max(2*m.retryIn, firstRetry), lastRetry)
		m.syncAt(time.Now().Add(m.retryIn))
	} else {
		m.retryIn = 0
	}
}

// syncAt schedules the next sync for that time at the latest.
func (m *Manager) syncAt(t time.Time) {
	if m.retryAt.IsZero() || t.Before(m.retryAt) {
		m.retryAt = t
	}
}

// rename updates the path names of endpoints after a path was renamed.
func (m *Manager) rename(wanted []want) {
	for _, w := range wanted {
		if r, ours := m.owned[keyOf(w.Endpoint)]; ours {
			r.path = w.path
			m.owned[keyOf(w.Endpoint)] = r
		}
	}
}

// isPostponed reports whether a path waits until connections have another subflow.
func (m *Manager) isPostponed() bool {
	return slices.ContainsFunc(m.paths, func(p *path) bool { return p.waiting > 0 })
}

// wanted returns the endpoints that the paths need now. Without fail-over, those of a path whose
// link is down stay.
func (m *Manager) wanted() (wanted []want, notes []string) {
	for _, p := range m.paths {
		if !p.declared || (p.state == Down || p.state == Returning) && m.o.Failover != FailoverOff {
			continue
		}
		for _, e := range p.endpoints(m.o.Fullmesh) {
			i := slices.IndexFunc(wanted, func(w want) bool { return keyOf(w.Endpoint) == keyOf(e) })
			if i >= 0 {
				if wanted[i].Endpoint != e {
					notes = append(notes, fmt.Sprintf("paths %q and %q want address %s in two ways: the first counts", wanted[i].path, p.Name, e.Addr))
				}
				continue
			}
			wanted = append(wanted, want{e, p.Name})
		}
	}
	if n := len(wanted); n > maxEndpoints {
		notes = append(notes, fmt.Sprintf("the paths have %d addresses, and the kernel takes %d: name those that count by address; %s and what follows is left out",
			n, maxEndpoints, wanted[maxEndpoints].Addr))
		wanted = wanted[:maxEndpoints]
	}
	return wanted, notes
}

// apply makes the changes that are safe now, and reports whether it changed anything.
func (m *Manager) apply(p *plan, have []mptcp.Endpoint) (did bool) {
	for k, why := range p.fresh {
		m.contested[k] = why
		m.o.Logger.Warn("MPTCP endpoint: "+why+"; it is not changed until the configuration or the host changes", "endpoint", k.String())
		did = true
	}
	for _, k := range p.foreign {
		delete(m.owned, k)
		delete(m.contested, k)
	}
	for _, q := range m.paths {
		q.waiting = 0
	}
	for _, c := range p.changes {
		did = m.change(&c) || did
	}
	for _, e := range have {
		did = m.renew(e) || did
	}
	return did
}

// change makes one change; it returns false if the change must wait or failed.
func (m *Manager) change(c *change) bool {
	if c.add != nil && c.set == nil && m.settling(m.pathOf(c.add.Endpoint)) {
		return false
	}
	if c.del != nil && !m.remove(*c.del) {
		return false
	}
	if c.del != nil && c.add == nil && c.previous != nil {
		_, err := m.pm.AddEndpoint(*c.previous)
		m.noteError("give back endpoint "+keyOf(*c.previous).String(), err)
		return true
	}
	if c.add == nil {
		return true
	}
	if c.adopt {
		m.o.Logger.Info("MPTCP endpoint adopted", "endpoint", keyOf(*c.previous).String(), "flags", c.previous.Flags.String(), "path", c.add.path)
	}
	return m.add(*c.add, c.set, c.previous)
}

// remove deletes an endpoint, unless that would end the only subflow of one of our connections, or
// one that carries.
func (m *Manager) remove(e mptcp.Endpoint) bool {
	if n := m.connectionsAtRisk(e.Flags&mptcp.FlagSignal != 0, e.Addr); n > 0 {
		if p := m.pathOf(e); p != nil {
			p.waiting = n
		}
		return false
	}
	err := m.pm.DelEndpoint(e.ID, e.Addr)
	m.noteError("delete endpoint "+keyOf(e).String(), err)
	if err != nil {
		return false
	}
	if p := m.pathOf(e); p != nil {
		delete(p.renewals, keyOf(e))
	}
	delete(m.owned, keyOf(e))
	return true
}

func (m *Manager) add(w want, set, was *mptcp.Endpoint) bool {
	var stored mptcp.Endpoint
	var err error
	if set != nil {
		m.recordIntent(w, *set, was)
		stored, err = m.pm.SetFlags(*set)
	} else {
		e := w.Endpoint
		e.ID = m.freshID()
		m.recordIntent(w, e, was)
		stored, err = m.pm.AddEndpoint(e)
	}
	m.noteError("write endpoint "+keyOf(w.Endpoint).String(), err)
	if err != nil {
		return false
	}
	defer m.recordOwned()
	if refused := w.Flags &^ stored.Flags; refused != 0 {
		m.o.Logger.Warn("this kernel ignores flags of an MPTCP endpoint", "endpoint", keyOf(stored).String(), "flags", refused.String())
	}
	m.owned[keyOf(stored)] = ownedEndpoint{requested: w.Endpoint, stored: stored, previous: was, path: w.path}
	return true
}

// freshID returns an ID that was not in use for long. The kernel would reuse the last one: then a
// late RM_ADDR, on a path with a queue, ends the new subflow instead of the old one.
func (m *Manager) freshID() uint8 {
	have, err := m.pm.Endpoints()
	if err != nil {
		return 0 // the kernel chooses
	}
	for range math.MaxUint8 {
		m.lastID = m.lastID%math.MaxUint8 + 1
		if !slices.ContainsFunc(have, func(e mptcp.Endpoint) bool { return e.ID == m.lastID }) {
			return m.lastID
		}
	}
	return 0
}

// pathOf is the path that an endpoint was made for, also if it has lost the address since.
func (m *Manager) pathOf(e mptcp.Endpoint) *path {
	if p := m.byAddr[e.Addr]; p != nil {
		return p
	}
	r, ok := m.owned[keyOf(e)]
	if !ok {
		return nil
	}
	i := slices.IndexFunc(m.paths, func(p *path) bool { return p.Name == r.path })
	if i < 0 {
		return nil
	}
	return m.paths[i]
}

// renew removes an endpoint and adds it again, where a path is back and its
// subflows are to come back too.
func (m *Manager) renew(e mptcp.Endpoint) bool {
	p := m.pathOf(e)
	r, ours := m.owned[keyOf(e)]
	if p == nil || p.state != Up || !p.renewals[keyOf(e)] {
		return false
	}
	if !ours || r.stored != e {
		delete(p.renewals, keyOf(e))
		return false
	}
	if m.settling(p) || !m.remove(e) {
		return false
	}
	return m.add(want{r.requested, r.path}, nil, r.previous)
}

func (m *Manager) syncLimits() {
	have, err := m.pm.Limits()
	m.noteError("read limits", err)
	if err != nil {
		return
	}
	m.inKernel = have
	want, l := m.o.Limits, &m.limits
	if want == nil || m.o.Manage != ManageSync || have == *want || l.contested {
		return
	}
	if l.set && have != l.current {
		l.contested = true
		m.o.Logger.Warn("another program changed the MPTCP limits; mpgate does not change them until the configuration changes",
			"subflows", have.Subflows, "add_addr_accepted", have.AddrAccepted)
		return
	}
	was := have
	if l.set {
		was = l.previous
	}
	m.recordLimits(was, *want)
	got, err := m.pm.SetLimits(*want)
	m.noteError("set limits", err)
	if err != nil {
		return
	}
	l.set, l.previous, l.current, m.inKernel = true, was, got, got
	m.recordOwned()
}

// differences describes what does not match the configuration.
func (m *Manager) differences() []string {
	var notes []string
	for _, s := range m.last.statuses {
		if s.Difference != "" {
			notes = append(notes, fmt.Sprintf("endpoint %s %s", keyOf(s.Endpoint), s.Difference))
		}
	}
	if l := m.o.Limits; l != nil && *l != m.inKernel {
		who := ""
		if m.limits.contested {
			who = ": another program changed them"
		}
		notes = append(notes, fmt.Sprintf("limits are %d subflows and %d addresses accepted, %d and %d would be right%s",
			m.inKernel.Subflows, m.inKernel.AddrAccepted, l.Subflows, l.AddrAccepted, who))
	}
	for _, p := range m.paths {
		switch {
		case p.waiting > 0 && m.predecessorBusy():
			notes = append(notes, fmt.Sprintf("path %q: its address is not withdrawn or renewed yet: the process that this one has replaced still has connections", p.Name))
		case p.waiting > 0:
			notes = append(notes, fmt.Sprintf("path %q: its address is not withdrawn or renewed yet, for the sake of %d connections that have no other subflow, use one there, or send to us", p.Name, p.waiting))
		}
	}
	return notes
}

// setNotes stores the notes and logs the new ones.
func (m *Manager) setNotes(notes []string) {
	for _, n := range notes {
		if !slices.Contains(m.notes, n) {
			m.o.Logger.Warn("MPTCP paths: " + n)
		}
	}
	m.notes = notes
}

// invalidate takes back what was made.
func (m *Manager) end() {
	m.unfollow()
	defer m.clearSources()
	for _, p := range m.paths {
		p.probe.close()
	}
	if !m.o.Keep && m.ownsAnything() {
		m.revert()
	}
	m.recordOwned()
	m.publish()
}

// revert restores the namespace to its earlier state, except what another program has changed
// since.
func (m *Manager) revert() {
	have, err := m.pm.Endpoints()
	m.noteError("read endpoints", err)
	left := map[key]ownedEndpoint{}
	for k, r := range m.owned {
		if !slices.Contains(have, r.stored) {
			continue
		}
		err := m.pm.DelEndpoint(r.stored.ID, k.addr)
		if err == nil && r.previous != nil {
			_, err = m.pm.AddEndpoint(*r.previous)
		}
		if errors.Is(err, unix.EINVAL) {
			err = nil // gone meanwhile
		}
		m.noteError("take back endpoint "+k.String(), err)
		if err != nil {
			left[k] = r // for the next attempt, or the next process
		}
	}
	m.owned = left
	if l := &m.limits; l.set {
		if now, err := m.pm.Limits(); err == nil && now == l.current {
			_, err = m.pm.SetLimits(l.previous)
			m.noteError("restore limits", err)
		}
		*l = ownedLimits{}
	}
	m.recordOwned()
}
