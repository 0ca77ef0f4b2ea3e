package mptcp

import (
	"net/netip"
	"sync"
	"time"
)

// Memory holds what earlier dials have learned about servers, by address: their round-trip time,
// and which of them to dial by plain TCP for now. The zero value is empty and ready; it is safe for
// concurrent use.
//
//	asked ──3 fallbacks in a row, or a SYN that vanished──► plain, for a while
//	  ▲                                                        │ the while is over:
//	  └──── MPTCP is used   ◄──── one dial asks again ◄────────┘ the others stay plain
//	                                  │ no: plain, for twice as long
//
// A SYN that vanished (MPTCP unanswered, plain TCP answered at once) costs a server of which
// nothing is known its first minute. With one that has used MPTCP before, a lost packet is
// likelier, or a path that came back just between the two SYNs: then many dials lose theirs at
// once, and to continue by plain TCP would leave their connections with one path. It has to happen
// again some time later, and costs some seconds then.
type Memory struct {
	mu sync.Mutex
	of map[netip.AddrPort]*learned
	// skipped counts dials that did not ask for MPTCP because of what was learned.
	skipped uint64
}

type learned struct {
	rtt       time.Duration // smoothed; 0: unknown
	usedMPTCP bool          // it has used MPTCP
	fallbacks int           // in a row
	reason    Reason
	until     time.Time // plain until then; zero: ask
	wait      time.Duration
	lostAt    time.Time // when a SYN vanished first since it spoke MPTCP
	trying    bool      // one dial asks again
	used      time.Time
}

const (
	fallbacksInARow = 3
	firstPlain      = time.Minute
	firstPlainKnown = 5 * time.Second
	// againAfter is how much later a SYN must vanish for it to be another time.
	againAfter = 2 * time.Second
	lastPlain  = time.Hour
	// maxServers limits the memory: names may resolve to ever new addresses.
	maxServers = 4096

	// raceAfter is the minimum time before an MPTCP SYN is raced by a plain one.
	raceAfter = 250 * time.Millisecond
	// giveUpAfter is when a SYN that asks for MPTCP is given up while a plain one is out: before
	// the kernel's first retransmission (1 s), after which it may take the silence for a black hole
	// and stop asking in the whole namespace.
	giveUpAfter = 900 * time.Millisecond
)

// ServerMemory is what is known of one server.
type ServerMemory struct {
	Address netip.AddrPort
	RTT     time.Duration
	// Plain: it is dialled by plain TCP until Until, because of Reason.
	Plain  bool
	Reason Reason
	Until  time.Time
}

// Servers lists what is known, in no particular order.
func (m *Memory) Servers() []ServerMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]ServerMemory, 0, len(m.of))
	for a, l := range m.of {
		s := ServerMemory{Address: a, RTT: l.rtt}
		if !l.until.IsZero() {
			s.Plain, s.Reason, s.Until = true, l.reason, l.until
		}
		out = append(out, s)
	}
	return out
}

// Skipped counts the dials that did not ask for MPTCP because of what was learned.
func (m *Memory) Skipped() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.skipped
}

// Forget empties it, as after a change of the network.
func (m *Memory) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.of)
}

// exchange says whether to ask for MPTCP and, if not, why.
func (m *Memory) ask(to netip.AddrPort, now time.Time) (ask bool, reason Reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.get(to, now)
	switch {
	case l.until.IsZero():
		return true, None
	case l.trying || now.Before(l.until):
		m.skipped++
		return false, l.reason
	}
	l.trying = true
	return true, None
}

// raceDelay returns how long to wait for the answer to an MPTCP SYN before a plain one is sent.
func (m *Memory) raceDelay(to netip.AddrPort) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.of[to]; l != nil {
		return max(raceAfter, 2*l.rtt)
	}
	return raceAfter
}

// get is called with mu held.
func (m *Memory) get(to netip.AddrPort, now time.Time) *learned {
	l := m.of[to]
	if l == nil {
		if m.of == nil {
			m.of = map[netip.AddrPort]*learned{}
		}
		if len(m.of) >= maxServers {
			m.dropOldest()
		}
		l = new(learned)
		m.of[to] = l
	}
	l.used = now
	return l
}

// dropOldest drops one of the servers that were not dialled for long: the oldest of some. A map is
// iterated from a random place.
func (m *Memory) dropOldest() {
	const some = 16
	var oldest netip.AddrPort
	var used time.Time
	n := 0
	for a, l := range m.of {
		if n == 0 || l.used.Before(used) {
			oldest, used = a, l.used
		}
		n++
		if n == some {
			break
		}
	}
	delete(m.of, oldest)
}

// connected notes how a dial that was to ask for MPTCP ended; vanished: a plain SYN was
// answered and the other was not. took is the time of the handshake that counted.
func (m *Memory) connected(to netip.AddrPort, r Result, vanished bool, took time.Duration, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.get(to, now)
	l.measured(took)
	retried := l.trying
	l.trying = false
	switch {
	case r.Transport == MPTCP:
		*l = learned{rtt: l.rtt, usedMPTCP: true, used: now}
	case vanished && l.usedMPTCP && !retried && l.lostAt.IsZero():
		l.lostAt = now
	case vanished && l.usedMPTCP && !retried && now.Sub(l.lostAt) < againAfter:
	case vanished:
		l.plain(Blackhole, retried, now)
	case r.Reason == PeerOrPath:
		if l.fallbacks++; l.fallbacks >= fallbacksInARow || retried {
			l.plain(PeerOrPath, retried, now)
		}
	case retried:
		// The kernel or the host does not request MPTCP: that is not caused by the server.
		l.until = now.Add(l.wait)
	}
}

// plain begins a time of plain TCP.
func (l *learned) plain(why Reason, retried bool, now time.Time) {
	switch {
	case retried:
		l.wait = min(2*l.wait, lastPlain)
	case l.usedMPTCP && why == Blackhole:
		l.wait = firstPlainKnown
	default:
		l.wait = firstPlain
	}
	l.reason, l.until = why, now.Add(l.wait)
}

// failed notes that a dial which asked for MPTCP did not connect.
func (m *Memory) failed(to netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.of[to]; l != nil {
		l.trying = false
	}
}

// plainTook notes the time of a handshake by plain TCP.
func (m *Memory) plainTook(to netip.AddrPort, took time.Duration, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.get(to, now).measured(took)
}

// measured smooths the round-trip time. A handshake with a retransmission measures none.
func (l *learned) measured(took time.Duration) {
	switch {
	case took >= time.Second:
	case l.rtt == 0:
		l.rtt = took
	default:
		l.rtt += (took - l.rtt) / 8
	}
}
