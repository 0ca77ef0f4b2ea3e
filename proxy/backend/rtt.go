package backend

import (
	"math"
	"syscall"
	"time"

	"mpgate/mptcp"
)

// No answer is faster than the round-trip time of its connection. So while a server has not
// answered recently, what is known of that stands in for its answers: a far server is not chosen
// before a near one only because nothing else is known about it. That is the time of its last
// connect, and once a second the kernel's estimate for a kept connection. Nothing is asked about a
// server that answers, nor by a request.

// noteRTT notes a round-trip time.
func (l *latency) noteRTT(d time.Duration) { l.rtt.Store(int64(d)) }

// refreshRTT asks the kernel if no answer says more. It is called about once a second.
func (s *Server) refreshRTT(now time.Time) {
	if !s.backend.notesLatency || s.latency.recent(int64(now.Sub(epoch))) {
		return
	}
	if raw := s.keptConn(); raw != nil {
		if d := bestRTT(raw); d > 0 {
			s.latency.noteRTT(d)
		}
	}
}

// keptConn returns a connection to the server, or nil if there is none that waits for requests.
func (s *Server) keptConn() syscall.RawConn {
	if raw := s.shared.anyConn(); raw != nil {
		return raw
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.idle); n > 0 {
		return s.idle[n-1].link.info.Raw()
	}
	return nil
}

// anyConn returns a shared connection, or nil if there is none.
func (h *sharedConns) anyConn() syscall.RawConn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.conns) == 0 {
		return nil
	}
	return h.conns[0].link.info.Raw()
}

// bestRTT returns the shortest round-trip time of the live subflows of an MPTCP connection; 0: it
// is not known. A subflow that gets no acknowledgements does not count; if that is so for all, it
// is the shortest time until one of them is heard of.
func bestRTT(raw syscall.RawConn) time.Duration {
	var info mptcp.Info
	if err := info.Read(raw); err != nil || info.Has&mptcp.HasTCP == 0 {
		return 0
	}
	rtt, rto := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for i := range info.Subflows {
		f := &info.Subflows[i]
		switch {
		case !f.Live():
		case f.Backoff > 0:
			rto = min(rto, f.RTO)
		case f.RTT > 0:
			rtt = min(rtt, f.RTT)
		}
	}
	switch {
	case rtt < math.MaxInt64:
		return rtt
	case rto < math.MaxInt64:
		return rto
	}
	return 0
}
