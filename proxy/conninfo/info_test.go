package conninfo

import (
	"context"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dialled returns the dialled end of a connection.
func dialled(t *testing.T, listen, dial mptcp.Mode) syscall.RawConn {
	t.Helper()
	l := proxytest.Listen(t, listen)
	t.Cleanup(func() { l.Close() })
	var d net.Dialer
	d.SetMultipathTCP(dial != mptcp.Off)
	ctx, cancel := context.WithTimeout(context.Background(), proxytest.Patience)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTransport(t *testing.T) {
	proxytest.NeedMPTCP(t)
	for name, c := range map[string]struct {
		listen, dial mptcp.Mode
		asked        mptcp.Reason
		want         mptcp.Transport
		reason       string // that it counts
	}{
		"mptcp":                     {mptcp.Prefer, mptcp.Prefer, mptcp.None, mptcp.MPTCP, ""},
		"the peer has no MPTCP":     {mptcp.Off, mptcp.Prefer, mptcp.None, mptcp.Fallback, "peer_or_path"},
		"the dial knew why":         {mptcp.Off, mptcp.Prefer, mptcp.Blackhole, mptcp.Fallback, "blackhole"},
		"not requested":             {mptcp.Prefer, mptcp.Off, mptcp.None, mptcp.TCP, ""},
		"a dial that remembers":     {mptcp.Off, mptcp.Off, mptcp.PeerOrPath, mptcp.Fallback, "peer_or_path"},
		"a client that did not ask": {mptcp.Prefer, mptcp.Off, mptcp.NotOffered, mptcp.TCP, "not_offered"},
	} {
		t.Run(name, func(t *testing.T) {
			in := telemetry.NewInstruments("test")
			metric := func(name string, labels ...string) float64 {
				return proxytest.Metric(t, in.Registry(), name, labels...)
			}
			var registry Registry
			var i Info
			if got := i.Open(dialled(t, c.listen, c.dial), Options{Side: telemetry.SideBackend, Instruments: in, Reason: c.asked, Registry: &registry}); got != c.want {
				t.Fatalf("the transport is %v, want %v", got, c.want)
			}
			subflows := 0
			if c.want == mptcp.MPTCP {
				subflows = 1
			}
			if registry.Len() != subflows {
				t.Errorf("%d are live, want %d", registry.Len(), subflows)
			}
			now := time.Now()
			for range 2 { // the second time from memory
				if got, n := i.Refresh(now); got != c.want || n != subflows {
					t.Errorf("refreshed: %v over %d subflows, want %v over %d", got, n, c.want, subflows)
				}
			}
			if n := metric("mpgate_mptcp_subflows", "side", "backend"); n != float64(subflows) {
				t.Errorf("%v subflows in the metrics, want %d", n, subflows)
			}
			i.Close()
			if n := metric("mpgate_mptcp_subflows"); n != 0 {
				t.Errorf("%v subflows in the metrics after the end", n)
			}
			if n := metric("mpgate_mptcp_connections_total", "side", "backend", "result", c.want.String()); n != 1 {
				t.Errorf("%v connections counted as %v, want 1", n, c.want)
			}
			if n := metric("mpgate_mptcp_fallbacks_total", "side", "backend"); (n == 1) != (c.reason != "") {
				t.Errorf("%v fallbacks counted", n)
			}
			if c.reason != "" && metric("mpgate_mptcp_fallbacks_total", "side", "backend", "reason", c.reason) != 1 {
				t.Errorf("no fallback counted as %s", c.reason)
			}
			if registry.Len() != 0 {
				t.Errorf("%d are live after the end", registry.Len())
			}
		})
	}
}

func TestRefreshAsksOnceASecond(t *testing.T) {
	proxytest.NeedMPTCP(t)
	var i Info
	i.Open(dialled(t, mptcp.Prefer, mptcp.Prefer), Options{Side: telemetry.SideListener})
	now := time.Now()
	i.Refresh(now)
	i.set(mptcp.MPTCP, 7) // what is remembered
	if _, n := i.Refresh(now.Add(maxAge - time.Millisecond)); n != 7 {
		t.Errorf("the kernel was asked again within the second: %d", n)
	}
	if _, n := i.Refresh(now.Add(maxAge)); n != 1 {
		t.Errorf("got %d subflows after a second, want 1", n)
	}
	if allocs := testing.AllocsPerRun(100, func() { now = now.Add(2 * maxAge); i.Refresh(now) }); allocs != 0 {
		t.Errorf("%v allocations to ask", allocs)
	}
}

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ul, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ul.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	in := telemetry.NewInstruments("test")
	var i Info
	if got := i.Open(raw, Options{Side: telemetry.SideListener, Instruments: in}); got != mptcp.Unix {
		t.Errorf("the transport is %v, want unix", got)
	}
	i.Close()
	if n := proxytest.Metric(t, in.Registry(), "mpgate_mptcp_connections_total"); n != 0 {
		t.Errorf("%v connections counted, want 0", n)
	}
}

// While many connections are yielded, others can be added, and those that are closed are not
// yielded.
func TestRegistryDoesNotDelayNewConnections(t *testing.T) {
	var v Registry
	infos := make([]Info, 200)
	for i := range infos {
		v.add(&infos[i])
	}
	came := make(chan struct{})
	seen := 0
	v.All(func(*Info) bool {
		if seen++; seen == 1 {
			go func() {
				defer close(came)
				v.add(new(Info))
				for i := range infos {
					v.remove(&infos[i])
				}
			}()
		}
		<-time.After(time.Millisecond)
		return true
	})
	<-came
	if seen == len(infos) || v.Len() != 1 {
		t.Errorf("%d were seen though they had gone, %d are left", seen, v.Len())
	}
}
