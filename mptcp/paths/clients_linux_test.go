package paths

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// forClients runs a manager at a server, whose client makes subflows only to what it is told of:
// one of its connections has one on both paths.
func forClients(t *testing.T) (r *rig, client, server *net.TCPConn, both func() bool) {
	t.Helper()
	spec := lab.Pair(2, lab.Path{})
	spec.Places = []lab.PlaceSpec{{Name: "client", NoEndpoints: true}, {Name: "server", NoEndpoints: true}}
	l := lab.Start(t, spec)
	if err := l.Place("client").SetLimits(8, 2); err != nil {
		t.Fatal(err)
	}
	r = &rig{t: t, lab: l, place: l.Place("server"), up: map[string]bool{}}
	r.open(Options{Manage: ManageSync, Failover: FailoverLink, Limits: &mptcp.Limits{Subflows: 8, AddrAccepted: 8}, Paths: []Path{
		{Name: "one", Interface: "link1", Role: ForListeners}, {Name: "two", Interface: "link2", Role: ForListeners}}})
	r.inSync(2)
	client, server = r.connect(&mptcp.Dialer{})
	r.add(server, Front)
	both = func() bool { return locals(t, server) == "10.77.1.2 10.77.2.2" }
	until(t, "two subflows", both)
	return r, client, server, both
}

// flap takes the second link away, until its subflow is gone, and back.
func (r *rig) flap(server *net.TCPConn, meanwhile func()) {
	r.t.Helper()
	link := r.lab.Link("link2")
	if err := link.Down("server"); err != nil {
		r.t.Fatal(err)
	}
	until(r.t, "one subflow", func() bool { return locals(r.t, server) == "10.77.1.2" })
	meanwhile()
	if err := link.Up("server"); err != nil {
		r.t.Fatal(err)
	}
}

// talk has a client ask without pause for what it numbers, until stop is called: each answer is
// checked.
func talk(t *testing.T, client, server *net.TCPConn, question, answer int) (stop func()) {
	t.Helper()
	over, done := make(chan struct{}), make(chan error, 2)
	fill := func(b []byte, n uint64) {
		for i := 0; i+8 <= len(b); i += 8 {
			binary.BigEndian.PutUint64(b[i:], n+uint64(i))
		}
	}
	_ = client.SetReadDeadline(time.Now().Add(2 * waitLimit))
	_ = server.SetReadDeadline(time.Now().Add(2 * waitLimit))
	read := func(c *net.TCPConn, got, want []byte, n uint64) error {
		_, err := io.ReadFull(c, got)
		if fill(want, n); err == nil && !bytes.Equal(got, want) {
			t.Errorf("exchange %d carried other bytes", n)
		}
		return err
	}
	go func() {
		q, want, a := make([]byte, question), make([]byte, question), make([]byte, answer)
		for n := uint64(0); ; n++ {
			if err := read(server, q, want, n); err != nil {
				select {
				case <-over:
					err = nil
				default:
				}
				done <- err
				return
			}
			fill(a, n)
			if _, err := server.Write(a); err != nil {
				done <- err
				return
			}
		}
	}()
	go func() {
		q, a, want := make([]byte, question), make([]byte, answer), make([]byte, answer)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := uint64(0); ; n++ {
			fill(q, n)
			if _, err := client.Write(q); err != nil {
				done <- err
				return
			}
			if err := read(client, a, want, n); err != nil {
				done <- err
				return
			}
			select {
			case <-tick.C:
			case <-over:
				done <- nil
				return
			}
		}
	}()
	return func() {
		close(over)
		if err := <-done; err != nil { // the client's, or what went wrong before
			t.Error(err)
		}
		_ = server.SetReadDeadline(time.Now())
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A client that sends requests, and no more, gets a path back that returned, while it continues.
func TestBackToClientWithRequests(t *testing.T) {
	r, client, server, both := forClients(t)
	stop := talk(t, client, server, 96, 16<<10)
	r.flap(server, func() { r.wantFlags("10.77.1.2 signal") })
	until(t, "two subflows again", both)
	stop()
}

// To a client that sends much it is announced again once that is over: see endangered.
func TestNotBackWhileClientSends(t *testing.T) {
	r, client, server, both := forClients(t)
	before := r.endpoints()
	stop := talk(t, client, server, 64<<10, 8)
	until(t, "much is sent", func() bool { return infoOf(t, server).BytesReceived > 4*uploadBytes })
	r.flap(server, func() {})
	until(t, "the path is back", func() bool { _, back, _ := r.events(); return len(back) == 1 })
	until(t, "its renewal waits", func() bool { return r.m.Status().Paths[1].Waiting == 1 })
	if got := r.endpoints(); !slices.Equal(got, before) {
		t.Errorf("endpoints are %+v, before %+v", got, before)
	}
	if !both() {
		stop()
		until(t, "two subflows once it is quiet", both)
	}
}

// Nor while it cannot continue, because what it sends is not taken.
func TestNotBackWhileUploadStands(t *testing.T) {
	r, client, server, _ := forClients(t)
	before := r.endpoints()
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, 16<<20))
		sent <- err
	}()
	if _, err := io.CopyN(io.Discard, server, 4*uploadBytes); err != nil {
		t.Fatal(err)
	}
	r.flap(server, func() {})
	until(t, "its renewal waits", func() bool { return r.m.Status().Paths[1].Waiting == 1 })
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for stood := time.Now(); time.Since(stood) < 2500*time.Millisecond; <-tick.C {
		if got := r.endpoints(); !slices.Equal(got, before) {
			t.Fatalf("after %v endpoints are %+v, before %+v", time.Since(stood), got, before)
		}
	}
	client.Close()
	<-sent
}
