package paths

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
	"mpgate/internal/need"
	"mpgate/mptcp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitLimit is more than maxHold: on a busy machine a test may have to try again.
const waitLimit = 90 * time.Second

// until waits for the thing itself.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(waitLimit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for: %s", waitLimit, what)
		}
	}
}

// rig is a manager that runs in a place of a lab.
type rig struct {
	t     *testing.T
	lab   *lab.Lab
	place *lab.Place
	m     *Manager
	stop  func()

	mu      sync.Mutex
	conns   []Conn
	cuts    []Cut
	returns []Return
	up      map[string]bool
	log     bytes.Buffer
}

func (r *rig) source(yield func(Conn) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		if !yield(c) {
			return
		}
	}
}

func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

func (r *rig) events() (cuts []Cut, returns []Return, up map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	up = map[string]bool{}
	for k, v := range r.up {
		up[k] = v
	}
	return slices.Clone(r.cuts), slices.Clone(r.returns), up
}

func (r *rig) options(o Options) Options {
	o.Source = r.source
	o.Logger = slog.New(slog.NewTextHandler(r, nil))
	o.Hooks = Hooks{
		Up:     func(p string, up bool) { r.mu.Lock(); r.up[p] = up; r.mu.Unlock() },
		Gone:   func(p string) { r.mu.Lock(); delete(r.up, p); r.mu.Unlock() },
		Cut:    func(c Cut) { r.mu.Lock(); r.cuts = append(r.cuts, c); r.mu.Unlock() },
		Return: func(b Return) { r.mu.Lock(); r.returns = append(r.returns, b); r.mu.Unlock() },
	}
	return o
}

// start runs a manager in a place of a lab of two links.
func start(t *testing.T, place string, path lab.Path, o Options) *rig {
	t.Helper()
	spec := lab.Pair(2, path)
	spec.Places = []lab.PlaceSpec{{Name: place, NoEndpoints: true}}
	l := lab.Start(t, spec)
	r := &rig{t: t, lab: l, place: l.Place(place), up: map[string]bool{}}
	r.open(o)
	return r
}

func (r *rig) open(o Options) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	opened, done := make(chan error, 1), make(chan error, 1)
	go func() {
		done <- r.place.Do(func() error {
			m, err := Open(r.options(o))
			r.m = m
			opened <- err
			if err != nil {
				return err
			}
			return m.Run(ctx)
		})
	}()
	if err := <-opened; err != nil {
		cancel()
		<-done
		r.t.Fatal(err)
	}
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("run: %v", err)
		}
	})
	r.t.Cleanup(r.stop)
}

func (r *rig) endpoints() (out []mptcp.Endpoint) {
	r.t.Helper()
	r.pm(func(pm *mptcp.PathManager) (err error) { out, err = pm.Endpoints(); return err })
	return out
}

func (r *rig) pm(f func(*mptcp.PathManager) error) {
	r.t.Helper()
	err := r.place.Do(func() error {
		pm, err := mptcp.OpenPathManager()
		if err != nil {
			return err
		}
		defer pm.Close()
		return f(pm)
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// flags lists the endpoints as "ADDRESS FLAGS".
func (r *rig) flags() string {
	r.t.Helper()
	var s []string
	for _, e := range r.endpoints() {
		s = append(s, keyOf(e).String()+" "+e.Flags.String())
	}
	slices.Sort(s)
	return strings.Join(s, "; ")
}

func (r *rig) wantFlags(want string) {
	r.t.Helper()
	for end := time.Now().Add(waitLimit); r.flags() != want; runtime.Gosched() {
		if time.Now().After(end) {
			r.t.Fatalf("endpoints are %s, want %s; log:\n%s", r.flags(), want, r.logged())
		}
	}
}

func (r *rig) add(c *net.TCPConn, side Side) {
	r.t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.conns = append(r.conns, Conn{Raw: rc, Side: side})
	r.mu.Unlock()
}

// connect makes a connection from the client's first address to the server's.
func (r *rig) connect(d *mptcp.Dialer) (client, server *net.TCPConn) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	l, err := r.lab.Place("server").Listen(ctx, lab.MPTCP, ":0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	first := r.lab.Link("link1")
	to := netip.AddrPortFrom(first.AddrB.Addr(), uint16(l.Addr().(*net.TCPAddr).Port))
	err = r.lab.Place("client").Do(func() (err error) {
		client, _, err = d.Dial(ctx, to)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if server, err = l.AcceptTCP(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { client.Close(); server.Close() })
	r.exchange(client, server)
	return client, server
}

func (r *rig) exchange(a, b *net.TCPConn) {
	r.t.Helper()
	one := []byte{1}
	for _, c := range [][2]*net.TCPConn{{a, b}, {b, a}} {
		_ = c[1].SetReadDeadline(time.Now().Add(waitLimit))
		if _, err := c[0].Write(one); err != nil {
			r.t.Fatal(err)
		}
		if _, err := io.ReadFull(c[1], one); err != nil {
			r.t.Fatal(err)
		}
	}
}

// infoOf is what the kernel says of a connection.
func infoOf(t *testing.T, c *net.TCPConn) (i mptcp.Info) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Read(rc); err != nil {
		t.Fatal(err)
	}
	return i
}

// locals lists the local addresses of the live subflows.
func locals(t *testing.T, c *net.TCPConn) string {
	t.Helper()
	i := infoOf(t, c)
	var s []string
	for k := range i.Subflows {
		if i.Subflows[k].State == mptcp.StateEstablished {
			s = append(s, i.Subflows[k].Local.Addr().String())
		}
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

var twoPaths = []Path{{Name: "one", Interface: "link1"}, {Name: "two", Interface: "link2"}}

func TestSync(t *testing.T) {
	o := Options{Manage: ManageSync, Failover: FailoverLink, Limits: &mptcp.Limits{Subflows: 3, AddrAccepted: 2}, Paths: slices.Clone(twoPaths)}
	r := start(t, "client", lab.Path{}, o)
	const one, two = "10.77.1.1 signal,subflow", "10.77.2.1 signal,subflow"
	r.wantFlags(one + "; " + two)
	limits := func() (l mptcp.Limits) {
		r.pm(func(pm *mptcp.PathManager) (err error) { l, err = pm.Limits(); return err })
		return l
	}
	until(t, "in sync", func() bool { s := r.m.Status(); return len(s.Endpoints) == 2 && s.InSync() })
	if l := limits(); l != *o.Limits {
		t.Errorf("limits %+v", l)
	}
	for addr, want := range map[string]string{"10.77.1.1": "one", "10.77.2.1": "two", "10.77.3.1": "", "127.0.0.1": ""} {
		if got := r.m.PathAt(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is of path %q, want %q", addr, got, want)
		}
	}

	// A link goes, and comes back.
	link2 := r.lab.Link("link2")
	if err := link2.Down("client"); err != nil {
		t.Fatal(err)
	}
	r.wantFlags(one)
	until(t, "told that it is down", func() bool { _, _, up := r.events(); return up["one"] && !up["two"] })
	until(t, "status", func() bool {
		p := r.m.Status().Paths[1]
		return p.State == Down && p.Why == "interface link2 is down" && p.Cuts == 1
	})
	if err := link2.Up("client"); err != nil {
		t.Fatal(err)
	}
	r.wantFlags(one + "; " + two)
	until(t, "told that it is back", func() bool { _, back, up := r.events(); return up["two"] && len(back) == 1 && back[0].Hold == 0 })

	// It flaps: held.
	if err := link2.Down("client"); err != nil {
		t.Fatal(err)
	}
	r.wantFlags(one)
	if err := link2.Up("client"); err != nil {
		t.Fatal(err)
	}
	until(t, "held", func() bool {
		p := r.m.Status().Paths[1]
		return p.State == Returning && p.Why == "it flaps: held for 1s"
	})
	r.wantFlags(one + "; " + two)

	// Another configuration.
	o.Paths = []Path{{Name: "one", Interface: "link1", Role: ForBackends, Backup: true}, {Name: "far", Address: ip("203.0.113.7"), Announce: true}}
	o.Limits = nil
	if err := r.m.Update(r.options(o)); err != nil {
		t.Fatal(err)
	}
	r.wantFlags("10.77.1.1 subflow,backup; 203.0.113.7 signal")
	until(t, "the old path is gone", func() bool { _, _, up := r.events(); _, there := up["two"]; return !there && up["far"] })

	r.stop()
	if got := r.flags(); got != "" {
		t.Errorf("left behind: %s", got)
	}
	if l := limits(); l != (mptcp.Limits{Subflows: 2}) {
		t.Errorf("limits afterwards %+v", l)
	}
}

// A path that loses one of its addresses is not down: nothing is cut, and what used the address is
// ended.
func TestLostAddress(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Manage: ManageSync, Failover: FailoverLink, Paths: slices.Clone(twoPaths)})
	const both = "10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow"
	r.wantFlags(both)
	address := func(verb string) {
		t.Helper()
		if out, err := r.place.Command(t.Context(), "ip", "address", verb, "10.77.2.9/24", "dev", "link2").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	address("add")
	r.wantFlags(both + "; 10.77.2.9 signal,subflow")
	address("del")
	r.wantFlags(both)
	until(t, "said", func() bool { return strings.Contains(r.logged(), "path has lost an address") })
	if p := r.m.Status().Paths[1]; p.State != Up || p.Cuts != 0 {
		t.Errorf("%+v", p)
	}
	if cuts, _, up := r.events(); len(cuts) != 0 || !up["two"] {
		t.Errorf("cuts %+v, up %v", cuts, up)
	}
}

// A declared path that is down from the start is logged, and so is its coming; durations are
// readable.
func TestDownAtStartIsLogged(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Manage: ManageWatch, Paths: []Path{{Name: "one", Interface: "link1"}, {Name: "late", Interface: "late0"}}})
	until(t, "said", func() bool {
		return strings.Contains(r.logged(), `level=WARN msg="path is down" path=late why="there is no interface late0"`)
	})
	if strings.Contains(r.logged(), "path=one") {
		t.Errorf("a path that is up is in the log:\n%s", r.logged())
	}
	for _, arg := range []string{"name link2 down", "name link2 name late0", "name late0 up"} {
		args := append([]string{"link", "set", "dev"}, strings.Fields(arg)[1:]...)
		if out, err := r.place.Command(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", arg, err, out)
		}
	}
	until(t, "back", func() bool {
		return regexp.MustCompile(`msg="path is back" path=late after=[0-9.]+m?s held=0s`).MatchString(r.logged())
	})
	if n := strings.Count(r.logged(), "path is down"); n != 1 {
		t.Errorf("said %d times:\n%s", n, r.logged())
	}
}

func TestSyncKeep(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Manage: ManageSync, Keep: true, Limits: &mptcp.Limits{Subflows: 5}, Paths: twoPaths})
	want := "10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow"
	r.wantFlags(want)
	until(t, "in sync", func() bool { s := r.m.Status(); return s.InSync() })
	r.stop()
	if got := r.flags(); got != want {
		t.Errorf("left: %s", got)
	}
}

// Endpoints of others stay as they are, and one of ours that another program takes
// away is not fought for.
func TestOthersEndpoints(t *testing.T) {
	spec := lab.Pair(2, lab.Path{})
	spec.Places = []lab.PlaceSpec{{Name: "client", NoEndpoints: true}}
	l := lab.Start(t, spec)
	r := &rig{t: t, lab: l, place: l.Place("client"), up: map[string]bool{}}
	theirs := mptcp.Endpoint{Addr: ip("10.77.1.1"), Flags: mptcp.FlagSubflow, ID: 9}
	r.pm(func(pm *mptcp.PathManager) error { _, err := pm.AddEndpoint(theirs); return err })
	o := Options{Manage: ManageSync, Paths: slices.Clone(twoPaths)}
	r.open(o)
	const conflict = "endpoint 10.77.1.1 was made by another program with flags subflow, and the path needs signal,subflow; adopt = true would change it"
	r.wantFlags("10.77.1.1 subflow; 10.77.2.1 signal,subflow")
	until(t, "the conflict is named", func() bool { return slices.Contains(r.m.Status().Notes, conflict) })

	r.pm(func(pm *mptcp.PathManager) error {
		for _, e := range r.endpoints() {
			if e.Addr == ip("10.77.2.1") {
				return pm.DelEndpoint(e.ID, e.Addr)
			}
		}
		return errors.New("not there")
	})
	r.m.wakeUp() // as rtnetlink and the clock do
	until(t, "the other writer is named", func() bool {
		return slices.Contains(r.m.Status().Notes, "endpoint 10.77.2.1 another program removed it")
	})
	if log := r.logged(); strings.Count(log, "another program removed it; it is not changed until the configuration or the host changes") != 1 {
		t.Errorf("logged: %s", log)
	}
	if got := r.flags(); got != "10.77.1.1 subflow" {
		t.Errorf("fought for it: %s", got)
	}

	// Adopted, and given back at the end; a new configuration is a new try.
	o.Adopt = true
	if err := r.m.Update(r.options(o)); err != nil {
		t.Fatal(err)
	}
	r.wantFlags("10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow")
	r.stop()
	if left := r.endpoints(); len(left) != 1 || left[0] != theirs {
		t.Errorf("left: %+v", left)
	}
}

// watch needs no privilege and changes nothing; sync and fail-over say what they need.
func TestUnprivileged(t *testing.T) {
	l := lab.Start(t, lab.Pair(2, lab.Path{}))
	err := l.Place("client").Do(func() error {
		runtime.LockOSThread()
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&hdr, &data[0]); err != nil {
			return err
		}
		data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err := unix.Capset(&hdr, &data[0]); err != nil {
			return err
		}
		for what, o := range map[string]Options{
			`manage = "sync"`:   {Manage: ManageSync},
			`failover = "link"`: {Manage: ManageWatch, Failover: FailoverLink},
		} {
			_, err := Open(o)
			want := what + " needs CAP_NET_ADMIN; remedy: AmbientCapabilities=CAP_NET_ADMIN in the unit, or setcap cap_net_admin+ep on the program (operation not permitted)"
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		}
		m, err := Open(Options{Manage: ManageWatch, Paths: twoPaths, Limits: &mptcp.Limits{Subflows: 4, AddrAccepted: 4}})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		seen := make(chan Status, 1)
		go func() {
			defer cancel()
			until(t, "a status", func() bool { return len(m.Status().Paths) > 0 })
			seen <- m.Status()
		}()
		if err := m.Run(ctx); err != nil {
			return err
		}
		s := <-seen
		want := []string{
			"endpoint 10.77.1.1 was made by another program with flags subflow, and the path needs signal,subflow; adopt = true would change it",
			"endpoint 10.77.2.1 was made by another program with flags subflow, and the path needs signal,subflow; adopt = true would change it",
			"limits are 8 subflows and 8 addresses accepted, 4 and 4 would be right",
		}
		if !slices.Equal(s.Notes, want) || s.InSync() {
			t.Errorf("notes %q", s.Notes)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The last subflow of a connection stays, whatever has happened to its path, and so
// does that of a connection that is not ours.
func TestSpared(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Manage: ManageSync, Failover: FailoverLink, Limits: &mptcp.Limits{Subflows: 8, AddrAccepted: 8}, Paths: twoPaths})
	r.wantFlags("10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow")
	until(t, "in sync", func() bool { s := r.m.Status(); return s.InSync() })
	both, bothServer := r.connect(&mptcp.Dialer{})
	r.add(both, Back)
	until(t, "two subflows", func() bool { return locals(t, both) == "10.77.1.1 10.77.2.1" })
	if err := r.lab.Link("link2").SetBox(lab.DropJoin); err != nil {
		t.Fatal(err)
	}
	single, singleServer := r.connect(&mptcp.Dialer{})
	r.add(single, Back)
	if err := r.lab.Link("link1").Down("client"); err != nil {
		t.Fatal(err)
	}
	until(t, "one of the first is ended", func() bool { return locals(t, both) == "10.77.2.1" })
	until(t, "told of the cut", func() bool { cuts, _, _ := r.events(); return len(cuts) > 0 })
	cuts, _, _ := r.events()
	if len(cuts) != 1 || cuts[0].Subflows != 1 || cuts[0].Spared != 1 || cuts[0].Path != "one" {
		t.Errorf("cuts %+v", cuts)
	}
	r.exchange(both, bothServer)
	until(t, "told that it waits", func() bool { return r.m.Status().Paths[0].Waiting == 1 })
	if got := r.flags(); got != "10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow" {
		t.Errorf("endpoints %s %s %s", got, r.logged(), locals(t, single))
	}
	if err := r.lab.Link("link1").Up("client"); err != nil {
		t.Fatal(err)
	}
	r.exchange(single, singleServer) // it has lived through
	// With it gone nothing stands in the way of the endpoint's renewal.
	single.Close()
	until(t, "the path is used again", func() bool { return locals(t, both) == "10.77.1.1 10.77.2.1" })
	r.exchange(both, bothServer)
}

// Without sync only sockets of the source are touched.
func TestOthersConnections(t *testing.T) {
	spec := lab.Pair(2, lab.Path{})
	l := lab.Start(t, spec)
	r := &rig{t: t, lab: l, place: l.Place("client"), up: map[string]bool{}}
	r.open(Options{Failover: FailoverLink})
	until(t, "interfaces found", func() bool { return len(r.m.Status().Paths) == 2 })
	ours, oursServer := r.connect(&mptcp.Dialer{})
	theirs, theirsServer := r.connect(&mptcp.Dialer{})
	r.add(ours, Back)
	for _, c := range []*net.TCPConn{ours, theirs} {
		until(t, "two subflows", func() bool { return locals(t, c) == "10.77.1.1 10.77.2.1" })
	}
	if err := l.Link("link2").Down("client"); err != nil {
		t.Fatal(err)
	}
	until(t, "ours is ended", func() bool { return locals(t, ours) == "10.77.1.1" })
	if got := locals(t, theirs); got != "10.77.1.1 10.77.2.1" {
		t.Errorf("another's has %s", got)
	}
	r.exchange(ours, oursServer)
	r.exchange(theirs, theirsServer)
}

func TestNoHostNoRun(t *testing.T) {
	if _, err := Open(Options{Paths: []Path{{}}}); err == nil || err.Error() != "path 1 has no name\npath 1 (\"\") has neither interface nor address" {
		t.Errorf("got %v", err)
	}
	m, err := Open(Options{})
	if err != nil {
		need.Missing(t, "%v", err)
	}
	if err := m.Update(Options{Paths: []Path{{Name: "x"}}}); err == nil {
		t.Error("a faulty update was taken")
	}
	m.Close()
}
