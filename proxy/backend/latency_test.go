package backend

import (
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// at is a time for balancers, after so many seconds.
func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

// picked picks a server, which then has the request.
func picked(b *Backend, seconds float64) *Server {
	var a Attempt
	a.Reset(b)
	s := a.pick(at(seconds))
	s.countInFlight(1)
	return s
}

// answers ends a request of a server.
func answers(s *Server, took time.Duration, status int, seconds float64) {
	a := Attempt{backend: s.backend, server: s}
	a.NoteAnswer(took, status, at(seconds))
	s.countInFlight(-1)
}

// A server that never answered gets one request, not a share of all, until it answers; if it does
// not, it gets another one from time to time.
func TestNewServerIsProbed(t *testing.T) {
	b := simulated(t, latencyName, equal(4)...)
	for _, s := range b.list()[1:] {
		s.countInFlight(1)
		answers(s, 10*time.Millisecond, 200, 1)
	}
	fresh := b.list()[0]
	use := func(n int, from float64) (got int) {
		for i := range n {
			now := from + float64(i)/1000 // within a fraction of a second
			if s := picked(b, now); s == fresh {
				got++
			} else {
				answers(s, 10*time.Millisecond, 200, now)
			}
		}
		return got
	}
	if got := use(500, 1); got != 1 {
		t.Errorf("the new server got %d of 500 requests before it answered, want 1", got)
	}
	if got := use(500, 2.2); got != 1 {
		t.Errorf("the new server got %d of 500 requests a second later, want 1", got)
	}
	for fresh.load() > 0 {
		answers(fresh, 10*time.Millisecond, 200, 3)
	}
	got := 0
	for i := range 500 {
		now := 3 + float64(i)/1000
		s := picked(b, now)
		if s == fresh {
			got++
		}
		answers(s, 10*time.Millisecond, 200, now)
	}
	if got < 75 || got > 175 {
		t.Errorf("the new server got %d of 500 requests after it answered, want about 125", got)
	}
}

// A fast server that lets a request wait is avoided while it does, although its answers were
// faster.
func TestWaitingServerIsAvoided(t *testing.T) {
	b := simulated(t, latencyName, 1, 1)
	fast, slow := b.list()[0], b.list()[1]
	fast.countInFlight(1)
	slow.countInFlight(1)
	answers(fast, time.Millisecond, 200, 1)
	answers(slow, 100*time.Millisecond, 200, 1)
	if picked(b, 1) != fast {
		t.Fatal("the faster server is not preferred")
	}
	if picked(b, 1.001) != fast {
		t.Error("the server is avoided after a millisecond")
	}
	if picked(b, 2) != slow {
		t.Error("the server gets requests although one has waited for a second")
	}
	answers(fast, time.Millisecond, 200, 2)
	slow.countInFlight(-1)
	if picked(b, 2.001) != fast {
		t.Error("the server is avoided after it answered")
	}
	fast.countInFlight(-2) // the clients have gone
	if picked(b, 3) != fast || picked(b, 3.001) != fast {
		t.Error("the server is avoided although no request has waited")
	}
}

// All servers are new: the requests are divided evenly, although none has answered.
func TestNoServerHasAnswered(t *testing.T) {
	b := simulated(t, latencyName, equal(4)...)
	for range 100 {
		picked(b, 1)
	}
	for _, s := range b.list() {
		if n := s.load(); n < 15 || n > 35 {
			t.Errorf("%s got %d of 100 requests, want about 25", s.Address, n)
		}
	}
}

// The average follows a slower answer at once and a faster one slowly; a fast failure does not
// lower it; without recent answers it begins anew.
func TestAverage(t *testing.T) {
	b := simulated(t, latencyName, 1, 1)
	f, s := b.members.Load().tiers[0].balancer.(*fastest), b.list()[0]
	var seconds float64
	for _, c := range []struct {
		after    float64 // seconds
		took     time.Duration
		status   int
		low, top float64 // of the cost afterwards, in ms
	}{
		{1, 10 * time.Millisecond, 200, 10, 10},
		{0.01, 100 * time.Millisecond, 200, 100, 100},
		{0.01, 10 * time.Millisecond, 200, 99, 100},
		{0.01, time.Millisecond, 503, 99, 100},
		{3, 0, 413, 99, 100},                            // before it had the whole request
		{5, 10 * time.Millisecond, 200, 60, 70},         // 10 + 90/sqrt(e)
		{1, 300 * time.Millisecond, 0, 270, 300},        // no answer in that time
		{1, 100 * time.Millisecond, 0, 230, 300},        // no news
		{11, time.Millisecond, 500, 60, 300},            // a failure after a long time
		{12, 20 * time.Millisecond, 200, 20, 20},        // an answer after a long time
		{0.001, 30 * time.Millisecond, 200, 30, 30.001}, // slower again
	} {
		seconds += c.after
		s.countInFlight(1)
		answers(s, c.took, c.status, seconds)
		if got := f.cost(s, int64(at(seconds).Sub(epoch))) / 1e6; got < c.low || got > c.top {
			t.Errorf("after %v, %d at %.2f s: the cost is %.2f ms, want %v to %v", c.took, c.status, seconds, got, c.low, c.top)
		}
	}
}

// A slow server whose answers are old is probed again, by few of the requests; it then has the
// time of that answer.
func TestSlowServerComesBack(t *testing.T) {
	b := simulated(t, latencyName, 1, 1)
	slow := b.list()[0]
	for _, s := range b.list() {
		s.countInFlight(1)
		took := time.Millisecond
		if s == slow {
			took = time.Minute
		}
		answers(s, took, 200, 1)
	}
	count := func(from float64, took time.Duration) (got int) {
		for i := range 400 {
			now := from + float64(i)/100
			s := picked(b, now)
			if s == slow {
				got++
			}
			answers(s, took, 200, now)
		}
		return got
	}
	if got := count(2, time.Millisecond); got != 0 {
		t.Errorf("the slow server got %d requests, want none within 10 s", got)
	}
	if got := count(11.5, time.Millisecond); got < 100 {
		t.Errorf("the server, fast again, got %d of 400 requests, want about half", got)
	}
}

// A server that has only failed, and fast, is probed like one that has not answered: it does not
// get the requests of those that work.
func TestFailingServerIsNotFast(t *testing.T) {
	b := simulated(t, latencyName, equal(4)...)
	failing := b.list()[0]
	for _, s := range b.list()[1:] {
		s.countInFlight(1)
		answers(s, 10*time.Millisecond, 200, 1)
	}
	got := 0
	for i := range 500 {
		now := 1 + float64(i)/1000
		s := picked(b, now)
		if s == failing {
			got++
			answers(s, 100*time.Microsecond, 503, now)
		} else {
			answers(s, 10*time.Millisecond, 200, now)
		}
	}
	if got != 1 {
		t.Errorf("the server that fails got %d of 500 requests within half a second, want 1", got)
	}
}

// While servers have not answered, the round-trip times of their connections decide. A near server
// that is new is still tried at once, and a far one later.
func TestRoundTripTimeBeforeAnswers(t *testing.T) {
	b := simulated(t, latencyName, 1, 1)
	near, far := b.list()[0], b.list()[1]
	near.latency.noteRTT(20 * time.Millisecond)
	far.latency.noteRTT(200 * time.Millisecond)
	if s := picked(b, 1); s != near {
		t.Error("the far server was chosen first")
	}
	answers(near, 30*time.Millisecond, 200, 1.1)
	firstFar := 0
	for i := 1; firstFar == 0; i++ {
		if i > 1000 {
			t.Fatal("the far server was never tried")
		}
		now := 1.1 + float64(i)/1000
		s := picked(b, now)
		if s == far {
			firstFar = i
		}
		answers(s, 30*time.Millisecond, 200, now)
	}
	t.Logf("the far server was tried with request %d", firstFar)

	b = simulated(t, latencyName, 1, 1)
	near, far = b.list()[0], b.list()[1]
	far.countInFlight(1)
	answers(far, 230*time.Millisecond, 200, 1)
	near.latency.noteRTT(20 * time.Millisecond)
	if s := picked(b, 1.1); s != near {
		t.Error("the near server, which is new, was not tried at once")
	}
}

// A connect says how far a server is, and later the kernel, for a kept connection.
func TestRoundTripTimeOfConnections(t *testing.T) {
	proxytest.NeedMPTCP(t)
	o := proxytest.NewOrigin(t, mptcp.Prefer, proxytest.Echo)
	b, _ := pool(t, Options{Balance: latencyName, Servers: []ServerOptions{{Address: o.Address(), MPTCP: mptcp.Prefer}}})
	ask(t, b, "GET")
	s := b.list()[0]
	if s.latency.rtt.Load() <= 0 {
		t.Error("no round-trip time is known after a connect")
	}
	s.latency.answer(time.Millisecond, false, int64(time.Since(epoch)))
	s.latency.noteRTT(time.Hour)
	s.refreshRTT(time.Now())
	if got := time.Duration(s.latency.rtt.Load()); got != time.Hour {
		t.Errorf("the kernel was asked about a server that answers: %v", got)
	}
	s.refreshRTT(time.Now().Add(2 * latencyRecent))
	if got := time.Duration(s.latency.rtt.Load()); got <= 0 || got > proxytest.Patience {
		t.Errorf("the kernel reports a round-trip time of %v", got)
	}
}
