package gateway

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mpgate/admin"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// report asks the admin address of a rig.
func (r *rig) report() *PathsReport {
	r.t.Helper()
	client, err := admin.Dial(r.AdminAddress())
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	report := new(PathsReport)
	if err := client.Get(r.t.Context(), "/api/paths", report); err != nil {
		r.t.Fatal(err)
	}
	return report
}

func pathRig(t *testing.T, table string) (r *rig, client *proxytest.Client, web string) {
	t.Helper()
	proxytest.NeedMPTCP(t)
	app := proxytest.NewOrigin(t, mptcp.Prefer, proxytest.Echo).Address()
	r = startRig(t, head+table+listenerTable("web", "127.0.0.1:0", "")+routeTable("all", "", "app")+backendTable("app", app, ""), nil)
	web = regexp.MustCompile(`listener=web address=(\S+)`).FindStringSubmatch(r.log.String())[1]
	client = proxytest.Dial(t, web, mptcp.Prefer)
	if a := client.Get("/"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	return r, client, web
}

// TestReportOfConnections: both connections of an exchange over MPTCP are listed, with their
// traffic.
func TestReportOfConnections(t *testing.T) {
	r, _, web := pathRig(t, "")
	got := r.report()
	if got.Manage != "off" || got.Failover != "off" || got.Totals != TotalsOpen || got.WantedLimits != nil || len(got.Notes) > 0 {
		t.Errorf("%+v", got)
	}
	if len(got.Connections) != 2 || got.Connections[0].Side != "listener" || got.Connections[1].Side != "backend" || got.More != 0 {
		t.Fatalf("connections %+v and %d more", got.Connections, got.More)
	}
	for _, c := range got.Connections {
		if c.Token == 0 || len(c.Subflows) != 1 {
			t.Fatalf("%+v", c)
		}
		s := c.Subflows[0]
		if s.ID == 0 || s.Path != "lo" || s.Interface != "lo" || s.State != "established" || s.Backup || s.RTT <= 0 || s.BytesSent == 0 || s.BytesReceived == 0 {
			t.Errorf("%s: %+v", c.Side, s)
		}
	}
	if s := got.Connections[0].Subflows[0]; s.Local.String() != web {
		t.Errorf("the client's connection is at %s, the listener at %s", s.Local, web)
	}
	// What no path declares is listed by its interface.
	front, back := got.Connections[0].Subflows[0], got.Connections[1].Subflows[0]
	if len(got.Paths) != 1 {
		t.Fatalf("%+v", got.Paths)
	}
	p := got.Paths[0]
	if p.Name != "lo" || p.Declared || p.State != "up" || p.Subflows != 2 || len(p.Addresses) != 1 || p.Addresses[0] != netip.MustParseAddr("127.0.0.1") ||
		p.BytesSent != front.BytesSent+back.BytesSent || p.BytesReceived != front.BytesReceived+back.BytesReceived {
		t.Errorf("%+v", p)
	}
}

// TestReportOfPaths: with a manager its paths, and what it wants of the host, are there.
func TestReportOfPaths(t *testing.T) {
	r, _, _ := pathRig(t, "[mptcp]\nmanage = \"watch\"\nlimits = { subflows = 3, add_addr_accepted = 1 }\n"+
		"paths = [ { name = \"far\", address = \"198.51.100.7\", announce = true }, { name = \"gone\", address = \"198.51.100.8\", backup = true } ]\n")
	if !proxytest.Within(patience, func() bool { return len(r.report().Paths) > 2 }) {
		t.Fatalf("%+v", r.report())
	}
	got := r.report()
	if got.Manage != "watch" || got.Totals != TotalsSinceStart || got.WantedLimits == nil || *got.WantedLimits != (PathLimits{3, 1}) {
		t.Errorf("%+v", got)
	}
	if len(got.Paths) != 3 {
		t.Fatalf("%+v", got.Paths)
	}
	far, gone, lo := got.Paths[0], got.Paths[1], got.Paths[2]
	if far.Name != "far" || !far.Declared || far.State != "up" || far.Subflows != 0 {
		t.Errorf("%+v", far)
	}
	if gone.State != "down" || !strings.Contains(gone.Why, "198.51.100.8") || !gone.Backup {
		t.Errorf("%+v", gone)
	}
	if lo.Name != "lo" || lo.Declared || lo.Subflows != 2 || lo.BytesSent == 0 {
		t.Errorf("%+v", lo)
	}
	found := false
	for _, e := range got.Endpoints {
		found = found || e.Path == "far" && e.Wanted && !e.Found && e.Flags == "signal" && strings.Contains(e.Difference, "missing")
	}
	if !found {
		t.Errorf("nothing says that the endpoint of far is missing: %+v", got.Endpoints)
	}
}

// TestReportIsBounded: of many connections some of each side are listed, and the rest counted.
func TestReportIsBounded(t *testing.T) {
	r, _, web := pathRig(t, "")
	for range 4 {
		if a := proxytest.Dial(t, web, mptcp.Prefer).Get("/"); a.Status != 200 {
			t.Fatalf("%+v", a)
		}
	}
	// Five clients; servers' connections are used again, so there is one.
	for _, c := range []struct{ most, front, back, more int }{{100, 5, 1, 0}, {4, 3, 1, 2}, {1, 1, 0, 5}} {
		list, more := r.connections(c.most)
		front := 0
		for _, l := range list {
			if l.side == 0 {
				front++
			}
		}
		if front != c.front || len(list)-front != c.back || more != c.more {
			t.Errorf("of %d: %d clients, %d servers and %d more; want %+v", c.most, front, len(list)-front, more, c)
		}
	}
	text, err := json.Marshal(r.ReportPaths())
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestAnnouncedInOrder: what the kernel granted is said in the file's order.
func TestAnnouncedInOrder(t *testing.T) {
	names := []string{"zeta", "alpha", "mid", "beta", "omega", "eta"}
	toml := head
	for _, n := range names {
		toml += listenerTable(n, "unix:"+filepath.Join(t.TempDir(), n), "")
	}
	r := startRig(t, toml+routeTable("all", "", "app")+backendTable("app", named(t, "app"), ""), nil)
	var got []string
	for _, m := range regexp.MustCompile(`listener=(\S+) address=`).FindAllStringSubmatch(r.log.String(), -1) {
		got = append(got, m[1])
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("said in the order %v, in the file %v", got, names)
	}
}
