package backend

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
)

// attemptOn is an attempt whose last server is s.
func attemptOn(b *Backend, s *Server) *Attempt {
	a := &Attempt{}
	a.Reset(b)
	a.server = s
	return a
}

// someServers are addresses of servers that are never dialled.
var someServers = servers("192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80", "192.0.2.4:80")

// Errors in a row eject a server, for longer each time; after its rest it gets requests again.
func TestErrorsInARowEject(t *testing.T) {
	for _, rest := range []time.Duration{time.Hour, 20 * time.Millisecond} {
		o := Options{Servers: someServers[:2], Eject: &EjectOptions{Errors: 3, Rest: rest}}
		r := reporting(&o)
		b, in := pool(t, o)
		s := b.list()[0]
		a := attemptOn(b, s)
		for _, ok := range []int{200, 404, 501, 505} {
			a.NoteStatus(502)
			a.NoteStatus(503)
			a.NoteStatus(ok)
		}
		if !s.healthy() {
			t.Fatal("ejected without errors in a row")
		}
		a.NoteStatus(500)
		a.NoteFailure(errors.New("no answer"))
		a.NoteStatus(503)
		if err := await(t, r.down); !strings.Contains(err.Error(), "3 errors in a row, the last: status 503") {
			t.Errorf("reported %v", err)
		}
		changes := func(to string) float64 {
			return proxytest.Metric(t, in.Registry(), "mpgate_backend_server_changes_total", "server", s.Address, "state", to, "reason", "eject")
		}
		if n := changes("down"); n != 1 {
			t.Errorf("%v changes to down, want 1", n)
		}
		if rest == time.Hour {
			if s.available(time.Now()) != asLastResort {
				t.Error("a server with three errors in a row gets requests")
			}
			continue
		}
		if got := await(t, r.up); got != s.Address {
			t.Errorf("%s is back", got)
		}
		if s.available(time.Now()) != available || changes("up") != 1 {
			t.Error("the server gets no requests after its rest")
		}
	}
}

func TestRestGrows(t *testing.T) {
	b, _ := pool(t, Options{Servers: someServers, Eject: &EjectOptions{Errors: 1, Rest: time.Minute}})
	s := b.list()[0]
	eject := func() time.Duration {
		attemptOn(b, s).NoteStatus(502)
		e := s.ejected.Load()
		if e == nil {
			t.Fatal("not ejected")
		}
		s.endEjection(e)
		return e.until.Sub(e.began)
	}
	for i, want := range []time.Duration{1, 2, 4, 5, 5} {
		if got := eject(); got != want*time.Minute {
			t.Errorf("ejection %d lasts %v, want %v", i, got, want*time.Minute)
		}
	}
	b.healthMu.Lock()
	s.outcomes.ended = s.outcomes.ended.Add(-3 * time.Minute)
	b.healthMu.Unlock()
	if got := eject(); got != 4*time.Minute {
		t.Errorf("after three minutes without one it lasts %v, want 4 m", got)
	}
}

// A share of errors ejects a server, if there are enough requests.
func TestRatioEjects(t *testing.T) {
	b, _ := pool(t, Options{Servers: someServers[:2], Eject: &EjectOptions{Ratio: 0.5, Rest: time.Hour}})
	s, other := b.list()[0], b.list()[1]
	for range ejectVolume - 1 {
		attemptOn(b, s).NoteStatus(502)
	}
	if !s.healthy() {
		t.Error("ejected for the share of a few requests")
	}
	attemptOn(b, s).NoteStatus(502)
	if s.healthy() {
		t.Error("not ejected with all requests failing")
	}
	for range 10 * ejectVolume {
		attemptOn(b, other).NoteStatus(200)
		attemptOn(b, other).NoteStatus(200)
		attemptOn(b, other).NoteStatus(502)
	}
	if !other.healthy() {
		t.Error("ejected with a third of the requests failing")
	}
	var o outcomes
	for range 100 {
		o.note(3*time.Second, true)
	}
	if all, failed := o.recent(12 * time.Second); all != 100 || failed != 100 {
		t.Errorf("%d of %d failed, want 100 of 100 of 9 s ago", failed, all)
	}
	if all, failed := o.recent(13 * time.Second); all != 0 || failed != 0 {
		t.Errorf("%d of %d failed, want none of 10 s ago", failed, all)
	}
	o.note(13*time.Second, false)
	if all, failed := o.recent(13 * time.Second); all != 1 || failed != 0 {
		t.Errorf("%d of %d failed, want 0 of 1", failed, all)
	}
}

// However many fail, some servers are left: at most a share is ejected, one may always be, and
// never all.
func TestMostServersStay(t *testing.T) {
	for _, c := range []struct {
		servers int
		most    float64
		want    int
	}{{1, 1, 0}, {2, 0.5, 1}, {2, 0.1, 1}, {2, 1, 1}, {4, 0.5, 2}, {4, 1, 3}, {3, 0.5, 1}} {
		b, _ := pool(t, Options{Servers: someServers[:c.servers], Eject: &EjectOptions{Errors: 1, Rest: time.Hour, Most: c.most}})
		ejected := 0
		for _, s := range b.list() {
			attemptOn(b, s).NoteStatus(502)
			if !s.healthy() {
				ejected++
			}
		}
		if ejected != c.want {
			t.Errorf("%d of %d servers are ejected at most %v, want %d", ejected, c.servers, c.most, c.want)
		}
	}
}

// The last server that is left otherwise is not ejected.
func TestTheOnlyReachableServerStays(t *testing.T) {
	b, _ := pool(t, Options{Servers: servers(proxytest.NewRefusing(t).Address, "192.0.2.1:80"), Eject: &EjectOptions{Errors: 1, Rest: time.Hour}})
	if _, _, err := b.list()[0].dial(t.Context(), Addresses{}, false); err == nil {
		t.Fatal("connected to a server that refuses")
	}
	attemptOn(b, b.list()[1]).NoteStatus(502)
	if !b.list()[1].healthy() {
		t.Error("the only server that can be reached is ejected")
	}
}

func TestWithoutEject(t *testing.T) {
	b, _ := pool(t, Options{Servers: someServers[:2]})
	s := b.list()[0]
	for range 100 {
		attemptOn(b, s).NoteStatus(502)
	}
	if !s.healthy() {
		t.Error("a server is ejected without the key")
	}
	b, _ = pool(t, Options{Servers: someServers[:2], Eject: &EjectOptions{Errors: 5, Ratio: 0.5}})
	a := attemptOn(b, b.list()[0])
	if n := testing.AllocsPerRun(1000, func() { a.NoteStatus(200) }); n != 0 {
		t.Errorf("%v allocations for a response, want none", n)
	}
}
