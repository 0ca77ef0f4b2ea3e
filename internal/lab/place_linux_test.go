package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestPlace(t *testing.T) {
	NeedRoot(t)
	spec := Pair(1, Path{})
	spec.Places = []PlaceSpec{{Name: "server", NoEndpoints: true, Sysctl: map[string]string{"net.mptcp.add_addr_timeout": "7"}}}
	l := Start(t, spec)
	other := Start(t, spec) // with the same addresses and names
	client, server := l.Place("client"), l.Place("server")
	if got := fmt.Sprintln(client.Addrs(), server.Addrs(), client.Name()); got != "[10.77.1.1] [10.77.1.2] client\n" {
		t.Error(got)
	}
	host, err := os.ReadFile("/proc/sys/net/mptcp/add_addr_timeout")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"client": strings.TrimSpace(string(host)), "server": "7"} {
		if got, err := l.Place(name).ReadSysctl("net.mptcp.add_addr_timeout"); got != want || err != nil {
			t.Errorf("%s: net.mptcp.add_addr_timeout is %q, %v", name, got, err)
		}
	}
	if err := client.Sysctl("net.nothing", "1"); err == nil || !strings.HasPrefix(err.Error(), `lab: place "client": sysctl net.nothing=1: `) {
		t.Errorf("unknown sysctl: %v", err)
	}
	if now, _ := os.ReadFile("/proc/sys/net/mptcp/add_addr_timeout"); string(now) != string(host) {
		t.Error("the host's sysctl changed")
	}
	endpoints := func(p *Place) string {
		out, err := p.Command(background(t), "ip", "mptcp", "endpoint").CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	if got := endpoints(client); got != "10.77.1.1 id 1 subflow dev link1" {
		t.Errorf("client's endpoints: %q", got)
	}
	if got := endpoints(server); got != "" {
		t.Errorf("server's endpoints: %q", got)
	}
	signal := Endpoint{Addr: server.Addrs()[0], ID: 7, Port: 8443, Flags: Signal | Backup}
	if err := server.AddEndpoint(signal); err != nil {
		t.Fatal(err)
	}
	if got := endpoints(server); got != "10.77.1.2 port 8443 id 7 signal,backup" && got != "10.77.1.2 port 8443 id 7 signal backup" {
		t.Errorf("server's endpoints: %q", got)
	}
	if err := errors.Join(server.DelEndpoint(signal), client.FlushEndpoints()); err != nil {
		t.Fatal(err)
	}
	if got := endpoints(server) + endpoints(client); got != "" {
		t.Errorf("removed, but there are %q", got)
	}
	if err := server.DelEndpoint(signal); err == nil || !strings.HasPrefix(err.Error(), `lab: place "server": remove mptcp endpoint: `) {
		t.Errorf("removed twice: %v", err)
	}
	a, b := connect(t, other.Place("client"), other.Place("server"), TCP, other.Link("link1").AddrB.Addr())
	transfer(t, a, b, 1<<20, nil)
	if there, _ := bytesOf(t, l.Link("link1")); there.Bytes > 10_000 {
		t.Errorf("traffic of another lab: %+v", there)
	}
}

func TestDo(t *testing.T) {
	NeedRoot(t)
	l := Start(t, Pair(1, Path{}))
	p := l.Place("client")
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	// Also from the process's first thread, which must stay where it is; many at
	// a time make it likely that one is started there.
	results := make(chan error, 50)
	for range cap(results) {
		go func() {
			results <- p.Do(func() error {
				inside, err := os.Readlink("/proc/thread-self/ns/net")
				if err == nil && inside == own {
					err = errors.New("not inside")
				}
				if leader, lerr := os.Readlink("/proc/self/ns/net"); lerr != nil || leader != own {
					err = fmt.Errorf("the process is in %s now, %v", leader, lerr)
				}
				return err
			})
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if err := p.Do(func() error { runtime.Goexit(); return nil }); err != errGoexit {
		t.Errorf("Goexit: %v", err)
	}
	func() {
		defer func() {
			if v := recover(); v != "oops" {
				t.Errorf("the panic became %v", v)
			}
		}()
		_ = p.Do(func() error { panic("oops") })
	}()
	if now, err := os.Readlink("/proc/self/ns/net"); err != nil || now != own {
		t.Errorf("the test is in %s now, %v", now, err)
	}
}

func TestCloseEndsCommands(t *testing.T) {
	NeedRoot(t)
	l, err := New(background(t), Pair(1, Path{}))
	if err != nil {
		t.Fatal(err)
	}
	cmd := l.Place("server").Command(background(t), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "inside", func() bool {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
		want, werr := os.Readlink(l.Place("server").Path())
		return err == nil && werr == nil && link == want
	})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the command ended with %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := l.EmulatorCPU(); err == nil || err.Error() != "lab: closed" {
		t.Errorf("asked when closed: %v", err)
	}
}

func TestName(t *testing.T) {
	NeedRoot(t)
	l, err := New(background(t), Pair(1, Path{}))
	if err != nil {
		t.Fatal(err)
	}
	prefix := fmt.Sprintf("labtest%d", os.Getpid())
	if err := l.Name(prefix); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ip", "netns", "exec", prefix+"-client", "ip", "-o", "-4", "addr", "show", "dev", "link1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "inet 10.77.1.1/24 ") {
		t.Errorf("ip netns exec: %v: %s", err, out)
	}
	if err := l.Name(prefix); !errors.Is(err, os.ErrExist) {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/run/netns/" + prefix + "*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCancelled(t *testing.T) {
	NeedRoot(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := New(ctx, Pair(1, Path{})); !errors.Is(err, context.Canceled) {
		t.Errorf("built under a cancelled context: %v", err)
	}
}

func TestEngineChoice(t *testing.T) {
	NeedRoot(t)
	want := Emulator
	if netem() {
		want = Kernel
	}
	t.Logf("netem: %v", netem())
	if got, err := choose(&LinkSpec{Path: Path{Delay: 1}}); got != want || err != nil {
		t.Errorf("with a delay: %v, %v", got, err)
	}
	if got, err := choose(&LinkSpec{Path: Path{Rate: Mbit, Loss: .1}}); got != Kernel || err != nil {
		t.Errorf("with a rate and a loss: %v, %v", got, err)
	}
	if netem() {
		return
	}
	spec := Pair(1, Path{Delay: time.Millisecond}).with(Kernel)
	if l, err := New(background(t), spec); err == nil || err.Error() != `lab: link "link1": `+errNoNetem.Error() {
		t.Errorf("%v, %v", l, err)
	}
	l := Start(t, Pair(1, Path{}))
	if err := l.Link("link1").Set(Both, Path{Delay: 1}); err == nil || err.Error() != `lab: link "link1": `+errNoNetem.Error() {
		t.Errorf("delay at run time: %v", err)
	}
}
