package mptcp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mpgate/internal/need"
)

// newNetns moves the test's thread into a new network namespace with lo up and
// those addresses on it. The thread ends with the test, and the namespace with it.
func newNetns(t *testing.T, addrs ...string) {
	t.Helper()
	need.Root(t, "making a network namespace")
	runtime.LockOSThread() // and never unlocked
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		need.Missing(t, "unshare: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
}

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestHostWithoutMPTCP(t *testing.T) {
	needMPTCP(t)
	newNetns(t)
	noFDLeak(t)
	ln, err := net.Listen("tcp4", "127.0.0.1:0") // MPTCP still
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	sysctl(t, "net.mptcp.enabled", "0")

	const why = "MPTCP is off in this network namespace (net.mptcp.enabled=0)"
	const remedy = "sysctl -w net.mptcp.enabled=1"
	s := Probe()
	if s.Usable || s.Why != why || s.Remedy != remedy || !errors.Is(s.Err, unix.ENOPROTOOPT) || s.Kernel == "" {
		t.Errorf("%+v", s)
	}

	c, r, err := (&Dialer{}).Dial(context.Background(), addrOf(ln))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if want := (Result{Transport: Fallback, Reason: HostUnable}); r != want {
		t.Errorf("result %v, want %v", r, want)
	}
	want := "dial tcp " + ln.Addr().String() + ": MPTCP is required and not available: " + why + "; remedy: " + remedy
	_, r, err = (&Dialer{Mode: Require}).Dial(context.Background(), addrOf(ln))
	if err == nil || err.Error() != want || !errors.Is(err, unix.ENOPROTOOPT) || r.Reason != HostUnable {
		t.Errorf("got %v %v\nwant %s", err, r, want)
	}

	l, granted, err := Listen(context.Background(), "127.0.0.1:0", ListenOptions{})
	if err != nil || granted != TCP {
		t.Fatalf("listen: granted %q, %v", granted, err)
	}
	l.Close()
	_, _, err = Listen(context.Background(), "127.0.0.1:0", ListenOptions{Mode: Require})
	want = "listen tcp4 127.0.0.1:0: MPTCP is required and not available: " + why + "; remedy: " + remedy
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestKillSwitch(t *testing.T) {
	needMPTCP(t)
	t.Setenv("GODEBUG", "multipathtcp=0")
	l := listen(t, "127.0.0.1:0", Off)
	if got, granted, err := Listen(context.Background(), "127.0.0.1:0", ListenOptions{}); err != nil || granted != TCP {
		t.Errorf("listen: %q %v", granted, err)
	} else {
		got.Close()
	}
	_, _, r := pair(t, &Dialer{}, l)
	if want := (Result{Transport: TCP}); r != want {
		t.Errorf("dial: %v", r)
	}
	const want = "MPTCP is required and not available: MPTCP is turned off by GODEBUG=multipathtcp=0 in the environment; " +
		"remedy: remove multipathtcp=0 from GODEBUG and restart"
	if _, _, err := (&Dialer{Mode: Require}).Dial(context.Background(), addrOf(l)); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("dial, required: %v", err)
	}
	if _, _, err := Listen(context.Background(), "127.0.0.1:0", ListenOptions{Mode: Require}); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("listen, required: %v", err)
	}
	if s := Host(); s.Usable || !s.FullInfo == host().FullInfo {
		t.Errorf("host: %+v", s)
	}
}

// twoPaths is a namespace in which 10.9.0.1 and 10.9.0.2 reach 10.9.0.9, and an
// MPTCP connection from the first with a subflow from the second.
func twoPaths(t *testing.T) (client, server *net.TCPConn, pm *PathManager) {
	t.Helper()
	needMPTCP(t)
	newNetns(t, "10.9.0.1/24", "10.9.0.2/24", "10.9.0.9/24")
	pm, err := OpenPathManager()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pm.Close() })
	if _, err := pm.SetLimits(Limits{Subflows: 4, AddrAccepted: 4}); err != nil {
		t.Fatal(err)
	}
	if _, err := pm.AddEndpoint(Endpoint{Addr: netip.MustParseAddr("10.9.0.2"), Flags: FlagSubflow | FlagBackup}); err != nil {
		t.Fatal(err)
	}
	l := listen(t, "10.9.0.9:0", Require)
	client, server, _ = pair(t, &Dialer{Source: netip.MustParseAddr("10.9.0.1")}, l)
	return client, server, pm
}

// until asks again and again, and fails after 10 s. The kernel makes and ends subflows on its own.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("still not: " + what)
		}
		<-tick.C
	}
}

func subflows(t testing.TB, c *net.TCPConn) int {
	t.Helper()
	n, err := SubflowCount(rawOf(t, c))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestInfoTwoSubflows(t *testing.T) {
	client, server, _ := twoPaths(t)
	until(t, "two subflows", func() bool { return subflows(t, client) == 2 })
	big := make([]byte, 300_000)
	var wg sync.WaitGroup
	wg.Go(func() { client.Write(big) })
	if _, err := io.ReadFull(server, make([]byte, len(big))); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	d, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()

	var i Info
	until(t, "everything acknowledged", func() bool {
		if err := i.Read(rawOf(t, client)); err != nil {
			t.Fatal(err)
		}
		return i.BytesAcked >= 300_001
	})
	if err := d.Fill(&i); err != nil {
		t.Fatal(err)
	}
	all := HasConnection | HasSubflows | HasTCP | HasDiag
	if i.Has&all != all || i.SubflowsTotal != 2 || i.SubflowsExtra != 1 || len(i.Subflows) != 2 || i.Token == 0 || !i.RemoteKey || i.FellBack {
		t.Fatalf("info %+v", i)
	}
	var sent uint64
	for _, s := range i.Subflows {
		sent += s.BytesSent
		if s.Remote != server.LocalAddr().(*net.TCPAddr).AddrPort() || s.State != StateEstablished || s.RTT == 0 || s.SndMSS == 0 || s.SndCwnd == 0 {
			t.Errorf("subflow %+v", s)
		}
	}
	first, second := i.Subflows[0], i.Subflows[1]
	if first.Local != client.LocalAddr().(*net.TCPAddr).AddrPort() || !first.Initial || first.ID != 1 || first.Backup || first.LocalID != 0 {
		t.Errorf("the initial subflow is %+v", first)
	}
	if second.Local.Addr() != netip.MustParseAddr("10.9.0.2") || second.Initial || second.ID != 2 || !second.Backup || second.LocalID != 1 {
		t.Errorf("the second subflow is %+v", second)
	}
	if i.BytesSent < 300_001 || sent < i.BytesSent {
		t.Errorf("bytes: %d of the connection, %d of its subflows", i.BytesSent, sent)
	}
	if want := HasIDs; i.Has&want != want {
		t.Errorf("has %b", i.Has)
	}

	// The way of the kernels before 6.5 must say the same.
	var old Info
	q := queries.New().(*query)
	q.info = &old
	rawOf(t, client).Control(func(fd uintptr) { q.readArrays(int(fd)) })
	if len(old.Subflows) != 2 || old.Has != HasSubflows|HasTCP {
		t.Fatalf("by arrays: %+v", old)
	}
	for k, s := range old.Subflows {
		n := i.Subflows[k]
		if s.Local != n.Local || s.Remote != n.Remote || s.State != n.State || s.BytesSent < n.BytesSent || s.SndMSS != n.SndMSS {
			t.Errorf("by arrays %+v\nall in one %+v", s, n)
		}
	}
}

// More subflows than the first call has room for.
func TestInfoMakesRoom(t *testing.T) {
	client, _, _ := twoPaths(t)
	until(t, "two subflows", func() bool { return subflows(t, client) == 2 })
	q := queries.New().(*query)
	q.makeRoom(1)
	// readFull would ask for the usual room first: here there is room for one.
	q.info = new(Info)
	rawOf(t, client).Control(func(fd uintptr) {
		if e := q.readFullWithin(int(fd)); e != 0 {
			t.Error(e)
		}
	})
	if len(q.info.Subflows) != 2 || q.room < 2 {
		t.Errorf("%d subflows, room %d", len(q.info.Subflows), q.room)
	}
}

func TestDestroySubflow(t *testing.T) {
	client, server, _ := twoPaths(t)
	until(t, "two subflows", func() bool { return subflows(t, client) == 2 })
	ev, err := OpenEvents()
	if err != nil {
		t.Fatal(err)
	}
	defer ev.Close()
	d, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var i Info
	if err := i.Read(rawOf(t, client)); err != nil {
		t.Fatal(err)
	}
	dead := i.Subflows[0]
	if err := d.Destroy(dead.Local, dead.Remote, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "one subflow", func() bool { return subflows(t, client) == 1 })
	exchange(t, client, server)
	exchange(t, server, client)
	if err := i.Read(rawOf(t, client)); err != nil {
		t.Fatal(err)
	}
	for _, s := range i.Subflows {
		// One that has just ended may be listed still, with its last counts.
		if closed := s.Local == dead.Local; closed != (s.State == StateClosed) || !closed && (s.ID != 2 || s.Initial) {
			t.Errorf("left is %+v", s)
		}
	}
	if i.SubflowsTotal != 1 {
		t.Errorf("%d subflows are left", i.SubflowsTotal)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		e, err := ev.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == EventSubflowClosed && e.Local == dead.Local && e.Remote == dead.Remote && e.Token == i.Token {
			break
		}
	}
	err = d.Destroy(dead.Local, dead.Remote, 0)
	if !errors.Is(err, unix.ENOENT) || !strings.HasPrefix(err.Error(), "destroy subflow "+dead.Local.String()+" -> "+dead.Remote.String()) {
		t.Errorf("a second time: %v", err)
	}
}

func TestEvents(t *testing.T) {
	needMPTCP(t)
	newNetns(t, "10.9.0.1/24", "10.9.0.2/24", "10.9.0.9/24")
	noFDLeak(t)
	ev, err := OpenEvents()
	if err != nil {
		t.Fatal(err)
	}
	defer ev.Close()
	pm, err := OpenPathManager()
	if err != nil {
		t.Fatal(err)
	}
	defer pm.Close()
	if _, err := pm.AddEndpoint(Endpoint{Addr: netip.MustParseAddr("10.9.0.2"), Flags: FlagSubflow}); err != nil {
		t.Fatal(err)
	}
	l := listen(t, "10.9.0.9:0", Require)
	client, server, _ := pair(t, &Dialer{Source: netip.MustParseAddr("10.9.0.1")}, l)
	until(t, "two subflows", func() bool { return subflows(t, client) == 2 })
	var i Info
	if err := i.Read(rawOf(t, client)); err != nil {
		t.Fatal(err)
	}
	token := i.Token
	client.Close()
	server.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var ofClient []Event
	for {
		e, err := ev.Next(ctx)
		if err != nil {
			t.Fatalf("%v; so far %+v", err, ofClient)
		}
		if e.Token == token {
			ofClient = append(ofClient, e)
			if e.Type == EventClosed {
				break
			}
		}
	}
	has := func(typ EventType, ok func(Event) bool) {
		t.Helper()
		if !slices.ContainsFunc(ofClient, func(e Event) bool { return e.Type == typ && ok(e) }) {
			t.Errorf("no event %s as expected in %+v", typ, ofClient)
		}
	}
	local, remote := client.LocalAddr().(*net.TCPAddr).AddrPort(), addrOf(l)
	initial := func(e Event) bool { return e.Local == local && e.Remote == remote && !e.ServerSide }
	has(EventCreated, initial)
	has(EventEstablished, initial)
	has(EventSubflowEstablished, func(e Event) bool {
		return e.Local.Addr() == netip.MustParseAddr("10.9.0.2") && e.Remote == remote && e.LocalID == 1 && !e.Backup && e.Error == 0
	})

	// The end of a wait.
	short, end := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		for {
			if _, err := ev.Next(short); err != nil {
				done <- err
				return
			}
		}
	}()
	end()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	go func() {
		for {
			if _, err := ev.Next(context.Background()); err != nil {
				done <- err
				return
			}
		}
	}()
	ev.Close()
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	needMPTCP(t)
	newNetns(t, "10.9.0.1/24", "2001:db8::1/64")
	noFDLeak(t)
	pm, err := OpenPathManager()
	if err != nil {
		t.Fatal(err)
	}
	defer pm.Close()
	if l, err := pm.Limits(); err != nil || l != (Limits{Subflows: 2}) {
		t.Errorf("limits of a new namespace: %+v %v", l, err)
	}
	if l, err := pm.SetLimits(Limits{Subflows: 3, AddrAccepted: 5}); err != nil || l != (Limits{Subflows: 3, AddrAccepted: 5}) {
		t.Errorf("limits: %+v %v", l, err)
	}
	if _, err := pm.SetLimits(Limits{Subflows: 99}); !errors.Is(err, unix.EINVAL) || !strings.HasPrefix(err.Error(), "set MPTCP limits: ") {
		t.Errorf("limits out of range: %v", err)
	}
	v4 := Endpoint{Addr: netip.MustParseAddr("10.9.0.1"), Flags: FlagSubflow | FlagFullmesh, Interface: 1}
	v6 := Endpoint{Addr: netip.MustParseAddr("2001:db8::1"), Flags: FlagSignal, Port: 8443, ID: 7}
	got4, err := pm.AddEndpoint(v4)
	if err != nil {
		t.Fatal(err)
	}
	got6, err := pm.AddEndpoint(v6)
	if err != nil {
		t.Fatal(err)
	}
	v4.ID = got4.ID
	if v4.ID == 0 || got4 != v4 || got6 != v6 {
		t.Errorf("stored %+v and %+v", got4, got6)
	}
	if all, err := pm.Endpoints(); err != nil || len(all) != 2 || !slices.Contains(all, v4) || !slices.Contains(all, v6) {
		t.Errorf("all: %+v %v", all, err)
	}
	if _, err := pm.AddEndpoint(v6); err == nil || !strings.HasPrefix(err.Error(), "add MPTCP endpoint 2001:db8::1: ") {
		t.Errorf("twice: %v", err)
	}
	v4.Flags |= FlagBackup
	if got, err := pm.SetFlags(v4); err != nil || got != v4 {
		t.Errorf("flags: %+v %v", got, err)
	}
	if err := pm.DelEndpoint(v4.ID, netip.Addr{}); err != nil {
		t.Error(err)
	}
	if err := pm.DelEndpoint(v4.ID, netip.Addr{}); err == nil || !strings.HasPrefix(err.Error(), "delete MPTCP endpoint ") {
		t.Errorf("deleted twice: %v", err)
	}
	if all, err := pm.Endpoints(); err != nil || len(all) != 1 {
		t.Errorf("left: %+v %v", all, err)
	}
	if err := pm.FlushEndpoints(); err != nil {
		t.Error(err)
	}
	if all, err := pm.Endpoints(); err != nil || len(all) != 0 {
		t.Errorf("left: %+v %v", all, err)
	}
}

// SYNs that ask for MPTCP vanish: a dial that waits for the kernel to give up
// asking is put down to that, and the next, which does not ask any more, too.
func TestBlackhole(t *testing.T) {
	needMPTCP(t)
	newNetns(t)
	if _, err := os.Stat("/proc/sys/net/mptcp/blackhole_timeout"); err != nil {
		need.Missing(t, "this kernel detects no black holes (Linux 6.12 does)")
	}
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader("table ip t { chain c { type filter hook input priority 0; tcp flags & (syn|ack) == syn tcp option mptcp exists drop; }; }")
	if out, err := nft.CombinedOutput(); err != nil {
		need.Missing(t, "nft cannot drop by MPTCP option: %v: %s", err, out)
	}
	sysctl(t, "net.mptcp.syn_retrans_before_tcp_fallback", "0")
	l := listen(t, "127.0.0.1:0", Require)
	hosts := blackhole
	blackhole = new(blackholeWatch) // this namespace's
	defer func() { blackhole = hosts }()
	for _, which := range []string{"the first", "a later"} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		c, r, err := (&Dialer{}).Dial(ctx, addrOf(l))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if want := (Result{Transport: Fallback, Reason: Blackhole}); r != want {
			t.Errorf("%s dial: %v, want %v", which, r, want)
		}
	}
	n, err := ReadCounters()
	if err != nil || n["Blackhole"] != 1 || n["MPCapableSYNTXDrop"] != 1 || n["MPCapableSYNTXDisabled"] == 0 {
		t.Errorf("counters %v %v %v, %v", n["Blackhole"], n["MPCapableSYNTXDrop"], n["MPCapableSYNTXDisabled"], err)
	}
}
