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
//	why it ended                  the kernel's events (CAP_NET_ADMIN); without them
//	                              nothing is counted as failed
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

	mu      sync.Mutex
	settled []final
	ended   []mptcp.Event // SubflowClosed, of anyone
}

// mostWaiting bounds what waits for the next pass.
const mostWaiting = 1 << 16

// ledger is one connection as last seen.
type ledger struct {
	pass                    uint32
	sent, received, retrans uint64
	subflows                []account
	buried                  []account // in this pass
}

// account is one subflow as last seen.
type account struct {
	id                      uint32
	path                    *path
	local, remote           netip.AddrPort
	sent, received, retrans uint64
	established             bool
	seen                    bool
}

// final is a connection at its end.
type final struct {
	has                     mptcp.Has
	token                   uint32
	sent, received, retrans uint64
	subflows                []mptcp.Subflow
}

func (b *books) open() {
	b.conns = map[uint32]*ledger{}
	// Without the privilege there are none, and that is no fault.
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
		case ev.Type == mptcp.EventSubflowClosed:
			b.mu.Lock()
			if len(b.ended) < mostWaiting {
				b.ended = append(b.ended, ev)
			}
			b.mu.Unlock()
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
	if now.Before(m.books.at) || len(m.paths) == 0 {
		return false
	}
	m.books.at = now.Add(passEvery)
	m.passBooks()
	return true
}

func (m *Manager) passBooks() {
	b := &m.books
	b.mu.Lock()
	settled, ended := b.settled, b.ended
	b.settled, b.ended = nil, nil
	b.mu.Unlock()
	b.pass++
	for c := range m.o.Source {
		if m.info.Read(c.Raw) == nil {
			m.enter(&final{m.info.Has, m.info.Token, m.info.BytesSent, m.info.BytesReceived, m.info.BytesRetrans, m.info.Subflows})
		}
	}
	// Those at their end come last: one that was settled after the pass read it would else come back to life.
	for i := range settled {
		m.enter(&settled[i])
		b.conns[settled[i].token].pass = b.pass - 1
	}
	for _, ev := range ended {
		b.failed(&ev)
	}
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
	l.buried = l.buried[:0]
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
	if f.has&mptcp.HasBytes != 0 {
		l.bury(missing(f.sent+f.retrans-l.sent-l.retrans, sent), missing(f.received-l.received, received))
		l.sent, l.received, l.retrans = f.sent, f.received, f.retrans
	} else {
		l.bury(0, 0)
	}
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
func (l *ledger) bury(sent, received uint64) {
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

// failed counts a subflow that ended with an error. Those of others are not in the books.
func (b *books) failed(ev *mptcp.Event) {
	l := b.conns[ev.Token]
	if ev.Error == 0 && ev.ResetReason == 0 || l == nil {
		return
	}
	for _, dead := range l.buried {
		if dead.local == ev.Local && dead.remote == ev.Remote && dead.path != nil {
			dead.path.totals.Failed++
			return
		}
	}
}
