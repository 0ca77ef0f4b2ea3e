package paths

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// mark has a path be in a state, as the manager would find it.
func (r *rig) mark(name string, s State) {
	r.t.Helper()
	done := make(chan struct{})
	r.m.calls <- func() {
		defer close(done)
		for _, p := range r.m.paths {
			if p.Name == name {
				p.state, p.probe = s, probe{cutAt: time.Now()}
			}
		}
		r.m.publish()
	}
	<-done
}

// A dial whose address is the kernel's choice leaves by another path while its own is silent, also
// one that has begun before that was known, whether it asks for MPTCP or not.
func TestDialAroundSilence(t *testing.T) {
	for _, mode := range []mptcp.Mode{mptcp.Off, mptcp.Prefer} {
		t.Run(mode.String(), func(t *testing.T) {
			r := start(t, "client", lab.Path{}, Options{Manage: ManageWatch, Failover: FailoverLink, Paths: twoPaths})
			until(t, "paths found", func() bool { return len(r.m.Status().Paths) == 2 })
			l, err := r.lab.Place("server").Listen(t.Context(), lab.MPTCP, ":0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			link1 := r.lab.Link("link1")
			to := netip.AddrPortFrom(link1.AddrB.Addr(), uint16(l.Addr().(*net.TCPAddr).Port))
			dial := func(d mptcp.Dialer) (from string) {
				t.Helper()
				d.Mode, d.SourceSelector = mode, r.m
				ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
				defer cancel()
				err := r.place.Do(func() error {
					c, _, err := d.Dial(ctx, to)
					if err == nil {
						from = c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().String()
						c.Close()
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return from
			}
			const one, two = "10.77.1.1", "10.77.2.1"
			if from := dial(mptcp.Dialer{}); from != one {
				t.Fatalf("from %s", from)
			}
			r.mark("one", Silent)
			if from := dial(mptcp.Dialer{}); from != two {
				t.Errorf("while path one is silent: from %s, want %s", from, two)
			}
			if from := dial(mptcp.Dialer{Source: netip.MustParseAddr(one)}); from != one {
				t.Errorf("with a source that was asked for: from %s", from)
			}
			r.mark("one", Up)
			if from := dial(mptcp.Dialer{}); from != one {
				t.Errorf("after its return: from %s, want %s", from, one)
			}
			r.mark("two", Silent)
			if from := dial(mptcp.Dialer{}); from != one {
				t.Errorf("while path two is silent: from %s, want %s", from, one)
			}
			r.mark("one", Silent)
			if from := dial(mptcp.Dialer{}); from != one {
				t.Errorf("while no path carries: from %s, want %s", from, one)
			}
			r.mark("one", Up)
			r.mark("two", Up)

			if err := link1.Silence(lab.AtoB, true); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(50*time.Millisecond, func() { r.mark("one", Silent) })
			if from := dial(mptcp.Dialer{}); from != two {
				t.Errorf("a dial that had begun: from %s, want %s", from, two)
			}
		})
	}
}

func TestFromCostsNothingWhileAllCarry(t *testing.T) {
	m := new(Manager)
	m.paths = []*path{{state: Up, resolved: resolved{index: 7, addrs: []netip.Addr{ip("10.0.0.1")}}}}
	m.updateSources()
	defer m.clearSources()
	to := ip("10.0.0.2")
	if n := testing.AllocsPerRun(100, func() { _ = m.SelectSource(to) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	before := m.Valid()
	m.updateSources()
	if m.Valid() != before || before.Err() != nil {
		t.Error("another era, though nothing has changed")
	}
	m.paths[0].state = Silent
	m.updateSources()
	if before.Err() == nil || m.Valid().Err() != nil {
		t.Error("the era did not end")
	}
}

// A second copy of a request leaves by another path than the first one, if that works.
func TestOtherSource(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Manage: ManageWatch, Failover: FailoverLink, Paths: twoPaths})
	until(t, "paths found", func() bool { return len(r.m.Status().Paths) == 2 })
	link1, link2 := r.lab.Link("link1"), r.lab.Link("link2")
	one, two, to := link1.AddrA.Addr(), link2.AddrA.Addr(), link1.AddrB.Addr()
	expect := func(what string, from, want netip.Addr) {
		t.Helper()
		if got := r.m.OtherSource(from, to); got != want {
			t.Errorf("%s: the other address of %v is %v, want %v", what, from, got, want)
		}
	}
	expect("both work", one, two)
	expect("both work", two, one)
	expect("not declared", netip.MustParseAddr("192.0.2.1"), netip.Addr{})
	name := r.m.PathAt(two)
	r.mark(name, Silent)
	expect("one is silent", one, netip.Addr{})
	expect("one is silent", two, one)
	r.mark(name, Up)
	expect("it is back", one, two)
	if got := r.m.OtherSource(one, netip.MustParseAddr("2001:db8::1")); got.IsValid() {
		t.Errorf("%v is for another family", got)
	}
}
