package paths

import (
	"testing"
	"time"

	"mpgate/mptcp"
)

const ms = time.Millisecond

// scene plays one connection with a subflow on each of two paths, in steps of 10 ms.
type scene struct {
	o     Options
	now   time.Time
	paths [2]*path
	flows []flow
	ackAt [2]time.Time
}

func newScene() *scene {
	s := &scene{o: Options{}.withDefaults(), now: time.Unix(1e9, 0)}
	for i := range s.paths {
		s.paths[i] = &path{}
		s.ackAt[i] = s.now
		s.flows = append(s.flows, flow{id: uint32(i + 1), ackedAt: s.now})
	}
	return s
}

// play runs for d; subflow 0 has under way what out says, and gets ACKs or not. It gives
// the time until the verdict on its path, 0 for none.
func (s *scene) play(d time.Duration, out, sacked uint32, backoff uint8, acked, siblingAcked bool) time.Duration {
	begin := s.now
	for s.now.Sub(begin) < d {
		s.now = s.now.Add(10 * ms)
		for i, moves := range []bool{acked, siblingAcked} {
			if moves {
				s.ackAt[i] = s.now
			}
		}
		first := mptcp.Subflow{Unacked: out, Sacked: sacked, Backoff: backoff, RTT: 20 * ms, RTTVar: ms, LastAckReceived: s.now.Sub(s.ackAt[0])}
		second := mptcp.Subflow{Unacked: 50, RTT: 20 * ms, RTTVar: ms, LastAckReceived: s.now.Sub(s.ackAt[1])}
		s.flows[0].observe(&first, s.paths[0], &s.o, s.now)
		s.flows[1].observe(&second, s.paths[1], &s.o, s.now)
		collectEvidence(s.flows, s.now)
		_, silent := s.paths[0].silence.evaluate()
		if _, other := s.paths[1].silence.evaluate(); other {
			return -1
		}
		if silent {
			return s.now.Sub(begin)
		}
	}
	return 0
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name         string
		out, sacked  uint32
		backoff      uint8
		sibling      bool
		least, most  time.Duration // 0, 0: no verdict within 2 s
		alsoHasAcked bool
	}{
		{name: "much under way", out: 100, sibling: true, least: 50 * ms, most: 60 * ms},
		{name: "some under way", out: 6, sibling: true, least: 90 * ms, most: 110 * ms},
		{name: "a tail of two was lost", out: 2, sibling: true},
		{name: "two, and two timeouts", out: 2, backoff: 2, sibling: true, least: 90 * ms, most: 110 * ms},
		{name: "three are not enough evidence", out: 3, sibling: true},
		{name: "all but one arrived out of order", out: 20, sacked: 19, sibling: true},
		{name: "nothing under way", sibling: true},
		{name: "the sibling stands too", out: 100},
		{name: "ACKs come", out: 100, sibling: true, alsoHasAcked: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene()
			if d := s.play(200*ms, 100, 0, 0, true, true); d != 0 {
				t.Fatalf("given up while it moved, after %v", d)
			}
			d := s.play(2*time.Second, c.out, c.sacked, c.backoff, c.alsoHasAcked, c.sibling)
			if d < c.least || d > c.most {
				t.Errorf("verdict after %v, want %v to %v", d, c.least, c.most)
			}
		})
	}
}

// A path on which an ended subflow does not come back gets more time, and a short silence does not
// count.
func TestVerdictForGood(t *testing.T) {
	s := newScene()
	s.paths[0].silence.minimum = minPermanent
	s.play(200*ms, 100, 0, 0, true, true)
	if d := s.play(250*ms, 100, 0, 0, false, true); d != 0 {
		t.Errorf("given up after %v", d)
	}
	if d := s.play(time.Second, 100, 0, 0, false, true); d < 40*ms || d > 80*ms {
		t.Errorf("given up after 250 ms and %v, want 300 ms", d)
	}
}

// A subflow that begins to send after long silence is not judged by its last ACK.
func TestVerdictAfterIdle(t *testing.T) {
	s := newScene()
	if d := s.play(5*time.Second, 0, 0, 0, false, true); d != 0 {
		t.Fatalf("given up while idle, after %v", d)
	}
	if d := s.play(time.Second, 100, 0, 0, false, true); d < 50*ms || d > 70*ms {
		t.Errorf("verdict after %v", d)
	}
}

// A tail of two is lost and waits for its timeout, 200 ms. What the kernel sends then is
// no evidence until it could have been answered; that it was not is.
func TestVerdictAtTimeout(t *testing.T) {
	s := newScene()
	s.play(200*ms, 20, 18, 0, true, true)
	if d := s.play(200*ms, 20, 18, 0, false, true); d != 0 {
		t.Fatalf("given up for two segments, after %v", d)
	}
	if d := s.play(20*ms, 24, 18, 1, false, true); d != 0 {
		t.Fatalf("given up %v after four more were sent", d)
	}
	if d := s.play(200*ms, 24, 18, 1, false, true); d == 0 || d > 50*ms {
		t.Errorf("four segments more have no answer: verdict after %v", d)
	}
}

// A lost tail is probed after two round-trip times and the rounding of timers (TLP); that probe
// has the time to be answered, and many segments sent with it are not taken for a window lost.
func TestVerdictLeavesTimeForTheProbe(t *testing.T) {
	s := newScene()
	s.play(200*ms, 6, 0, 0, true, true)
	for _, step := range []struct {
		d   time.Duration
		out uint32
	}{{50 * ms, 6}, {30 * ms, 20}} {
		if d := s.play(step.d, step.out, 0, 0, false, true); d != 0 {
			t.Fatalf("%d under way: given up after %v", step.out, d)
		}
	}
	if d := s.play(200*ms, 20, 0, 0, false, true); d == 0 || d > 20*ms {
		t.Errorf("the probe has no answer either: verdict after %v", d)
	}
}

// Another subflow on the path that gets ACKs speaks for it.
func TestVerdictOthersAlive(t *testing.T) {
	s := newScene()
	s.flows = append(s.flows, flow{id: 3, ackedAt: s.now})
	s.play(200*ms, 100, 0, 0, true, true)
	for range 100 {
		s.now = s.now.Add(10 * ms)
		alive := mptcp.Subflow{Unacked: 2, RTT: 20 * ms}
		s.flows[2].observe(&alive, s.paths[0], &s.o, s.now)
		silent := mptcp.Subflow{Unacked: 100, RTT: 20 * ms, LastAckReceived: s.now.Sub(s.ackAt[0])}
		s.flows[0].observe(&silent, s.paths[0], &s.o, s.now)
		s.flows[1].observe(&alive, s.paths[1], &s.o, s.now)
		collectEvidence(s.flows, s.now)
		if _, silent := s.paths[0].silence.evaluate(); silent {
			t.Fatal("given up although another subflow on it moves")
		}
	}
}

// When all stalled, as a machine that is held up does, the one that moves first again is
// no witness against the other.
func TestVerdictAfterHoldUp(t *testing.T) {
	s := newScene()
	s.play(200*ms, 100, 0, 0, true, true)
	s.play(200*ms, 100, 0, 0, false, false)
	if d := s.play(20*ms, 100, 0, 0, false, true); d != 0 {
		t.Fatalf("given up %v after the sibling moved again", d)
	}
	if d := s.play(200*ms, 100, 0, 0, true, true); d != 0 {
		t.Errorf("given up while it moves, after %v", d)
	}
}

// Gaps that were bridged raise the threshold for a while, and so does a false alarm.
func TestGuard(t *testing.T) {
	s := newScene()
	s.play(200*ms, 100, 0, 0, true, true)
	s.play(300*ms, 100, 0, 0, false, false) // both stand: no verdict
	if d := s.play(200*ms, 100, 0, 0, true, true); d != 0 {
		t.Fatalf("given up after %v", d)
	}
	if d := s.play(2*time.Second, 100, 0, 0, false, true); d < 550*ms || d > 650*ms {
		t.Errorf("after a gap of 300 ms: verdict after %v", d)
	}
	var q silence
	now := time.Unix(1e9, 0)
	q.recordGap(400*ms, now)
	if g := q.threshold(now.Add(gapHalfLife)); g != 400*ms {
		t.Errorf("after a minute the guard is %v", g)
	}
	q = silence{}
	q.recordFalseAlarm(60*ms, learnedFactor, now)
	if g := q.threshold(now.Add(29 * time.Minute)); g != learnedMin {
		t.Errorf("after a false alarm the guard is %v", g)
	}
	q.recordFalseAlarm(400*ms, learnedFactor, now)
	q.recordFalseAlarm(300*ms, learnedOthers, now)
	if g := q.threshold(now); g != 1600*ms {
		t.Errorf("after three false alarms the guard is %v", g)
	}
	if g := q.threshold(now.Add(31 * time.Minute)); g != 0 {
		t.Errorf("it does not fade: %v", g)
	}
}

func TestDamping(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := &path{}
	var holds []time.Duration
	for _, lasted := range []time.Duration{time.Hour, time.Second, time.Second, time.Second, time.Minute} {
		now = now.Add(lasted)
		p.fail(Down, "x", now)
		p.back(now)
		holds = append(holds, p.hold())
		now = p.holdUntil
		p.state, p.returnedAt = Up, now
	}
	want := []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 0}
	for i := range want {
		if holds[i] != want[i] {
			t.Errorf("holds %v, want %v", holds, want)
			break
		}
	}
}
