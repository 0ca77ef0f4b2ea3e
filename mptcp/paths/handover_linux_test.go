package paths

import (
	"encoding/json"
	"slices"
	"sync/atomic"
	"testing"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// handOver gives up the estate of the rig's manager, as another process gets it.
func (r *rig) handOver() *Handover {
	r.t.Helper()
	e, err := r.m.HandOver(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := json.Marshal(e)
	if err != nil {
		r.t.Fatal(err)
	}
	got := new(Handover)
	if err := json.Unmarshal(text, got); err != nil {
		r.t.Fatal(err)
	}
	return got
}

func (r *rig) limits() (l mptcp.Limits) {
	r.t.Helper()
	r.pm(func(pm *mptcp.PathManager) (err error) { l, err = pm.Limits(); return err })
	return l
}

func (r *rig) inSync(endpoints int) {
	r.t.Helper()
	until(r.t, "in sync", func() bool { s := r.m.Status(); return len(s.Endpoints) == endpoints && s.InSync() })
}

// What a manager made goes over to the next with not one subflow lost; that one removes nothing as
// long as the first has connections, and everything at its end.
func TestHandOver(t *testing.T) {
	const one, two = "10.77.1.1 signal,subflow", "10.77.2.1 signal,subflow"
	limits := mptcp.Limits{Subflows: 5, AddrAccepted: 4}
	o := Options{Manage: ManageSync, Failover: FailoverLink, Limits: &limits, Paths: slices.Clone(twoPaths)}
	r := start(t, "client", lab.Path{}, o)
	r.inSync(2)
	client, server := r.connect(&mptcp.Dialer{})
	until(t, "two subflows", func() bool { return locals(t, client) == "10.77.1.1 10.77.2.1" })
	before, stopFirst := r.endpoints(), r.stop

	e := r.handOver()
	if len(e.Endpoints) != 2 || e.Limits == nil || e.Limits.Set != limits || e.Limits.Previous != (mptcp.Limits{Subflows: 2}) {
		t.Errorf("handed over: %+v", e)
	}
	var lives atomic.Bool
	lives.Store(true)
	o.Handover, o.Predecessor = e, lives.Load
	o.Paths[1].Name = "second" // the configuration is read again
	r.open(o)
	r.inSync(2)
	stopFirst()
	if got := r.endpoints(); !slices.Equal(got, before) || r.limits() != limits {
		t.Errorf("endpoints are %+v, before %+v; limits %+v", got, before, r.limits())
	}
	for _, s := range r.m.Status().Endpoints {
		if !s.Ours {
			t.Errorf("it does not own %+v", s)
		}
	}
	if got := locals(t, client); got != "10.77.1.1 10.77.2.1" {
		t.Errorf("subflows %s", got)
	}
	r.exchange(client, server)

	link2 := r.lab.Link("link2")
	if err := link2.Down("client"); err != nil {
		t.Fatal(err)
	}
	const note = `path "second": its address is not withdrawn or renewed yet: the process that this one has replaced still has connections`
	until(t, "told that it waits", func() bool { return slices.Contains(r.m.Status().Notes, note) })
	r.wantFlags(one + "; " + two)
	lives.Store(false)
	r.wantFlags(one)
	if err := link2.Up("client"); err != nil {
		t.Fatal(err)
	}
	r.wantFlags(one + "; " + two)
	r.stop()
	if got := r.flags(); got != "" || r.limits() != (mptcp.Limits{Subflows: 2}) {
		t.Errorf("left behind: %s, limits %+v", got, r.limits())
	}
}

// A manager whose successor came to nothing continues with what it had.
func TestHandOverTakenBack(t *testing.T) {
	o := Options{Manage: ManageSync, Limits: &mptcp.Limits{Subflows: 5}, Paths: slices.Clone(twoPaths)}
	r := start(t, "client", lab.Path{}, o)
	r.inSync(2)
	before := r.endpoints()
	e := r.handOver()
	if again := r.handOver(); !again.Empty() {
		t.Errorf("handed over twice: %+v", again)
	}
	o.Handover = e
	if err := r.m.Update(r.options(o)); err != nil {
		t.Fatal(err)
	}
	r.inSync(2)
	if got := r.endpoints(); !slices.Equal(got, before) {
		t.Errorf("endpoints are %+v, before %+v", got, before)
	}
	r.stop()
	if got := r.flags(); got != "" || r.limits() != (mptcp.Limits{Subflows: 2}) {
		t.Errorf("left behind: %s, limits %+v", got, r.limits())
	}
}

// A successor that is to manage nothing takes back what it got, once nobody needs it.
func TestSucceedWithoutSync(t *testing.T) {
	const both = "10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow"
	r := start(t, "client", lab.Path{}, Options{Manage: ManageSync, Limits: &mptcp.Limits{Subflows: 5}, Paths: twoPaths})
	r.inSync(2)
	e, stopFirst := r.handOver(), r.stop
	var lives atomic.Bool
	lives.Store(true)
	r.open(Options{Handover: e, Predecessor: lives.Load})
	stopFirst()
	r.wantFlags(both)
	lives.Store(false)
	r.wantFlags("")
	until(t, "the limits are as they were", func() bool { return r.limits() == mptcp.Limits{Subflows: 2} })
}
