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

// What paths carry is counted by connection and subflow: every pass adds what has
// come since the pass before. What a pass cannot see is had otherwise:
//
//	a connection that ends        Settle, called before it is closed
//	a subflow that ended between  what the connection counts as a whole, less what its
//	two passes                    living subflows do, belongs to those that ended
//	one that also began there,    the kernel's events (CAP_NET_ADMIN); without them it is
//	and why one ended             not seen, and nothing is counted as failed
//
// A join that never got through is no subflow that failed: a server's own
// endpoints make one such attempt for each connection.

// passEvery is how often all connections are read: 2 us each.
const passEvery = 5 * time.Second

// books are the manager's, but for what mu guards.
type books struct {
	conns  map[uint32]*ledger // by token
	pass   uint32
	at     time.Time
	events *mptcp.Events

	// Of events: subflows that were established since the pass before the last, by the pass
	// that heard of it, and those that closed and have not been met in a connection.
	born   map[birth]uint32
	closed map[uint32][]closing // by token

	mu      sync.Mutex
	settled []final
	heard   []mptcp.Event // of anyone
}

// birth names a subflow.
type birth struct {
	token         uint32
	local, remote netip.AddrPort
}

// closing is a subflow that the kernel said has closed.
type closing struct {
	local, remote netip.AddrPort
	failed        bool
	pass          uint32 // that heard of it
}

// mostWaiting bounds what waits for the next pass.
const mostWaiting = 1 << 16

// ledger is one connection as last seen.
type ledger struct {
	pass                    uint32
	sent, received, retrans uint64
	receivedBefore          uint64 // in the pass before this one
	subflows                []account
	buried                  []account // in this pass and the one before
}

// account is one subflow as last seen.
type account struct {
	id                      uint32
	path                    *path
	local, remote           netip.AddrPort
	sent, received, retrans uint64
	established             bool
	seen                    bool
	pass                    uint32 // that buried it
}

// final is a connection at its end.
type final struct {
	has                     mptcp.Has
	token                   uint32
	sent, received, retrans uint64
	subflows                []mptcp.Subflow
}

func (b *books) open() {
	b.conns, b.born, b.closed = map[uint32]*ledger{}, map[birth]uint32{}, map[uint32][]closing{}
	// Without the privilege there are none, and that is not an error.
	b.events, _ = mptcp.OpenEvents()
}

func (b *books) close() {
	if b.events != nil {
		b.events.Close()
	}
}

// listen gathers events until the context is done.
func (b *books) listen(ctx context.Context) {
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
			if len(b.heard) < mostWaiting {
				b.heard = append(b.heard, ev)
			}
			b.mu.Unlock()
		}
	}
}

// sort puts events where a pass finds them, and forgets old ones. Events and what a pass reads
// overtake each other: either waits one pass for the other.
func (b *books) sort(heard []mptcp.Event) {
	for k, pass := range b.born {
		if pass+1 < b.pass {
			delete(b.born, k)
		}
	}
	for token, list := range b.closed {
		if list = slices.DeleteFunc(list, func(c closing) bool { return c.pass+1 < b.pass }); len(list) == 0 {
			delete(b.closed, token)
		} else {
			b.closed[token] = list
		}
	}
	for i := range heard {
		ev := &heard[i]
		if ev.Type == mptcp.EventSubflowClosed {
			b.closed[ev.Token] = append(b.closed[ev.Token], closing{ev.Local, ev.Remote, ev.Error != 0 || ev.ResetReason != 0, b.pass})
		} else {
			b.born[birth{ev.Token, ev.Local, ev.Remote}] = b.pass
		}
	}
}

// infos are read by many goroutines.
var infos = sync.Pool{New: func() any { return new(mptcp.Info) }}

// Settle counts what a connection carried up to now; call it before the connection is closed. It
// costs some 3 us, and is safe for concurrent use.
func (m *Manager) Settle(rc syscall.RawConn) {
	i := infos.Get().(*mptcp.Info)
	defer infos.Put(i)
	if i.Read(rc) != nil {
		return
	}
	f := final{i.Has, i.Token, i.BytesSent, i.BytesReceived, i.BytesRetrans, slices.Clone(i.Subflows)}
	m.books.mu.Lock()
	defer m.books.mu.Unlock()
	if len(m.books.settled) < mostWaiting {
		m.books.settled = append(m.books.settled, f)
	}
}

// keepBooks makes a pass when it is due.
func (m *Manager) keepBooks(now time.Time) bool {
	if now.Before(m.books.at) {
		return false
	}
	m.books.at = now.Add(passEvery)
	if len(m.paths) == 0 { // it is nobody's
		m.books.mu.Lock()
		m.books.settled, m.books.heard = nil, nil
		m.books.mu.Unlock()
		return false
	}
	m.passBooks()
	return true
}

func (m *Manager) passBooks() {
	b := &m.books
	b.mu.Lock()
	settled, heard := b.settled, b.heard
	b.settled, b.heard = nil, nil
	b.mu.Unlock()
	b.pass++
	b.sort(heard)
	for c := range m.o.Source {
		if m.info.Read(c.Raw) == nil {
			m.enter(&final{m.info.Has, m.info.Token, m.info.BytesSent, m.info.BytesReceived, m.info.BytesRetrans, m.info.Subflows})
		}
	}
	// Those at their end come last: one that was settled after the pass read it would else come
	// back to life.
	for i := range settled {
		m.enter(&settled[i])
		b.conns[settled[i].token].pass = b.pass - 1
	}
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

// enter adds what a connection has carried since it was last seen.
func (m *Manager) enter(f *final) {
	b := &m.books
	l := b.conns[f.token]
	if l == nil {
		l = new(ledger)
		b.conns[f.token] = l
	}
	l.pass = b.pass
	l.buried = slices.DeleteFunc(l.buried, func(a account) bool { return a.pass+1 < b.pass })
	for k := range l.subflows {
		l.subflows[k].seen = false
	}
	var sent, received uint64 // by the living, without what was sent again on the same subflow
	for k := range f.subflows {
		s := &f.subflows[k]
		if !s.Live() {
			continue
		}
		a := l.account(s.ID)
		if a.path == nil || !a.established {
			a.path, a.local, a.remote = m.locate(s).path, s.Local, s.Remote
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
	m.meet(f.token, l)
	if f.has&mptcp.HasBytes != 0 {
		l.bury(missing(f.sent+f.retrans-l.sent-l.retrans, sent), missing(f.received-l.received, received), b.pass)
		l.receivedBefore = l.received
		l.sent, l.received, l.retrans = f.sent, f.received, f.retrans
	} else {
		l.bury(0, 0, b.pass)
	}
}

// meet opens accounts for the subflows of a connection that came and went unseen.
func (m *Manager) meet(token uint32, l *ledger) {
	for _, c := range m.books.closed[token] {
		same := func(a account) bool { return a.local == c.local && a.remote == c.remote }
		if slices.ContainsFunc(l.subflows, same) || slices.ContainsFunc(l.buried, same) {
			continue
		}
		if _, ok := m.books.born[birth{token, c.local, c.remote}]; ok {
			a := account{path: m.locate(&mptcp.Subflow{Local: c.local, Remote: c.remote}).path, local: c.local, remote: c.remote}
			a.open()
			l.subflows = append(l.subflows, a)
		}
	}
}

// since is what a connection has received since the pass before the last, if it was there.
func (b *books) since(token uint32, received uint64) uint64 {
	l := b.conns[token]
	if l == nil {
		return received
	}
	return missing(received, l.receivedBefore)
}

// missing is what the whole has more than its parts.
func missing(whole, parts uint64) uint64 { return whole - min(whole, parts) }

func (l *ledger) account(id uint32) *account {
	for k := range l.subflows {
		if l.subflows[k].id == id {
			return &l.subflows[k]
		}
	}
	l.subflows = append(l.subflows, account{id: id})
	return &l.subflows[len(l.subflows)-1]
}

// bury closes the subflows that have vanished; what they carried at the end is shared
// among them.
func (l *ledger) bury(sent, received uint64, pass uint32) {
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
				l.buried = append(l.buried, *a)
			}
			a.close()
		}
	}
	l.subflows = slices.DeleteFunc(l.subflows, func(a account) bool { return !a.seen })
}

func (a *account) open() {
	if a.established = true; a.path != nil {
		a.path.totals.Opened++
		a.path.totals.Subflows++
	}
}

func (a *account) close() {
	if a.path != nil && a.established {
		a.path.totals.Closed++
		a.path.totals.Subflows--
	}
	a.established = false
}

func (a *account) add(sent, received, retrans uint64) {
	if a.path == nil {
		return
	}
	t := &a.path.totals
	t.BytesSent += sent
	t.BytesReceived += received
	t.BytesRetrans += retrans
}

// countFailed counts the subflows that ended with an error. Those of others are not in the books.
func (b *books) countFailed() {
	for token, list := range b.closed {
		l := b.conns[token]
		if l == nil {
			continue
		}
		b.closed[token] = slices.DeleteFunc(list, func(c closing) bool {
			for _, dead := range l.buried {
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
