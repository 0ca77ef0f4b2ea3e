package paths

import (
	"encoding/binary"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// forServers runs a manager at a client: one of its connections has a subflow on both paths.
func forServers(t *testing.T) (r *rig, client, server *net.TCPConn, both func() bool) {
	t.Helper()
	r = start(t, "client", lab.Path{}, Options{Manage: ManageSync, Failover: FailoverLink, Limits: &mptcp.Limits{Subflows: 8, AddrAccepted: 8}, Paths: twoPaths})
	r.inSync(2)
	// The kernel takes what no route leads to for a neighbour. Here it is none.
	if err := r.lab.Place("server").Sysctl("net.ipv4.conf.all.arp_ignore", "1"); err != nil {
		t.Fatal(err)
	}
	client, server = r.connect(&mptcp.Dialer{})
	r.add(client, Back)
	both = func() bool { return locals(t, client) == "10.77.1.1 10.77.2.1" }
	until(t, "two subflows", both)
	return r, client, server, both
}

// The endpoint of a path that is back waits for the routes, which come after link and address: a
// join that left before them would be lost.
func TestReturnBeforeRoutes(t *testing.T) {
	r, client, server, both := forServers(t)
	link2 := r.lab.Link("link2")
	for {
		if err := link2.Down("client"); err != nil {
			t.Fatal(err)
		}
		until(t, "one subflow", func() bool { return locals(t, client) == "10.77.1.1" })
		_, before, _ := r.events()
		lost, begin := r.lostJoins(), time.Now()
		if out, err := r.place.Command(t.Context(), "ip", "link", "set", "link2", "up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		<-time.After(settleTime / 3) // as long as whoever makes the routes needs
		if err := link2.Up("client"); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		until(t, "the path is back", func() bool { _, back, _ := r.events(); return len(back) > len(before) })
		_, back, _ := r.events()
		if took >= max(settleTime, back[len(before)].Hold) {
			// This machine is so busy that the routes came too late. The hold is longer after
			// further returns.
			continue
		}
		until(t, "two subflows again", both)
		if now := r.lostJoins(); now != lost {
			t.Errorf("%d joins were sent again or could not leave", now-lost)
		}
		break
	}
	r.exchange(client, server)
}

// A join that was lost after a return is tried again.
func TestRejoin(t *testing.T) {
	r, client, server, both := forServers(t)
	link2 := r.lab.Link("link2")
	if err := link2.Down("client"); err != nil {
		t.Fatal(err)
	}
	until(t, "one subflow", func() bool { return locals(t, client) == "10.77.1.1" })
	if out, err := r.place.Command(t.Context(), "ip", "link", "set", "link2", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	until(t, "the path is back", func() bool { _, back, _ := r.events(); return len(back) == 1 })
	until(t, "the join is lost", func() bool { return strings.Contains(r.logged(), "trying again") })
	if err := link2.Up("client"); err != nil { // the routes come at last
		t.Fatal(err)
	}
	until(t, "two subflows again", both)
	r.exchange(client, server)
}

// As long as another connection uses the path, its endpoint stays, and that is said in the end.
func TestRejoinDisturbsNobody(t *testing.T) {
	r, user, server, both := forServers(t)
	if err := r.lab.Link("link2").SetBox(lab.DropJoin); err != nil {
		t.Fatal(err)
	}
	single, _ := r.connect(&mptcp.Dialer{})
	r.add(single, Back)
	before := r.endpoints()
	done := make(chan struct{})
	r.m.calls <- func() {
		defer close(done)
		p := r.m.paths[1]
		p.rejoin.begin(time.Now())
		for range maxRejoins {
			r.m.rejoin(p, time.Now())
		}
	}
	<-done
	if log := r.logged(); !strings.Contains(log, `msg="some connections have no subflow on a path that came back" path=two connections=1 others_have=1`) ||
		strings.Contains(log, "trying again") {
		t.Errorf("logged %s", log)
	}
	if got := r.endpoints(); !slices.Equal(got, before) {
		t.Errorf("endpoints are %+v, before %+v", got, before)
	}
	if !both() {
		t.Errorf("subflows %s", locals(t, user))
	}
	r.exchange(user, server)
}

// lostJoins counts the SYNs that were sent again, or could not be sent.
func (r *rig) lostJoins() (n int) {
	r.t.Helper()
	var text []byte
	err := r.place.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	found := false
	lines := strings.Split(string(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 { // names, and values
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for k, name := range names {
			if !slices.Contains([]string{"TCPSynRetrans", "MPJoinSynTxConnectErr", "MPJoinSynTxBindErr"}, name) {
				continue
			}
			found = found || name == "TCPSynRetrans"
			v, err := strconv.Atoi(values[k])
			if err != nil {
				r.t.Fatal(err)
			}
			n += v
		}
	}
	if !found {
		r.t.Fatalf("no TCPSynRetrans in\n%s", text)
	}
	return n
}

// An interface that never comes to rest holds up its path for a while, and no longer.
func TestSettle(t *testing.T) {
	rt := &rtnetlink{last: map[int]time.Time{}}
	m := &Manager{rt: rt}
	begin := time.Now()
	p := &path{resolved: resolved{index: 7}}
	wait := func(want time.Duration) {
		t.Helper()
		if got := m.settlesAt(p).Sub(begin); got != want {
			t.Errorf("settles after %v, want %v", got, want)
		}
	}
	if at := m.settlesAt(p); !at.IsZero() {
		t.Errorf("a path that has not moved settles at %v", at)
	}
	p.settlingSince = begin
	tell := func(after time.Duration, kind netlink.HeaderType, index int) (host bool) {
		t.Helper()
		head := make([]byte, unix.SizeofIfInfomsg)
		binary.NativeEndian.PutUint32(head[4:], uint32(index))
		if kind == unix.RTM_NEWROUTE {
			ae := netlink.NewAttributeEncoder()
			ae.Uint32(unix.RTA_OIF, uint32(index))
			attrs, err := ae.Encode()
			if err != nil {
				t.Fatal(err)
			}
			head = slices.Concat(make([]byte, unix.SizeofRtMsg), attrs)
		}
		return rt.note([]netlink.Message{{Header: netlink.Header{Type: kind}, Data: head}}, begin.Add(after))
	}
	if !tell(0, unix.RTM_NEWLINK, 7) {
		t.Error("a link is nothing of the host's")
	}
	wait(settleTime)
	if !tell(10*time.Millisecond, unix.RTM_NEWADDR, 7) {
		t.Error("an address is nothing of the host's")
	}
	if tell(40*time.Millisecond, unix.RTM_NEWROUTE, 7) {
		t.Error("a route has everything read anew")
	}
	tell(60*time.Millisecond, unix.RTM_NEWROUTE, 8) // another's
	wait(40*time.Millisecond + settleTime)
	tell(70*time.Millisecond, unix.RTM_NEWRULE, 0) // anybody's
	wait(70*time.Millisecond + settleTime)
	tell(maxSettleTime, unix.RTM_NEWROUTE, 7)
	wait(maxSettleTime)
}

// owner is what a connection belongs to.
type owner struct{ retired atomic.Int32 }

func (o *owner) Retire() { o.retired.Add(1) }

// A connection to a server that did not get a subflow on a path that is back, though others did, is
// to be replaced.
func TestReplaceWhatHasNoSubflow(t *testing.T) {
	r, _, _, _ := forServers(t)
	if err := r.lab.Link("link2").SetBox(lab.DropJoin); err != nil {
		t.Fatal(err)
	}
	single, _ := r.connect(&mptcp.Dialer{})
	r.add(single, Back)
	client, _ := r.connect(&mptcp.Dialer{})
	r.add(client, Front)
	owners := make([]owner, 3)
	r.mu.Lock()
	for i := range r.conns {
		r.conns[i].Owner = &owners[i]
	}
	r.mu.Unlock()
	done := make(chan struct{})
	r.m.calls <- func() {
		defer close(done)
		p := r.m.paths[1]
		p.rejoin.begin(time.Now())
		for range maxRejoins {
			r.m.rejoin(p, time.Now())
		}
	}
	<-done
	for i, want := range []int32{0, 1, 0} { // that has one, that has none, that is a client's
		if n := owners[i].retired.Load(); n != want {
			t.Errorf("connection %d was retired %d times, want %d", i+1, n, want)
		}
	}
}

// Without an endpoint of ours nothing brings the subflow back: the connection is to be replaced
// once the path is there again.
func TestReplaceWhatCannotBeRenewed(t *testing.T) {
	spec := lab.Pair(2, lab.Path{})
	l := lab.Start(t, spec)
	r := &rig{t: t, lab: l, place: l.Place("client"), up: map[string]bool{}}
	r.open(Options{Failover: FailoverLink})
	until(t, "interfaces found", func() bool { return len(r.m.Status().Paths) == 2 })
	client, server := r.connect(&mptcp.Dialer{})
	until(t, "two subflows", func() bool { return locals(t, client) == "10.77.1.1 10.77.2.1" })
	r.add(client, Back)
	var o owner
	r.mu.Lock()
	r.conns[0].Owner = &o
	r.mu.Unlock()
	if err := l.Link("link2").Down("client"); err != nil {
		t.Fatal(err)
	}
	until(t, "one subflow", func() bool { return locals(t, client) == "10.77.1.1" })
	if err := l.Link("link2").Up("client"); err != nil {
		t.Fatal(err)
	}
	until(t, "it is retired", func() bool { return o.retired.Load() > 0 })
	r.exchange(client, server)
}
