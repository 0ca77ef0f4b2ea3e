package paths

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// TestNoOtherWayToJoin holds what rejoin is built on: the kernel makes one connection no further
// attempt while the endpoint stays, and whatever has it make one ends the subflows that others have
// there. Should that change, rejoin can do more.
func TestNoOtherWayToJoin(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Manage: ManageSync, Limits: &mptcp.Limits{Subflows: 8, AddrAccepted: 8}, Paths: []Path{
		{Name: "one", Interface: "link1", Role: ForBackends}, {Name: "two", Interface: "link2", Role: ForBackends}}})
	r.inSync(2)
	client, _ := r.connect(&mptcp.Dialer{})
	until(t, "two subflows", func() bool { return locals(t, client) == "10.77.1.1 10.77.2.1" })
	rc, err := client.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	second := func() (s mptcp.Subflow, token uint32) {
		var i mptcp.Info
		if err := i.Read(rc); err != nil {
			t.Fatal(err)
		}
		if k := slices.IndexFunc(i.Subflows, func(s mptcp.Subflow) bool {
			return s.Local.Addr() == ip("10.77.2.1") && s.State == mptcp.StateEstablished
		}); k >= 0 {
			s = i.Subflows[k]
		}
		return s, i.Token
	}
	before, token := second()
	r.pm(func(pm *mptcp.PathManager) error {
		// A single connection's subflow is for user-space path managers, and those have the whole
		// namespace.
		to := netip.AddrPortFrom(ip("10.77.2.2"), before.Remote.Port())
		if err := pm.CreateSubflow(token, 77, ip("10.77.2.1"), to); !errors.Is(err, unix.EINVAL) {
			t.Errorf("a subflow of one connection: %v", err)
		}
		// There is no second endpoint with the same address, by which the others would not be
		// touched.
		if _, err := pm.AddEndpoint(mptcp.Endpoint{Addr: ip("10.77.2.1"), ID: 78, Flags: mptcp.FlagSubflow}); !errors.Is(err, unix.EEXIST) {
			t.Errorf("a second endpoint: %v", err)
		}
		if _, err := pm.AddEndpoint(mptcp.Endpoint{Addr: ip("10.77.2.1"), ID: 78, Port: 4000, Flags: mptcp.FlagSubflow}); !errors.Is(err, unix.EINVAL) {
			t.Errorf("a second endpoint with a port: %v", err)
		}
		if now, _ := second(); now.ID != before.ID {
			t.Errorf("the subflow is %d, it was %d", now.ID, before.ID)
		}
		// Another flag has the kernel begin again, and it ends what is there.
		have := r.endpoints()
		k := slices.IndexFunc(have, func(e mptcp.Endpoint) bool { return e.Addr == ip("10.77.2.1") })
		have[k].Flags |= mptcp.FlagFullmesh
		_, err := pm.SetFlags(have[k])
		return err
	})
	until(t, "another subflow", func() bool { now, _ := second(); return now.ID != 0 && now.ID != before.ID })
}
