package paths

import (
	"math"
	"time"

	"mpgate/mptcp"
)

// How silence is told from loss and delay.
//
// A subflow is silent when at least three segments were in flight for long enough to be answered
// and were not even acknowledged out of order (or it has met two timeouts in a row), and no ACK has
// arrived on it for the threshold, while a sibling in the same connection got an ACK in the second
// half of that time. Segments that were sent just now do not count: the kernel sends some when it
// probes a lost tail, and at a timeout. The threshold is the largest of
//
//   - the floor,
//   - the factor times the round-trip time, and 12 ms: by default four, since a tail that
//     was lost, or whose ACKs were, is probed by the kernel after two and its timers' rounding
//     (TLP), and the answer takes a third; half of that time and no more where 16
//     segments or more were not answered, as no queue takes so many in a row,
//   - the round-trip time and four times its variation,
//   - twice the longest gap that this path has shown and come back from; that
//     fades by half every minute,
//   - what was learned from a false alarm: a path that answers within a second of
//     being asked was not dead. It is given four times that silence for the next half
//     hour, the other paths of this host twice, and all half a second at the least: what stood
//     still may have been the peer, or what they have in common,
//   - 300 ms where no endpoint of ours can bring a subflow back that was ended by mistake: the
//     connection would have one path for the rest of its life, and none once that fails.
//
// Only silence that a sibling confirms counts: an ACK on a sibling confirms the 10 ms before it,
// and half of the threshold must be confirmed. When all subflows stall, because this process, its
// machine or the peer is delayed, nothing is confirmed.
//
// A path is silent when its silent subflows have four segments under way between them
// and no subflow on it has got an ACK meanwhile. At 1 % loss the two ACKs of four segments
// get lost once in 10^4 times, and the probe or its ACK once in 50; a tail of one or two that
// got lost is not evidence.

const (
	minSegments    = 3
	manySegments   = 16
	enoughEvidence = 4
	maxCounted     = 8 // segments of one subflow
	// TCP_TIMEOUT_MIN of Linux (include/net/tcp.h) are two ticks, and it rounds up to one more:
	// 12 ms where CONFIG_HZ is 250.
	probeTimers   = 12 * time.Millisecond
	gapHalfLife   = time.Minute
	falseAlarm    = time.Second
	falseJoin     = 2 * time.Second // by a join: address, SYN, its answer, and the ACK of that
	learnedFor    = 30 * time.Minute
	learnedMin    = 500 * time.Millisecond
	learnedFactor = 4 // by the path itself
	learnedOthers = 2 // by the others of this host
	learnedMax    = 10 * time.Second
	// minPermanent is the least silence of a path on which an ended subflow does not come back.
	minPermanent = 300 * time.Millisecond
	// confirmed is the silence that one ACK of a sibling vouches for at most.
	maxConfirmed = 10 * time.Millisecond
)

// silence is what is known about the gaps of a path.
type silence struct {
	minimum   time.Duration // minPermanent if an ended subflow cannot come back, else 0
	gap       time.Duration
	gapAt     time.Time
	learned   time.Duration
	learnedAt time.Time
	lastStall time.Duration // of the last verdict
	evidence  int           // of the tick that is being judged
	alive     bool
	longest   time.Duration
}

func (s *silence) threshold(now time.Time) time.Duration {
	g := max(s.minimum, 2*s.decayedGap(now))
	if s.learned > 0 && now.Sub(s.learnedAt) < learnedFor {
		g = max(g, s.learned)
	}
	return g
}

func (s *silence) decayedGap(now time.Time) time.Duration {
	if s.gap == 0 {
		return 0
	}
	return time.Duration(float64(s.gap) * math.Exp2(-float64(now.Sub(s.gapAt))/float64(gapHalfLife)))
}

// recordGap records a gap after which an ACK arrived.
func (s *silence) recordGap(gap time.Duration, now time.Time) {
	if gap > s.decayedGap(now) {
		s.gap, s.gapAt = gap, now
	}
}

// recordFalseAlarm records that a path, this one or another of this host, was considered silent
// after stall although it was not.
func (s *silence) recordFalseAlarm(stall time.Duration, factor int, now time.Time) {
	d := time.Duration(factor) * stall
	if now.Sub(s.learnedAt) < learnedFor {
		d = max(d, s.learned)
	}
	s.learned, s.learnedAt = min(max(d, learnedMin), learnedMax), now
}

// flow is the state of a subflow from tick to tick.
type flow struct {
	id             uint32
	path           *path
	ackedAt        time.Time // when the last ACK came
	unackedSince   time.Time // when data was first seen under way; zero: none is
	gap            time.Duration
	confirmedUntil time.Time     // siblings have confirmed the silence up to here,
	confirmed      time.Duration // and for so much of it
	recent, older  inFlight      // since the last ACK
	seen           bool
	// of this tick
	acked     bool // an ACK came
	out       uint32
	backoff   uint8
	stalled   time.Duration
	threshold time.Duration
}

// inFlight is how many segments were in flight at one time.
type inFlight struct {
	at  time.Time
	out uint32 // 0: no such look
}

// recordInFlight keeps two samples since the last ACK. The older one is so old that what was in
// flight then could have been acknowledged.
func (f *flow) recordInFlight(answer time.Duration, now time.Time) {
	f.recent.out, f.older.out = min(f.recent.out, f.out), min(f.older.out, f.out)
	switch {
	case f.acked || f.recent.out == 0:
		f.recent, f.older = inFlight{now, f.out}, inFlight{}
	case now.Sub(f.recent.at) >= answer:
		f.recent, f.older = inFlight{now, f.out}, f.recent
	}
}

// observe takes one sample of a subflow.
func (f *flow) observe(s *mptcp.Subflow, p *path, o *Options, now time.Time) {
	f.path, f.seen, f.backoff = p, true, s.Backoff
	f.out = s.Unacked - min(s.Sacked, s.Unacked)
	acked := now.Add(-s.LastAckReceived)
	// The kernel gives milliseconds.
	if f.acked = acked.Sub(f.ackedAt) > 2*time.Millisecond; f.acked {
		if p != nil && f.out >= minSegments && f.gap > 0 {
			p.silence.recordGap(f.gap, now)
		}
		f.ackedAt, f.gap = acked, 0
	}
	switch {
	case f.out == 0:
		f.unackedSince, f.stalled, f.gap = time.Time{}, 0, 0
	default:
		if f.unackedSince.IsZero() {
			f.unackedSince = now
		}
		f.stalled = now.Sub(f.from())
		f.gap = f.stalled
	}
	answer := s.RTT + 4*s.RTTVar
	f.recordInFlight(answer, now)
	probed := time.Duration(o.Factor*float64(s.RTT)) + probeTimers
	if f.older.out >= manySegments {
		probed = time.Duration(o.Factor / 2 * float64(s.RTT))
	}
	f.threshold = max(o.Floor, probed, answer)
	if p != nil {
		f.threshold = max(f.threshold, p.silence.threshold(now))
	}
}

// from returns when the present silence began.
func (f *flow) from() time.Time {
	if f.unackedSince.After(f.ackedAt) {
		return f.unackedSince
	}
	return f.ackedAt
}

// suspect reports whether the subflow may become silent soon.
func (f *flow) suspect() bool { return f.out >= minSegments && f.stalled >= f.threshold/2 }

func (f *flow) silent() bool {
	return f.stalled >= f.threshold && f.confirmed >= f.threshold/2 && (f.older.out >= minSegments || f.backoff >= 2)
}

// confirm adds the part of the present silence during which a sibling got ACKs.
func (f *flow) confirm(siblingMoved bool, now time.Time) {
	if f.confirmedUntil.Before(f.from()) {
		f.confirmedUntil, f.confirmed = f.from(), 0
	}
	if siblingMoved && f.out > 0 {
		f.confirmed += min(now.Sub(f.confirmedUntil), maxConfirmed)
		f.confirmedUntil = now
	}
}

// collectEvidence adds the evidence of one connection's subflows to their paths.
func collectEvidence(flows []flow, now time.Time) {
	for i := range flows {
		f := &flows[i]
		if f.path == nil || !f.seen {
			continue
		}
		moved, lately := siblings(flows, f)
		f.confirm(moved, now)
		s := &f.path.silence
		switch {
		case f.silent() && lately:
			n := int(min(f.older.out, maxCounted))
			if f.backoff >= 2 {
				n = max(n, enoughEvidence)
			}
			s.evidence += n
			s.longest = max(s.longest, f.stalled)
		case now.Sub(f.ackedAt) < f.threshold/2:
			s.alive = true
		}
	}
}

// siblings reports whether a subflow on another path got an ACK in this tick, and whether in the
// second half of the threshold.
func siblings(flows []flow, f *flow) (moved, lately bool) {
	for i := range flows {
		if g := &flows[i]; g.seen && g.path != f.path {
			moved = moved || g.acked
			lately = lately || g.ackedAt.Sub(f.from()) > f.threshold/2
		}
	}
	return moved, lately
}

// evaluate reports whether the path is silent, and begins the next tick.
func (s *silence) evaluate() (stalled time.Duration, silent bool) {
	stalled, silent = s.longest, s.evidence >= enoughEvidence && !s.alive
	s.evidence, s.alive, s.longest = 0, false, 0
	if silent {
		s.lastStall = stalled
	}
	return stalled, silent
}
