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
	b, _ := pool(t, Options{Servers: []ServerOptions{{Address: "192.0.2.1:80", Weight: 10}}, SlowStart: 100 * time.Second})
	s := b.list()[0]
	now := time.Now()
	if w := s.effectiveWeight(now); w != 10 {
		t.Errorf("a server has the weight %v at the start of mpgate, want 10", w)
	}
	s.connectFailed(refusedError)
	s.connectSucceeded()
	began := epoch.Add(time.Duration(s.slow.since.Load()))
	for _, c := range []struct {
		after time.Duration
		want  float64
	}{{0, 1}, {5 * time.Second, 1}, {20 * time.Second, 2}, {75 * time.Second, 7.5}, {100 * time.Second, 10}, {time.Hour, 10}} {
		if w := s.effectiveWeight(began.Add(c.after)); w < c.want-0.01 || w > c.want+0.01 {
			t.Errorf("after %v the weight is %v, want %v", c.after, w, c.want)
		}
	}
	for _, to := range []AdminState{AdminDrain, AdminUp} {
		s.setAdminState(to)
	}
	if w := s.effectiveWeight(time.Now()); w > 5 {
		t.Errorf("a server that was drained comes back with the weight %v", w)
	}
}
