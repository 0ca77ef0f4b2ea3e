package paths

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"mpgate/mptcp"
)

// Traffic is counted by connection and subflow: every pass adds the traffic since the pass before.
// What a pass cannot see is obtained in other ways:
//
//	a connection that ends        CountClosing, called before it is closed
//	a subflow that ended between  what the connection counts as a whole, less what its
//	two passes                    living subflows do, belongs to those that ended
//	one that also began there,    the kernel's events (CAP_NET_ADMIN); without them it is
//	and why one ended             not seen, and nothing is counted as failed
//
// A join that was never established does not count as a failed subflow: a server's own endpoints
// make one such attempt for each connection.

// passEvery is how often all connections are read: 2 us each.
const passEvery = 5 * time.Second

// accounting is used by the manager's task only, except for what mu guards.
type accounting struct {
	conns  map[uint32]*connAccount // by token
	pass   uint32
	at     time.Time
	events *mptcp.Events

	// Of events: subflows that were established since the pass before the last, by the pass
	// that heard of it, and those that closed and have not been met in a connection.
	established map[subflowKey]uint32
	closed      map[uint32][]closeEvent // by token

	mu    sync.Mutex
	ended []connCounters
	heard []mptcp.Event // of anyone
}

// subflowKey identifies a subflow.
type subflowKey struct {
	token         uint32
	local, remote netip.AddrPort
}

// closeEvent is a subflow that the kernel said has closed.
type closeEvent struct {
	local, remote netip.AddrPort
	failed        bool
	pass          uint32 // that heard of it
}

// maxPending limits what is queued for the next pass.
const maxPending = 1 << 16

// connAccount is one connection as last read.
type connAccount struct {
	pass                    uint32
	sent, received, retrans uint64
	receivedBefore          uint64 // in the pass before this one
	subflows                []subflowAccount
	closed                  []subflowAccount // in this pass and the one before
}

// subflow is one subflow as last seen.
type subflowAccount struct {
	id                      uint32
	path                    *path
	local, remote           netip.AddrPort
	sent, received, retrans uint64
	established             bool
	seen                    bool
	pass                    uint32 // in which it was found closed
}

// connCounters are the counters of a connection.
type connCounters struct {
	has                     mptcp.Has
	token                   uint32
	sent, received, retrans uint64
	subflows                []mptcp.Subflow
}

func (b *accounting) open() {
	b.conns, b.established, b.closed = map[uint32]*connAccount{}, map[subflowKey]uint32{}, map[uint32][]closeEvent{}
	// Without the privilege there are none, and that is not an error.
	b.events, _ = mptcp.OpenEvents()
}

func (b *accounting) close() {
	if b.events != nil {
		b.events.Close()
	}
}

// listen queues events until the context is done.
func (b *accounting) listen(ctx context.Context) {
	for {
		ev, err := b.events.Next(ctx)
		switch {
		case errors.Is(err, mptcp.ErrOverrun):
			continue
		case err != nil:
			return
		}
		switch ev.Type {
		case mptcp.EventEstablished, mptcp.EventSubflowEstablished, mptcp.EventSubflowClosed:
			b.mu.Lock()
			if len(b.heard) < maxPending {
				b.heard = append(b.heard, ev)
			}
			b.mu.Unlock()
		}
	}
}

// sortEvents stores events for the pass, and drops old ones. Events may arrive before or after the
// pass that sees their subflow, so both are kept for one more pass.
func (b *accounting) sortEvents(heard []mptcp.Event) {
	for k, pass := range b.established {
		if pass+1 < b.pass {
			delete(b.established, k)
		}
	}
	for token, list := range b.closed {
		if list = slices.DeleteFunc(list, func(c closeEvent) bool { return c.pass+1 < b.pass }); len(list) == 0 {
			delete(b.closed, token)
		} else {
			b.closed[token] = list
		}
	}
	for i := range heard {
		ev := &heard[i]
		if ev.Type == mptcp.EventSubflowClosed {
			b.closed[ev.Token] = append(b.closed[ev.Token], closeEvent{ev.Local, ev.Remote, ev.Error != 0 || ev.ResetReason != 0, b.pass})
		} else {
			b.established[subflowKey{ev.Token, ev.Local, ev.Remote}] = b.pass
		}
	}
}

// infos are read by many goroutines.
var infos = sync.Pool{New: func() any { return new(mptcp.Info) }}

// CountClosing counts what a connection carried up to now; call it before the connection is closed.
// It costs some 3 us, and is safe for concurrent use.
func (m *Manager) CountClosing(rc syscall.RawConn) {
	i := infos.Get().(*mptcp.Info)
	defer infos.Put(i)
	if i.Read(rc) != nil {
		return
	}
	f := connCounters{i.Has, i.Token, i.BytesSent, i.BytesReceived, i.BytesRetrans, slices.Clone(i.Subflows)}
	m.accounting.mu.Lock()
	defer m.accounting.mu.Unlock()
	if len(m.accounting.ended) < maxPending {
		m.accounting.ended = append(m.accounting.ended, f)
	}
}

// accountIfDue makes a pass if one is due.
func (m *Manager) accountIfDue(now time.Time) bool {
	if now.Before(m.accounting.at) {
		return false
	}
	m.accounting.at = now.Add(passEvery)
	if len(m.paths) == 0 { // no path to account to
		m.accounting.mu.Lock()
		m.accounting.ended, m.accounting.heard = nil, nil
		m.accounting.mu.Unlock()
		return false
	}
	m.accountAll()
	return true
}

func (m *Manager) accountAll() {
	b := &m.accounting
	b.mu.Lock()
	settled, heard := b.ended, b.heard
	b.ended, b.heard = nil, nil
	b.mu.Unlock()
	b.pass++
	b.sortEvents(heard)
	for c := range m.o.Source {
		if m.info.Read(c.Raw) == nil {
			m.countJoins(&c)
			m.updateAccount(&connCounters{m.info.Has, m.info.Token, m.info.BytesSent, m.info.BytesReceived, m.info.BytesRetrans, m.info.Subflows})
		}
	}
	// Connections that ended come last: otherwise one that ended after the pass read it would be
	// recreated.
	for i := range settled {
		m.updateAccount(&settled[i])
		b.conns[settled[i].token].pass = b.pass - 1
	}
	m.judgeJoins(time.Now())
	b.countFailed()
	for token, l := range b.conns {
		if l.pass != b.pass {
			for k := range l.subflows {
				l.subflows[k].close()
			}
			delete(b.conns, token)
		}
	}
}

// updateAccount adds the traffic of a connection since it was last read.
func (m *Manager) updateAccount(f *connCounters) {
	b := &m.accounting
	l := b.conns[f.token]
	if l == nil {
		l = new(connAccount)
		b.conns[f.token] = l
	}
	l.pass = b.pass
	l.closed = slices.DeleteFunc(l.closed, func(a subflowAccount) bool { return a.pass+1 < b.pass })
	for k := range l.subflows {
		l.subflows[k].seen = false
	}
	var sent, received uint64 // by the living, without what was sent again on the same subflow
	for k := range f.subflows {
		s := &f.subflows[k]
		if !s.Live() {
			continue
		}
		a := l.subflow(s.ID)
		if a.path == nil || !a.established {
			a.path, a.local, a.remote = m.egressOf(s).path, s.Local, s.Remote
			if s.State != mptcp.StateSynSent && s.State != mptcp.StateSynReceived {
				a.open()
			}
		}
		a.seen = true
		sent += s.BytesSent - s.BytesRetrans - (a.sent - a.retrans)
		received += s.BytesReceived - a.received
		a.add(s.BytesSent-a.sent, s.BytesReceived-a.received, s.BytesRetrans-a.retrans)
		a.sent, a.received, a.retrans = s.BytesSent, s.BytesReceived, s.BytesRetrans
	}
	m.addUnseen(f.token, l)
	if f.has&mptcp.HasBytes != 0 {
		l.closeMissing(surplus(f.sent+f.retrans-l.sent-l.retrans, sent), surplus(f.received-l.received, received), b.pass)
		l.receivedBefore = l.received
		l.sent, l.received, l.retrans = f.sent, f.received, f.retrans
	} else {
		l.closeMissing(0, 0, b.pass)
	}
}

// addUnseen opens accounts for subflows that began and ended between two passes.
func (m *Manager) addUnseen(token uint32, l *connAccount) {
	for _, c := range m.accounting.closed[token] {
		same := func(a subflowAccount) bool { return a.local == c.local && a.remote == c.remote }
		if slices.ContainsFunc(l.subflows, same) || slices.ContainsFunc(l.closed, same) {
			continue
		}
		if _, ok := m.accounting.established[subflowKey{token, c.local, c.remote}]; ok {
			a := subflowAccount{path: m.egressOf(&mptcp.Subflow{Local: c.local, Remote: c.remote}).path, local: c.local, remote: c.remote}
			a.open()
			l.subflows = append(l.subflows, a)
		}
	}
}

// receivedSince returns what a connection has received since the pass before the last.
func (b *accounting) receivedSince(token uint32, received uint64) uint64 {
	l := b.conns[token]
	if l == nil {
		return received
	}
	return surplus(received, l.receivedBefore)
}

// surplus returns whole minus parts, at least 0.
func surplus(whole, parts uint64) uint64 { return whole - min(whole, parts) }

func (l *connAccount) subflow(id uint32) *subflowAccount {
	for k := range l.subflows {
		if l.subflows[k].id == id {
			return &l.subflows[k]
		}
	}
	l.subflows = append(l.subflows, subflowAccount{id: id})
	return &l.subflows[len(l.subflows)-1]
}

// closeMissing closes the accounts of subflows that have ended; their remaining traffic is divided
// among them.
func (l *connAccount) closeMissing(sent, received uint64, pass uint32) {
	var dead uint64
	for k := range l.subflows {
		if a := &l.subflows[k]; !a.seen && a.established {
			dead++
		}
	}
	for k := range l.subflows {
		if a := &l.subflows[k]; !a.seen {
			if a.established {
				a.add(sent/dead, received/dead, 0)
				a.pass = pass
				l.closed = append(l.closed, *a)
			}
			a.close()
		}
	}
	l.subflows = slices.DeleteFunc(l.subflows, func(a subflowAccount) bool { return !a.seen })
}

func (a *subflowAccount) open() {
	if a.established = true; a.path != nil {
		a.path.totals.Opened++
		a.path.totals.Subflows++
	}
}

func (a *subflowAccount) close() {
	if a.path != nil && a.established {
		a.path.totals.Closed++
		a.path.totals.Subflows--
	}
	a.established = false
}

func (a *subflowAccount) add(sent, received, retrans uint64) {
	if a.path == nil {
		return
	}
	t := &a.path.totals
	t.BytesSent += sent
	t.BytesReceived += received
	t.BytesRetrans += retrans
}

// countFailed counts the subflows that ended with an error, of our connections only.
func (b *accounting) countFailed() {
	for token, list := range b.closed {
		l := b.conns[token]
		if l == nil {
			continue
		}
		b.closed[token] = slices.DeleteFunc(list, func(c closeEvent) bool {
			for _, dead := range l.closed {
				if dead.local == c.local && dead.remote == c.remote {
					if c.failed && dead.path != nil {
						dead.path.totals.Failed++
					}
					return true
				}
			}
			return false
		})
	}
}
