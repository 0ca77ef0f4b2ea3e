package backend

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/telemetry"
)

var refusedError = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

func contextWithCancel(t *testing.T) (context.Context, func()) {
	ctx, cancel := context.WithCancel(t.Context())
	return ctx, cancel
}

// A server that is drained gets nothing new, finishes what it has, and comes back.
func TestDrain(t *testing.T) {
	for _, to := range []AdminState{AdminDrain, AdminDown} {
		answer := make(chan struct{})
		origin := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
			for c.Request() != nil {
				<-answer
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
			}
		})
		other := proxytest.NewOrigin(t, mptcp.Off, silent)
		b, in := pool(t, Options{Servers: servers(origin.Address(), other.Address())})
		var a Attempt
		a.Reset(b)
		up, err := a.Open(t.Context(), &Request{Now: time.Now(), Bodyless: true})
		if err != nil || a.Server() != b.list()[0] {
			t.Fatalf("%v, %v", a.Server(), err)
		}
		if n, left := b.SetAdminState(origin.Address(), to); n != 1 || left != 1 {
			t.Errorf("%d servers with %d requests, want 1 with 1", n, left)
		}
		if n, _ := b.SetAdminState("192.0.2.1:80", to); n != 0 {
			t.Error("an unknown server is drained")
		}
		for range 4 {
			if server, _, err := open(t, b); err != nil || server != other.Address() {
				t.Errorf("%v: %s, %v; want the other server", to, server, err)
			}
		}
		if st := b.Status()[0]; st.InProgress != 1 || st.Admin != to || st.Down {
			t.Errorf("status %+v, want one request in progress", st)
		}
		if mayKeep := b.list()[0].mayKeep(time.Now()); mayKeep != (to == AdminDrain) {
			t.Errorf("%v: requests that belong to the server: %v", to, mayKeep)
		}
		if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_server_drained", "server", origin.Address()); n != 1 {
			t.Errorf("%v: the metric says that it is not drained", to)
		}
		for _, state := range []AdminState{AdminDrain, AdminDown} {
			n := proxytest.Metric(t, in.Registry(), "mpgate_backend_server_changes_total", "server", origin.Address(), "state", state.String(), "reason", "admin")
			if (n == 1) != (state == to) {
				t.Errorf("%v: %v changes to %v are counted", to, n, state)
			}
		}
		close(answer)
		if got := exchange(t, up, "GET"); got != "done" {
			t.Errorf("got %q", got)
		}
		if st := b.Status()[0]; st.InProgress != 0 {
			t.Errorf("status %+v, want nothing in progress", st)
		}
		b.SetAdminState(other.Address(), to)
		if _, _, err := open(t, b); !errors.Is(err, ErrNoServer) {
			t.Errorf("%v: got %v without a server, want %v", to, err, ErrNoServer)
		}
		b.SetAdminState(origin.Address(), AdminUp)
		if server, _, err := open(t, b); err != nil || server != origin.Address() {
			t.Errorf("%s, %v; want the server that is back", server, err)
		}
	}
}

// The idle connections of a server that is drained are closed, so that it may end at once.
func TestDrainClosesIdleConnections(t *testing.T) {
	left := make(chan error, 10)
	origin := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		for c.Request() != nil {
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
		}
		_, err := c.R.ReadByte()
		left <- err
	})
	b, in := pool(t, Options{Servers: servers(origin.Address())})
	ask(t, b, "GET")
	if n := b.Status()[0].Idle; n != 1 {
		t.Fatalf("%d idle connections, want 1", n)
	}
	b.SetAdminState(origin.Address(), AdminDrain)
	if err := await(t, left); err != io.EOF {
		t.Errorf("the server reads %v, want the end", err)
	}
	proxytest.WaitMetric(t, in.Registry(), 0, "mpgate_backend_connections_open")
}

// With HTTP/2 the shared connections end, too, and a later request gets a new one.
func TestDrainHTTP2(t *testing.T) {
	server := proxytest.NewRefusing(t)
	serveH2C(t, server.Listen())
	b, in := pool(t, Options{Servers: servers(server.Address), Protocol: HTTP2})
	ask(t, b, "GET")
	b.SetAdminState(server.Address, AdminDrain)
	proxytest.WaitMetric(t, in.Registry(), 0, "mpgate_backend_connections_open")
	b.SetAdminState(server.Address, AdminUp)
	if got := ask(t, b, "GET"); got != "HTTP/2.0" {
		t.Errorf("got %q", got)
	}
}

// endlessCheck has no result.
type endlessCheck struct{}

func (endlessCheck) run(ctx context.Context, _ *Server) error {
	<-ctx.Done()
	return ctx.Err()
}

// What is known of servers is passed to the next backend, as JSON where that is another process.
func TestStatesAreRestored(t *testing.T) {
	o := Options{Servers: someServers, Eject: &EjectOptions{Errors: 1, Rest: time.Hour}, SlowStart: time.Hour, Health: "a"}
	unchecked := func(b *Backend) { b.check = endlessCheck{} }
	b, _ := pool(t, o, unchecked)
	l := b.list()
	l[0].setAdminState(AdminDrain)
	l[1].fail(telemetry.ChangeCheck, &checkError{"GET /: status 503"})
	attemptOn(b, l[2]).NoteStatus(502)
	l[3].startSlowly(time.Now())
	text, err := json.Marshal(b.States())
	if err != nil {
		t.Fatal(err)
	}
	var states []ServerState
	if err := json.Unmarshal(text, &states); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(states); err != nil || string(again) != string(text) {
		t.Errorf("read from JSON: %s, %v; want %s", again, err, text)
	}

	next := o
	next.Restore = states
	next.Servers = append(servers("192.0.2.9:80"), someServers...)
	reports := reporting(&next)
	b, in := pool(t, next, unchecked)
	l = b.list()[1:]
	proxytest.WaitMetric(t, in.Registry(), 0, "mpgate_backend_server_up", "server", l[1].Address)
	proxytest.WaitMetric(t, in.Registry(), 1, "mpgate_backend_server_drained", "server", l[0].Address)
	now := time.Now()
	if b.list()[0].slowShare(now) == 1 {
		t.Error("a new server gets its whole share at once")
	}
	if l[0].available(now) != keptOnly || l[1].healthy() || l[2].healthy() || l[3].slowShare(now) == 1 {
		t.Errorf("states %+v, want %+v", b.States(), states)
	}
	if e := l[2].ejected.Load(); e == nil || e.until.Sub(now) < 30*time.Minute {
		t.Errorf("ejection %+v, want one for an hour", e)
	}
	if w := b.Status()[2].Why; w != "GET /: status 503" {
		t.Errorf("why %q", w)
	}
	if len(reports.down) != 0 {
		t.Errorf("what is known is reported again: %v", <-reports.down)
	}

	// What was found by another check does not count.
	next.Health = "b"
	b, _ = pool(t, next, unchecked)
	l = b.list()[1:]
	if l[0].available(now) != keptOnly || !l[1].healthy() || !l[2].healthy() {
		t.Errorf("states %+v with another check", b.States())
	}
}

// An outage of before goes on until a check succeeds.
func TestRestoredOutageEnds(t *testing.T) {
	origin := proxytest.NewOrigin(t, mptcp.Off, silent)
	o := Options{Servers: servers(origin.Address()), Restore: []ServerState{{Address: origin.Address(), Down: time.Now().Add(-time.Minute), Why: "refused"}}}
	r := reporting(&o)
	b, _ := pool(t, o)
	if got := await(t, r.up); got != origin.Address() {
		t.Errorf("%s is back", got)
	}
	waitAvailable(t, b, true)
}
