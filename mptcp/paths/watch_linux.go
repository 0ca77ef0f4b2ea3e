package paths

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

const (
	// How many connections are examined each tick to find some that send, and how many are
	// followed. At 50 ticks a second both together cost at most 1 % of a core.
	freshEach  = 64
	followMost = 24
	// A connection that has not sent for this long is no longer followed.
	quietFor = time.Second
)

// sample holds the connections that are followed.
type sample struct {
	followed []followed
	at       time.Time
	suspect  bool
	late     int // ticks to ignore, because this process itself was delayed
	// bytes to which the kernel lets a send buffer grow
	maxBuffer int
}

type followed struct {
	Conn
	token  uint32
	sentAt time.Time
	flows  []flow
	buffer buffer
}

func (s *sample) busy() bool { return len(s.followed) > 0 }

// watch samples the connections, limits their send buffers and, with FailoverActive, fails over
// from silent paths.
func (m *Manager) watch(now time.Time) {
	s := &m.sample
	if s.maxBuffer == 0 {
		s.maxBuffer = maxSendBuffer()
	}
	// If this process itself was delayed, ACKs may be unread in the kernel or in the network card:
	// the silence is ours.
	if s.busy() && !s.at.IsZero() && now.Sub(s.at) > 3*busyTick {
		s.late = 2
	}
	s.at = now
	m.setMinSilence()
	m.followBusy(now)
	s.suspect = false
	kept := 0
	for i := range s.followed {
		if m.follow(&s.followed[i], now) {
			s.followed[kept] = s.followed[i]
			kept++
		} else {
			m.restoreBuffer(&s.followed[i])
		}
	}
	clear(s.followed[kept:])
	s.followed = s.followed[:kept]
	trusted := s.late == 0
	s.late = max(s.late-1, 0)
	for _, p := range m.paths {
		stalled, silent := p.silence.evaluate()
		if silent && trusted && p.state == Up && m.o.Failover == FailoverActive {
			p.fail(Silent, "nothing comes back", now)
			m.reportUp(p)
			m.cut(p, p.addrs, p.reason, stalled)
			m.publish()
		}
	}
}

// setMinSilence gives more time to paths on which an ended subflow cannot come back: those without
// an endpoint of ours that can be renewed.
func (m *Manager) setMinSilence() {
	for _, p := range m.paths {
		p.silence.minimum = minPermanent
	}
	for k, r := range m.owned {
		if p := m.byAddr[k.addr]; p != nil && p.Name == r.path {
			p.silence.minimum = 0
		}
	}
}

// unfollow stops following all connections.
func (m *Manager) unfollow() {
	for i := range m.sample.followed {
		m.restoreBuffer(&m.sample.followed[i])
	}
	m.sample = sample{}
}

// followBusy examines some connections and follows those that wait for an ACK.
func (m *Manager) followBusy(now time.Time) {
	s, looked := &m.sample, 0
	for c := range m.o.Source {
		if looked++; looked > freshEach || len(s.followed) >= followMost {
			return
		}
		g, err := mptcp.ReadSendState(c.Raw)
		if err != nil || g.Outstanding == 0 || slices.ContainsFunc(s.followed, func(f followed) bool { return f.token == g.Token }) {
			continue
		}
		s.followed = append(s.followed, followed{Conn: c, token: g.Token, sentAt: now, flows: make([]flow, 0, 4)})
	}
}

// follow samples one connection and collects its evidence; it returns false if the connection has
// ended or is idle.
func (m *Manager) follow(f *followed, now time.Time) bool {
	if m.info.Read(f.Raw) != nil || m.info.Token != f.token {
		return false
	}
	for i := range f.flows {
		f.flows[i].seen = false
	}
	for i := range m.info.Subflows {
		s := &m.info.Subflows[i]
		if s.State != mptcp.StateEstablished && s.State != mptcp.StateCloseWait {
			continue
		}
		k := slices.IndexFunc(f.flows, func(w flow) bool { return w.id == s.ID })
		if k < 0 {
			k = len(f.flows)
			f.flows = append(f.flows, flow{id: s.ID, ackedAt: now.Add(-s.LastAckReceived)})
		}
		p := m.egressOf(s).path
		f.flows[k].observe(s, p, &m.o, now)
		if f.flows[k].out > 0 {
			f.sentAt = now
		}
		m.noteAck(p, s, now)
	}
	f.flows = slices.DeleteFunc(f.flows, func(w flow) bool { return !w.seen })
	m.sample.suspect = m.sample.suspect || slices.ContainsFunc(f.flows, func(w flow) bool { return w.path != nil && w.path.state == Up && w.suspect() })
	collectEvidence(f.flows, now)
	m.limitBuffer(f, now)
	return now.Sub(f.sentAt) < quietFor
}

// noteAck brings a silent path back if an ACK has arrived on it since the cut.
func (m *Manager) noteAck(p *path, s *mptcp.Subflow, now time.Time) {
	const margin = 20 * time.Millisecond
	if p == nil || p.state != Silent || s.State != mptcp.StateEstablished {
		return
	}
	if now.Add(-s.LastAckReceived).After(p.probe.cutAt.Add(margin)) {
		m.recovered(p, now)
	}
}

// recovered brings a silent path back, and learns from a false alarm.
func (m *Manager) recovered(p *path, now time.Time) {
	asked, soon := p.probe.cutAt, falseAlarm
	if !p.probe.renewedAt.IsZero() {
		asked, soon = p.probe.renewedAt, falseJoin
	}
	if now.Sub(asked) < soon {
		stall := p.silence.lastStall
		for _, q := range m.paths {
			factor := learnedOthers
			if q == p {
				factor = learnedFactor
			}
			q.silence.recordFalseAlarm(stall, factor, now)
		}
		m.o.Logger.Warn("path was not down: increasing the silence timeout of all paths", "path", p.Name,
			"silence", p.silence.learned, "for", learnedFor)
	}
	p.probe.close()
	p.back(now)
}

const (
	probeEvery = 250 * time.Millisecond
	// A path that has been silent for long is probed less often.
	probeOften    = 30 * time.Second
	probeSeldom   = time.Second
	firstRenewal  = 500 * time.Millisecond
	secondRenewal = 4 * time.Second
	lastRenewal   = time.Minute
)

// probePath probes a silent path.
func (m *Manager) probePath(p *path, now time.Time) {
	q := &p.probe
	every := probeEvery
	if now.Sub(q.cutAt) > probeOften {
		every = probeSeldom
	}
	switch {
	case q.fd != 0 && q.answered():
		m.recovered(p, now)
	case q.remote.IsValid() && now.Sub(q.sentAt) >= every:
		q.close()
		q.sentAt = now
		q.send()
	}
	if p.state == Silent {
		m.probeByJoins(p, now)
	}
}

// probeByJoins renews the path's endpoints (sync): peers that can then try to join
// on it, and their kernels repeat the SYN each second.
func (m *Manager) probeByJoins(p *path, now time.Time) {
	q := &p.probe
	if q.remote.IsValid() || m.o.Manage != ManageSync {
		m.checkJoins(p, now)
		return
	}
	if q.renewAt.IsZero() {
		q.renewAt, q.wait = q.cutAt.Add(firstRenewal), secondRenewal
	}
	if !now.Before(q.renewAt) {
		q.renewAt = now.Add(q.wait)
		q.wait = min(2*q.wait, lastRenewal)
		if q.renewedAt.IsZero() {
			q.renewedAt = now
		}
		have, err := m.pm.Endpoints()
		m.noteError("read endpoints", err)
		for k, r := range m.owned {
			if r.path == p.Name && p.renewals[k] && slices.Contains(have, r.stored) && m.remove(r.stored) {
				m.add(want{r.requested, r.path}, nil, r.previous)
				p.renewals[k] = true // and again when it is back
			}
		}
	}
	m.checkJoins(p, now)
}

// checkJoins examines some connections, idle ones included.
func (m *Manager) checkJoins(p *path, now time.Time) {
	looked := 0
	for c := range m.o.Source {
		if looked++; looked > freshEach || p.state != Silent {
			return
		}
		if m.info.Read(c.Raw) != nil {
			continue
		}
		for i := range m.info.Subflows {
			if s := &m.info.Subflows[i]; m.egressOf(s).path == p {
				m.noteAck(p, s, now)
			}
		}
	}
}

// send sends the SYN. Errors are ignored: then there is no answer.
func (q *probe) send() {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(q.remote.Port()), Addr: q.remote.Addr().As16()})
	from := unix.Sockaddr(&unix.SockaddrInet6{Addr: q.local.As16()})
	if q.remote.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(q.remote.Port()), Addr: q.remote.Addr().As4()}
		from = &unix.SockaddrInet4{Addr: q.local.As4()}
	}
	if q.local.Is4() != q.remote.Addr().Is4() {
		return
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err := unix.Bind(fd, from); err == nil {
		err = unix.Connect(fd, sa)
		if err == nil || err == unix.EINPROGRESS {
			q.fd = fd
			return
		}
	}
	unix.Close(fd)
}

// answered reports whether there was an answer: a connection, or a refusal.
func (q *probe) answered() bool {
	p := []unix.PollFd{{Fd: int32(q.fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 0); n == 0 || err != nil {
		return false
	}
	code, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && (code == 0 || unix.Errno(code) == unix.ECONNREFUSED) {
		return true
	}
	q.close()
	return false
}

func (q *probe) close() {
	if q.fd != 0 {
		unix.Close(q.fd)
		q.fd = 0
	}
}
