package paths

import (
	"context"
	"errors"
	"time"
)

// predecessorInterval is how often the predecessor is asked whether it has connections left.
const predecessorInterval = 250 * time.Millisecond

// HandOver transfers what this manager made to another one (Options.Handover). It changes nothing
// in the kernel. Afterwards this manager leaves endpoints and limits alone, but still ends subflows
// of failed paths. Update makes it manage endpoints again.
func (m *Manager) HandOver(ctx context.Context) (*Handover, error) {
	m.mu.Lock()
	running := m.running
	m.mu.Unlock()
	if !running {
		return new(Handover), nil
	}
	given := make(chan *Handover, 1)
	select {
	case m.calls <- func() { given <- m.handOver() }:
		return <-given, nil
	case <-m.ended:
		return nil, errors.New("hand over paths: the manager has ended")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *Manager) handOver() *Handover {
	m.takeOptions() // apply pending options first
	e := m.owns()
	m.journal.handedOver = true
	clear(m.owned)
	clear(m.contested)
	m.limits = ownedLimits{}
	for _, p := range m.paths {
		p.waiting = 0
		clear(p.renewals)
	}
	m.o.Manage = ManageOff
	m.sync()
	m.publish()
	return e
}

// takeHandover takes over what another manager made.
func (m *Manager) takeHandover() {
	e := m.o.Handover
	m.o.Handover = nil
	if e.Empty() {
		return
	}
	m.lastID = e.LastID
	for _, h := range e.Endpoints {
		m.owned[keyOf(h.Stored)] = ownedEndpoint{requested: h.Requested, stored: h.Stored, previous: h.Previous, path: h.Path}
	}
	if l := e.Limits; l != nil {
		m.limits = ownedLimits{set: true, previous: l.Previous, current: l.Set}
	}
}

// predecessorBusy reports whether the previous manager still has connections. Their subflows are
// not known here, so no endpoint may be removed.
func (m *Manager) predecessorBusy() bool { return m.o.Predecessor != nil && m.o.Predecessor() }

// ownsAnything reports whether there is anything to revert.
func (m *Manager) ownsAnything() bool { return len(m.owned) > 0 || m.limits.set }

// revertUnmanaged reverts what was made, if nothing is managed any more.
func (m *Manager) revertUnmanaged() {
	switch {
	case m.o.Manage == ManageSync || m.o.Keep || !m.ownsAnything():
	case m.predecessorBusy():
		m.syncAt(time.Now().Add(predecessorInterval))
	default:
		m.revert()
	}
}
