package mptcp

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mpgate/internal/need"
)

// With the user-space path manager one connection gets a spare subflow, and another
// from the same address to the same server a full one: paths by connection.
func TestPriorityByConnection(t *testing.T) {
	needMPTCP(t)
	newNetns(t, "10.9.0.1/24", "10.9.0.2/24", "10.9.0.9/24")
	if _, err := os.Stat("/proc/sys/net/mptcp/path_manager"); err != nil {
		need.Missing(t, "this kernel has no net.mptcp.path_manager (Linux 6.16 does)")
	}
	sysctl(t, "net.mptcp.path_manager", "userspace")
	pm, err := OpenPathManager()
	if err != nil {
		t.Fatal(err)
	}
	defer pm.Close()
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
	l := listen(t, "10.9.0.9:0", Require)
	second := netip.MustParseAddr("10.9.0.2")
	var spare [2]Subflow
	for i := range spare {
		client, server, _ := pair(t, &Dialer{Source: netip.MustParseAddr("10.9.0.1")}, l)
		var info, theirs Info
		if err := info.Read(rawOf(t, client)); err != nil {
			t.Fatal(err)
		}
		if n := subflows(t, client); n != 1 {
			t.Fatalf("%d subflows before one is made", n)
		}
		if err := pm.CreateSubflow(info.Token, 7, second, addrOf(l)); err != nil {
			t.Fatal(err)
		}
		until(t, "two subflows", func() bool { return subflows(t, client) == 2 && subflows(t, server) == 2 })
		find := func() Subflow {
			if err := info.Read(rawOf(t, client)); err != nil {
				t.Fatal(err)
			}
			if err := d.Fill(&info); err != nil {
				t.Fatal(err)
			}
			return info.Subflows[slices.IndexFunc(info.Subflows, func(s Subflow) bool { return s.Local.Addr() == second })]
		}
		made := find()
		if i == 0 {
			if err := theirs.Read(rawOf(t, server)); err != nil {
				t.Fatal(err)
			}
			if err := pm.SetBackup(info.Token, made.Local, made.Remote, true); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			for {
				e, err := ev.Next(ctx)
				if err != nil {
					t.Fatalf("the server was not told: %v", err)
				}
				if e.Type == EventSubflowPriority && e.Token == theirs.Token && e.Backup {
					break
				}
			}
		}
		spare[i] = find()
		if i == 1 {
			if err := pm.DestroySubflow(info.Token, made.Local, made.Remote); err != nil {
				t.Error(err)
			}
			until(t, "one subflow", func() bool { return subflows(t, client) == 1 })
		}
	}
	if !spare[0].Backup || spare[1].Backup || spare[0].LocalID != 7 {
		t.Errorf("%+v\n%+v", spare[0], spare[1])
	}
	// Of a connection that the kernel manages it is refused.
	sysctl(t, "net.mptcp.path_manager", "kernel")
	client, _, _ := pair(t, &Dialer{}, l)
	var info Info
	if err := info.Read(rawOf(t, client)); err != nil {
		t.Fatal(err)
	}
	err = pm.SetBackup(info.Token, info.Subflows[0].Local, info.Subflows[0].Remote, true)
	if err == nil || !strings.HasPrefix(err.Error(), "set the priority of a subflow ") {
		t.Errorf("of a connection that the kernel manages: %v", err)
	}
	t.Log(err)
}
