package paths

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// carry sends n bytes one way.
func carry(t *testing.T, from, to *net.TCPConn, n int64) {
	t.Helper()
	errs := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, to, n)
		errs <- err
	}()
	buf := make([]byte, 64<<10)
	for left := n; left > 0; {
		k, err := from.Write(buf[:min(left, int64(len(buf)))])
		if err != nil {
			t.Fatal(err)
		}
		left -= int64(k)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
}

// What paths carried adds up, also what was carried between two passes by a subflow that
// then ended, and by a connection that ended.
func TestAccounting(t *testing.T) {
	r := start(t, "client", lab.Path{Rate: 100 * lab.Mbit}, Options{Manage: ManageSync, Failover: FailoverLink,
		Limits: &mptcp.Limits{Subflows: 8, AddrAccepted: 8}, Paths: twoPaths})
	until(t, "in sync", func() bool { s := r.m.Status(); return len(s.Endpoints) == 2 && s.InSync() })
	c, s := r.connect(&mptcp.Dialer{})
	r.add(c, Back)
	until(t, "two subflows", func() bool { return locals(t, c) == "10.77.1.1 10.77.2.1" })
	until(t, "both are in the books", func() bool {
		p := r.m.Status().Paths
		return p[0].Opened == 1 && p[1].Opened == 1
	})
	const size = 4 << 20
	carry(t, c, s, size)
	carry(t, s, c, size/2)
	if err := r.lab.Link("link2").Down("client"); err != nil {
		t.Fatal(err)
	}
	until(t, "one subflow", func() bool { return locals(t, c) == "10.77.1.1" })
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	short, shortServer := r.connect(&mptcp.Dialer{}) // never seen by a pass
	carry(t, shortServer, short, 1<<20)
	src, err := short.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	r.m.CountClosing(src)
	short.Close()
	r.m.CountClosing(rc)
	r.mu.Lock()
	r.conns = nil
	r.mu.Unlock()
	c.Close()
	var one, two PathStatus
	until(t, "all is closed", func() bool {
		p := r.m.Status().Paths
		one, two = p[0], p[1]
		return one.Closed == 2 && two.Closed == 1
	})
	sent, received := one.BytesSent+two.BytesSent-one.BytesRetrans-two.BytesRetrans, one.BytesReceived+two.BytesReceived
	if sent < size || sent > size*3/2 || received < size/2+1<<20 || received > (size/2+1<<20)*3/2 {
		t.Errorf("%d sent and %d received: %+v %+v", sent, received, one.Totals, two.Totals)
	}
	if two.BytesSent < size/8 || two.BytesReceived < size/16 {
		t.Errorf("the path that was cut carried %+v", two.Totals)
	}
	if one.Opened != 2 || two.Opened != 1 || one.Subflows != 0 || two.Subflows != 0 || two.Cuts != 1 {
		t.Errorf("%+v %+v", one.Totals, two.Totals)
	}
}

// TestAccountingOfShortSubflows: one that began and ended between two passes is counted with what
// it carried, on a connection that a pass has seen and on one that none has.
func TestAccountingOfShortSubflows(t *testing.T) {
	r := start(t, "client", lab.Path{Rate: 100 * lab.Mbit}, Options{Manage: ManageSync, Failover: FailoverLink,
		Limits: &mptcp.Limits{Subflows: 8, AddrAccepted: 8}, Paths: twoPaths})
	until(t, "in sync", func() bool { s := r.m.Status(); return len(s.Endpoints) == 2 && s.InSync() })
	link := r.lab.Link("link2")
	down := func() {
		t.Helper()
		if err := link.Down("client"); err != nil {
			t.Fatal(err)
		}
		until(t, "path two is down", func() bool { return r.m.Status().Paths[1].State == Down })
	}
	down()
	old, oldServer := r.connect(&mptcp.Dialer{})
	r.add(old, Back)
	carry(t, old, oldServer, 1<<10)
	until(t, "the old connection is in the books", func() bool { return r.m.Status().Paths[0].Opened == 1 })

	// briefly has a connection use the second path, and gives what that has sent and the whole.
	briefly := func(c, s *net.TCPConn) (second, whole uint64) {
		t.Helper()
		if err := link.Up("client"); err != nil {
			t.Fatal(err)
		}
		rc, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var i mptcp.Info
		until(t, "the second path has carried", func() bool {
			carry(t, c, s, 256<<10)
			whole += 256 << 10
			if err := i.Read(rc); err != nil {
				t.Fatal(err)
			}
			for _, f := range i.Subflows {
				if f.Local.Addr().String() == "10.77.2.1" {
					second = f.BytesSent
				}
			}
			return second > 256<<10
		})
		down()
		until(t, "one subflow", func() bool { return locals(t, c) == "10.77.1.1" })
		return second, whole
	}
	secondOld, wholeOld := briefly(old, oldServer)
	young, youngServer := r.connect(&mptcp.Dialer{})
	r.add(young, Back)
	// The old one gets its second subflow back with the path, too.
	secondYoung, wholeYoung := briefly(young, youngServer)
	rc, err := young.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	r.m.CountClosing(rc)
	r.mu.Lock()
	r.conns = r.conns[:1]
	r.mu.Unlock()
	young.Close()
	var one, two PathStatus
	until(t, "all is counted", func() bool {
		p := r.m.Status().Paths
		one, two = p[0], p[1]
		return one.Closed == 1 && two.Closed == 3
	})
	if one.Opened != 2 || two.Opened != 3 || one.Subflows != 1 || two.Subflows != 0 || two.Failed != 3 || one.Failed != 0 {
		t.Errorf("%+v %+v", one.Totals, two.Totals)
	}
	second, whole := secondOld+secondYoung, wholeOld+wholeYoung+1<<10
	if two.BytesSent < second*3/4 {
		t.Errorf("the second path sent %d at least, and %d are counted", second, two.BytesSent)
	}
	if sent := one.BytesSent + two.BytesSent - one.BytesRetrans - two.BytesRetrans; sent < whole || sent > whole*3/2 {
		t.Errorf("%d were sent, and %d are counted: %+v %+v", whole, sent, one.Totals, two.Totals)
	}
}

func TestSnapshot(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Manage: ManageSync, Paths: []Path{{Name: "one", Interface: "link1"}, {Name: "two", Interface: "link2", Backup: true, Role: ForBackends}}})
	until(t, "in sync", func() bool { s := r.m.Status(); return len(s.Endpoints) == 2 && s.InSync() })
	c, _ := r.connect(&mptcp.Dialer{})
	r.add(c, Back)
	until(t, "two subflows", func() bool { return locals(t, c) == "10.77.1.1 10.77.2.1" })
	var s Snapshot
	until(t, "the snapshot has both", func() bool {
		s = r.m.Snapshot(10)
		return len(s.Connections) == 1 && len(s.Connections[0].Subflows) == 2
	})
	first, second := s.Connections[0].Subflows[0], s.Connections[0].Subflows[1]
	if first.Path != "one" || second.Path != "two" || first.Backup || !second.Backup || first.State != "established" || first.RTT == 0 || s.Connections[0].Side != Back {
		t.Errorf("%+v", s.Connections)
	}
	if s := r.m.Snapshot(0); s.More != 1 || len(s.Connections) != 0 {
		t.Errorf("with room for none: %+v", s)
	}
	b, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(b), `"state":"up"`) || !strings.Contains(string(b), `"side":"backend"`) || s.Time.After(time.Now()) {
		t.Errorf("%s %v", b, err)
	}
}
