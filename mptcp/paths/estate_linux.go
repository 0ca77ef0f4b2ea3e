package paths

import (
	"context"
	"errors"
	"time"
)

// lookAtPredecessor is how often one asks whether it has connections left.
const lookAtPredecessor = 250 * time.Millisecond

// HandOver gives up what this manager made, for another to continue with it (Options.Succeed):
// nothing is changed in the kernel, and from here on this one leaves endpoints and limits alone. It
// ends subflows of dead paths as before. Update makes it a manager of endpoints again.
func (m *Manager) HandOver(ctx context.Context) (*Estate, error) {
	m.mu.Lock()
	running := m.running
	m.mu.Unlock()
	if !running {
		return new(Estate), nil
	}
	given := make(chan *Estate, 1)
	select {
	case m.orders <- func() { given <- m.handOver() }:
		return <-given, nil
	case <-m.ended:
		return nil, errors.New("hand over paths: the manager has ended")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *Manager) handOver() *Estate {
	m.takeOptions() // what was asked for before comes first
	e := m.estate()
	m.journal.given = true
	clear(m.owned)
	clear(m.contested)
	m.limits = ownedLimits{}
	for _, p := range m.paths {
		p.waiting = 0
		clear(p.again)
	}
	m.o.Manage = ManageOff
	m.sync()
	m.publish()
	return e
}

// succeed takes what another manager made for its own work.
func (m *Manager) succeed() {
	e := m.o.Succeed
	m.o.Succeed = nil
	if e.Empty() {
		return
	}
	m.lastID = e.LastID
	for _, h := range e.Endpoints {
		m.owned[keyOf(h.Stored)] = record{asked: h.Asked, stored: h.Stored, was: h.Was, path: h.Path}
	}
	if l := e.Limits; l != nil {
		m.limits = ownedLimits{set: true, was: l.Was, mine: l.Mine}
	}
}

// preceded says whether connections are left at the manager before this one: nobody here knows
// which subflows they have, so that no endpoint may be removed.
func (m *Manager) preceded() bool { return m.o.Predecessor != nil && m.o.Predecessor() }

// holds says whether anything is to be taken back.
func (m *Manager) holds() bool { return len(m.owned) > 0 || m.limits.set }

// abandon takes back what was made where nothing is to be made any more.
func (m *Manager) abandon() {
	switch {
	case m.o.Manage == ManageSync || m.o.Keep || !m.holds():
	case m.preceded():
		m.syncAt(time.Now().Add(lookAtPredecessor))
	default:
		m.takeBack()
	}
}
