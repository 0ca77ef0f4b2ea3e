package backend

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/telemetry"
)

// With fewer than half of the servers healthy, those count again that can be reached.
func TestTooFewServers(t *testing.T) {
	o := Options{Servers: someServers}
	type said struct {
		on               bool
		healthy, servers int
	}
	says := make(chan said, 10)
	o.Panic = func(on bool, healthy, servers int) { says <- said{on, healthy, servers} }
	b, in := pool(t, o, probingEvery(time.Hour))
	l := b.list()
	failed := &checkError{"GET /: status 503"}
	now := time.Now()
	l[0].fail(telemetry.ChangeCheck, failed)
	l[1].fail(telemetry.ChangeCheck, failed)
	if l[0].available(now) != asLastResort {
		t.Error("a server that fails its checks gets requests, though half are healthy")
	}
	l[2].connectFailed(refusedError)
	if l[0].available(now) != available || l[1].available(now) != available {
		t.Error("servers that fail their checks get no requests, though too few are healthy")
	}
	if l[2].available(now) != asLastResort {
		t.Error("a server that refuses gets requests because too few are healthy")
	}
	if got := await(t, says); got != (said{true, 1, 4}) {
		t.Errorf("reported %v, want 1 of 4", got)
	}
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_panic"); n != 1 {
		t.Error("the metric does not say so")
	}
	// What an operator takes out is not missing.
	l[1].setAdminState(AdminDown)
	l[2].setAdminState(AdminDrain)
	if l[0].available(now) != asLastResort || proxytest.Metric(t, in.Registry(), "mpgate_backend_panic") != 0 {
		t.Error("one of two servers is too few")
	}
	if l[1].available(now) != unavailable || l[2].available(now) != keptOnly {
		t.Error("servers that an operator took out get requests")
	}
}

// Requests do not wait for a server that does not answer: already before the first connect has
// failed, once it has taken too long, they go to another server.
func TestSilentServerCostsNoRequests(t *testing.T) {
	dead := proxytest.FullQueue(t, netip.MustParseAddrPort("127.0.0.1:0"))
	other := proxytest.NewOrigin(t, mptcp.Off, silent)
	b, _ := pool(t, Options{Servers: servers(dead, other.Address()), ConnectTimeout: proxytest.Patience})
	s := b.list()[0]
	ctx, stop := contextWithCancel(t)
	waiting := make(chan error, 1)
	go func() {
		_, _, err := s.dial(ctx, Addresses{}, false)
		waiting <- err
	}()
	if !proxytest.Within(proxytest.Patience, func() bool { return s.connecting.since.Load() != 0 }) {
		t.Fatal("the connect is not known")
	}
	now := epoch.Add(time.Duration(s.connecting.since.Load()))
	if s.available(now) != available {
		t.Error("a server is avoided at the first connect")
	}
	if got := s.available(now.Add(2 * connectTooLong)); got != asLastResort {
		t.Errorf("availability %d while a connect waits for long, want a last resort", got)
	}
	stop()
	if err := <-waiting; err == nil {
		t.Error("connected")
	}
	if s.available(now.Add(2*connectTooLong)) != available {
		t.Error("a server is avoided for a connect that was given up")
	}
	began := s.connecting.begin()
	s.connecting.end(began+1, nil)
	if s.available(now.Add(2*connectTooLong)) != available {
		t.Error("a server is avoided though a later connect succeeded")
	}
}

// While the only server is silent, requests get an answer at once, and make the next probe come
// soon.
func TestOnlyServerIsSilent(t *testing.T) {
	dead := proxytest.FullQueue(t, netip.MustParseAddrPort("127.0.0.1:0"))
	c := &scriptedCheck{}
	b, _ := pool(t, Options{Servers: servers(dead), ConnectTimeout: 50 * time.Millisecond}, func(b *Backend) { b.check = c }, probingEvery(time.Hour))
	if _, _, err := open(t, b); !TimedOut(err) {
		t.Fatalf("got %v, want a timeout", err)
	}
	for _, later := range []time.Duration{0, time.Hour} {
		var a Attempt
		a.Reset(b)
		if s := a.pick(time.Now().Add(later)); s != nil {
			t.Errorf("after %v the server is tried, want only probes", later)
		}
	}
	if n := c.runs.Load(); n != 0 {
		t.Errorf("%d probes within the delay, want none", n)
	}

	b, _ = pool(t, Options{Servers: servers(dead), ConnectTimeout: 50 * time.Millisecond}, func(b *Backend) { b.check = c }, probingEvery(10*time.Millisecond))
	c.allowed.Store(true)
	if _, _, err := open(t, b); !TimedOut(err) && !errors.Is(err, ErrNoServer) {
		t.Fatalf("got %v, want a timeout", err)
	}
	if !proxytest.Within(proxytest.Patience, func() bool { return b.list()[0].available(time.Now()) == available }) {
		t.Error("the server does not come back")
	}
}

// A request that finds no server makes the probe come before its delay is over.
func TestRequestsHurryTheProbe(t *testing.T) {
	s := &Server{backend: &Backend{firstProbeDelay: time.Millisecond}}
	o := newOutage(telemetry.ChangeConnect)
	o.lastFailure.Store(1)
	o.want()
	done := make(chan bool, 1)
	go func() { done <- s.awaitProbe(t.Context(), o, time.Hour) }()
	if !await(t, done) {
		t.Error("the outage ended")
	}
}

func TestSlowStart(t *testing.T) {
	b, _ := pool(t, Options{Servers: someServers[:1], SlowStart: 100 * time.Second})
	s := b.list()[0]
	now := time.Now()
	if w := s.slowShare(now); w != 1 {
		t.Errorf("a server has the share %v at the start of mpgate, want 1", w)
	}
	s.connectFailed(refusedError)
	s.connectSucceeded()
	began := epoch.Add(time.Duration(s.slow.since.Load()))
	for _, c := range []struct {
		after time.Duration
		want  float64
	}{{0, 0.1}, {5 * time.Second, 0.1}, {20 * time.Second, 0.2}, {75 * time.Second, 0.75}, {100 * time.Second, 1}, {time.Hour, 1}} {
		if w := s.slowShare(began.Add(c.after)); w < c.want-0.01 || w > c.want+0.01 {
			t.Errorf("after %v the share is %v, want %v", c.after, w, c.want)
		}
	}
	for _, to := range []AdminState{AdminDrain, AdminUp} {
		s.setAdminState(to)
	}
	if w := s.slowShare(time.Now()); w > 0.5 {
		t.Errorf("a server that was drained comes back with the share %v", w)
	}
}

// A server that starts slowly gets a part of its share with each balance, and all of it if there is
// no other.
func TestBalancersStartSlowly(t *testing.T) {
	for _, b := range balancers {
		p, _ := pool(t, Options{Servers: someServers[:2], SlowStart: 1000 * time.Hour, Balance: b.name})
		s, other := p.list()[0], p.list()[1]
		share := func() float64 {
			const requests = 2000
			got := 0
			for i := range requests {
				var a Attempt
				a.Reset(p)
				a.key = mix(uint64(i) + golden)
				if a.pick(time.Now()) == s {
					got++
				}
			}
			return float64(got) / requests
		}
		usual := share()
		s.startSlowly(time.Now())
		if got := share(); got > 0.25*usual || got == 0 {
			t.Errorf("%s: a server that starts slowly gets %v of the requests, otherwise %v", b.name, got, usual)
		}
		other.setAdminState(AdminDown)
		if got := share(); got != 1 {
			t.Errorf("%s: the only server gets %v of the requests", b.name, got)
		}
		other.setAdminState(AdminUp) // it starts slowly, too
		if got := share(); got < 0.8*usual {
			t.Errorf("%s: of two that start slowly one gets %v of the requests, otherwise %v", b.name, got, usual)
		}
	}
}

// A healthy backup server takes over: too few healthy servers do not count then.
func TestBackupInsteadOfPanic(t *testing.T) {
	list := servers("192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")
	list[2].Backup = true
	b, _ := pool(t, Options{Servers: list}, probingEvery(time.Hour))
	for _, s := range b.list()[:2] {
		s.fail(telemetry.ChangeCheck, &checkError{"GET /: status 503"})
	}
	var a Attempt
	a.Reset(b)
	if s := a.pick(time.Now()); s != b.list()[2] {
		t.Errorf("%v gets the request, want the backup server", s.Address)
	}
	b.list()[2].fail(telemetry.ChangeCheck, &checkError{"GET /: status 503"})
	if a.Reset(b); a.pick(time.Now()) == nil || !b.panics.Load() {
		t.Error("without a healthy server none is used")
	}
}

// A client keeps its server while that is drained, and not while it is down.
func TestCookieOfDrainedServer(t *testing.T) {
	b, _ := pool(t, Options{Servers: someServers[:2], Sticky: StickyOptions{Cookie: "srv", Key: []byte("k")}})
	s := b.list()[0]
	for state, want := range map[AdminState]bool{AdminDrain: true, AdminDown: false, AdminUp: true} {
		s.setAdminState(state)
		for range 4 {
			var a Attempt
			a.Reset(b)
			a.sticky = s
			if got := a.pick(time.Now()) == s; got != want {
				t.Errorf("%v: the client keeps its server: %v", state, got)
			}
		}
	}
}
