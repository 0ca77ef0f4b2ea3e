package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"mpgate/internal/lab"
	"mpgate/mptcp/doctor"
)

// TestDoctorFindsFaults: on a host with faults each is named with what fixes it, and once that is
// done the verdict is another one.
func TestDoctorFindsFaults(t *testing.T) {
	spec := lab.Pair(2, lab.Path{})
	spec.Places = []lab.PlaceSpec{{Name: "client", NoEndpoints: true}}
	l := lab.Start(t, spec)
	here := l.Place("client")
	server := endless(t, l.Place("server"), "0.0.0.0:0")
	file := write(t, "mpgate.toml", fmt.Sprintf(`[admin]
address = "off"
[mptcp]
manage = "watch"
limits = { subflows = 4, add_addr_accepted = 4 }
paths = [ { name = "one", interface = "link1", role = "backend" }, { name = "two", interface = "link2", role = "backend" } ]
[[listener]]
name = "web"
address = ":8080"
mptcp = "require"
[[route]]
name = "all"
backend = "app"
[[backend]]
name = "app"
mptcp = "require"
servers = [ { address = "10.77.1.2:%d" } ]
`, server.Port()))
	examine := func(code int) string {
		t.Helper()
		cmd := exec.Command(binary, "doctor", "-c", file)
		within(here)(cmd)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("exit code %d, want %d: %v\n%s", got, code, err, out)
		}
		return string(out)
	}
	wants := func(out string, list ...string) {
		t.Helper()
		for _, w := range list {
			if !strings.Contains("\n"+out, "\n"+w+"\n") {
				t.Errorf("no %q in\n%s", w, out)
			}
		}
	}
	if err := here.Sysctl("net.mptcp.enabled", "0"); err != nil {
		t.Fatal(err)
	}
	wants(examine(1),
		"error    kernel: MPTCP is off in this network namespace (net.mptcp.enabled=0)\n         -> sysctl -w net.mptcp.enabled=1")
	if err := here.Sysctl("net.mptcp.enabled", "1"); err != nil {
		t.Fatal(err)
	}
	const missingTwo = `manage = "sync" in [mptcp], or: ip mptcp endpoint add 10.77.2.1 dev link2 subflow`
	out := examine(0)
	wants(out, "warning  endpoints: two: 10.77.2.1 is missing\n         -> "+missingTwo)
	if !strings.Contains(out, "uses MPTCP, 1 subflow; round trip by path: one ") {
		t.Errorf("%s", out)
	}
	for _, args := range []string{"endpoint add 10.77.1.1 dev link1 subflow", "endpoint add 10.77.2.1 dev link2 subflow", "limits set subflows 4 add_addr_accepted 4"} {
		if out, err := here.Command(context.Background(), "ip", append([]string{"mptcp"}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip mptcp %s: %v: %s", args, err, out)
		}
	}
	if out = examine(0); strings.Contains(out, " is missing") || !strings.Contains(out, "uses MPTCP, 2 subflows; round trip by path: one ") {
		t.Errorf("%s", out)
	}
}

// TestDoctorLooksAtPassedSockets: at those that it was passed itself, and else at those of the
// gateway.
func TestDoctorLooksAtPassedSockets(t *testing.T) {
	l, f := plainSocket(t)
	passed := passing("web", f)
	file := write(t, "mpgate.toml", fmt.Sprintf("[admin]\naddress = \"unix:admin.sock\"\n[[listener]]\nname = \"web\"\nsystemd = \"web\"\n"+
		"[[route]]\nname = \"all\"\nbackend = \"app\"\n[[backend]]\nname = \"app\"\nmptcp = \"off\"\nservers = [ { address = %q } ]\n", named(t, "app", nil)))
	of := func(prepare func(*exec.Cmd)) doctor.Finding {
		t.Helper()
		cmd := exec.Command(binary, "doctor", "--json", "-c", file)
		prepare(cmd)
		out, _ := cmd.Output() // by the findings' level
		var all []struct{ Level, Check, Subject, What, Remedy string }
		if err := json.Unmarshal(out, &all); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		for _, one := range all {
			if one.Check == "systemd" && one.Level == "warning" {
				return doctor.Finding{Subject: one.Subject, What: one.What}
			}
		}
		t.Fatalf("nothing of the socket in %s", out)
		return doctor.Finding{}
	}
	if got := of(passed); got.Subject != "web" || !strings.HasSuffix(got.What, " is TCP") {
		t.Errorf("%+v", got)
	}
	g := start(t, passed, "run", "-c", file)
	g.line(`"msg":"ready"`)
	if got := of(func(*exec.Cmd) {}); got.What != "the socket that was passed ("+l.Addr().String()+") is TCP" {
		t.Errorf("%+v", got)
	}
}
