package paths

import (
	"net"
	"regexp"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// pass makes a pass of the accounting now.
func (r *rig) pass() {
	r.t.Helper()
	done := make(chan struct{})
	r.m.calls <- func() { r.m.accountAll(); r.m.publish(); close(done) }
	<-done
}

// sourceRule returns the rule for packets from the address of the second link at a place.
func sourceRule(t *testing.T, p *lab.Place, from net.IP) (rule *netlink.Rule) {
	t.Helper()
	err := p.Do(func() error {
		list, err := netlink.RuleList(unix.AF_INET)
		for i := range list {
			if s := list[i].Src; s != nil && s.IP.Equal(from) {
				rule = &list[i]
			}
		}
		return err
	})
	if err != nil || rule == nil {
		t.Fatalf("the lab has no source rule for %s (%v)", from, err)
	}
	return rule
}

// A path without a source route gets no subflow: it is unjoined, and says why. When the route comes
// the kernel joins there, also on the connections that exist.
func TestPathWithoutRouteIsUnjoined(t *testing.T) {
	for _, manage := range []Manage{ManageSync, ManageWatch} {
		t.Run(manage.String(), func(t *testing.T) {
			spec := lab.Pair(2, lab.Path{})
			spec.Places = []lab.PlaceSpec{{Name: "client", NoEndpoints: manage == ManageSync}}
			l := lab.Start(t, spec)
			r := &rig{t: t, lab: l, place: l.Place("client"), up: map[string]bool{}}
			rule := sourceRule(t, r.place, net.IPv4(10, 77, 2, 1))
			do := func(f func() error) {
				t.Helper()
				if err := r.place.Do(f); err != nil {
					t.Fatal(err)
				}
			}
			do(func() error { return netlink.RuleDel(rule) })
			// Linux takes the server for a neighbour on the link. On this link, which has no ARP,
			// its packets would arrive.
			if err := l.Link("link2").SetBox(lab.DropJoin); err != nil {
				t.Fatal(err)
			}
			r.open(Options{Manage: manage, Failover: FailoverLink, Paths: twoPaths})
			if manage == ManageSync {
				r.wantFlags("10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow")
			}
			client, server := r.connect(&mptcp.Dialer{Mode: mptcp.Require})
			r.add(client, Back)
			two := func() PathStatus { return r.m.Status().Paths[1] }
			until(t, "the path is unjoined", func() bool { r.pass(); return two().State == Unjoined })
			if want := regexp.MustCompile(`^there is no route from 10\.77\.2\.1 to 10\.77\.1\.2 by link2; remedy: `); !want.MatchString(two().Why) {
				t.Errorf("the reason is %q, want %s", two().Why, want)
			}
			if _, _, up := r.events(); !up["one"] || up["two"] {
				t.Errorf("up: %v", up)
			}

			do(func() error { return netlink.RuleAdd(rule) })
			if err := l.Link("link2").SetBox(lab.NoBox); err != nil {
				t.Fatal(err)
			}
			if manage == ManageWatch { // connections that exist do not get the subflow: new ones do
				r.wake(t, "joins are tried again")
				next, _ := r.connect(&mptcp.Dialer{Mode: mptcp.Require})
				r.add(next, Back)
			} else {
				r.m.wakeUp()
				until(t, "a join on the connection that exists", func() bool { return locals(t, client) == "10.77.1.1 10.77.2.1" })
			}
			until(t, "the path is up", func() bool { r.pass(); return two().State == Up && two().Why == "" })
			until(t, "told that it is up", func() bool { _, _, up := r.events(); return up["two"] })
			r.exchange(client, server)
		})
	}
}

// wake has the manager look at the host until the log has a line.
func (r *rig) wake(t *testing.T, line string) {
	t.Helper()
	re := regexp.MustCompile(regexp.QuoteMeta(line))
	until(t, line, func() bool { r.m.wakeUp(); return re.MatchString(r.logged()) })
}

// Nothing is said of a path as long as no connection could have used it, or one does.
func TestPathIsNotUnjoinedWithoutEvidence(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Manage: ManageSync, Failover: FailoverLink, Paths: twoPaths})
	r.wantFlags("10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow")
	state := func() (s [2]State) {
		for i, p := range r.m.Status().Paths {
			s[i] = p.State
		}
		return s
	}
	for range 4 {
		r.pass()
	}
	if state() != [2]State{} {
		t.Errorf("without connections: %v", state())
	}
	client, _ := r.connect(&mptcp.Dialer{Mode: mptcp.Require})
	r.add(client, Back)
	until(t, "the second subflow", func() bool { return locals(t, client) == "10.77.1.1 10.77.2.1" })
	for range 4 {
		r.pass()
	}
	if state() != [2]State{} {
		t.Errorf("with both subflows: %v", state())
	}
}

// The reasons besides a missing route: no endpoint, the limit, and a server that accepts no join.
func TestWhyUnjoined(t *testing.T) {
	for name, tt := range map[string]struct {
		limits *mptcp.Limits
		server mptcp.Limits
		manage Manage
		want   string
	}{
		"no endpoint": {nil, mptcp.Limits{Subflows: 2}, ManageWatch, `^the kernel has no endpoint 10\.77\.2\.1 with the flag subflow; remedy: manage = "sync"`},
		"limit":       {&mptcp.Limits{}, mptcp.Limits{Subflows: 2}, ManageSync, `^the connections have 0 further subflows, as many as the limit allows; remedy: limits = \{ subflows = 1 \}`},
		"server":      {nil, mptcp.Limits{}, ManageSync, `^no join from 10\.77\.2\.1 to 10\.77\.1\.2 has succeeded`},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, "client", lab.Path{}, Options{})
			r.stop()
			server := &rig{t: t, lab: r.lab, place: r.lab.Place("server")}
			server.pm(func(pm *mptcp.PathManager) error { _, err := pm.SetLimits(tt.server); return err })
			r.open(Options{Manage: tt.manage, Failover: FailoverLink, Paths: twoPaths, Limits: tt.limits})
			if tt.manage == ManageSync {
				r.wantFlags("10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow")
			}
			until(t, "read", func() bool { s := r.m.Status(); return len(s.Paths) == 2 && (tt.limits == nil || s.InSync()) })
			client, _ := r.connect(&mptcp.Dialer{Mode: mptcp.Require})
			r.add(client, Back)
			until(t, "the path is unjoined", func() bool { r.pass(); return r.m.Status().Paths[1].State == Unjoined })
			if why := r.m.Status().Paths[1].Why; !regexp.MustCompile(tt.want).MatchString(why) {
				t.Errorf("the reason is %q, want %s", why, tt.want)
			}
		})
	}
}

// The state lasts while nothing new is known, and joins are tried again from time to time.
func TestUnjoinedIsTriedAgain(t *testing.T) {
	m, p := &Manager{o: Options{}.withDefaults()}, &path{state: Up, resolved: resolved{declared: true}}
	m.o.Manage, m.paths = ManageSync, []*path{p}
	now := time.Now()
	m.setUnjoined(p, "a reason", now)
	m.judgeJoins(now)
	if s := p.status(); s.State != Unjoined || s.Why != "a reason" || !s.Since.Equal(now) {
		t.Errorf("got %+v", s)
	}
	p.fail(Down, "interface x is down", now)
	m.judgeJoins(now)
	if s := p.status(); s.State != Down || p.unjoined != "" {
		t.Errorf("got %+v, unjoined %q", s, p.unjoined)
	}
}
