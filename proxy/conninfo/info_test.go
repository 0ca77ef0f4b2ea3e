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

// dialled gives one connection as its dialler has it.
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

func TestWhatALegSpeaks(t *testing.T) {
	proxytest.NeedMPTCP(t)
	for name, c := range map[string]struct {
		listen, dial mptcp.Mode
		asked        mptcp.Reason
		want         mptcp.Transport
		reason       string // that it counts
	}{
		"mptcp":                     {mptcp.Prefer, mptcp.Prefer, mptcp.None, mptcp.MPTCP, ""},
		"the peer speaks none":      {mptcp.Off, mptcp.Prefer, mptcp.None, mptcp.Fallback, "peer_or_path"},
		"the dial knew why":         {mptcp.Off, mptcp.Prefer, mptcp.Blackhole, mptcp.Fallback, "blackhole"},
		"nobody asked":              {mptcp.Prefer, mptcp.Off, mptcp.None, mptcp.TCP, ""},
		"a dial that knew better":   {mptcp.Off, mptcp.Off, mptcp.PeerOrPath, mptcp.Fallback, "peer_or_path"},
		"a client that did not ask": {mptcp.Prefer, mptcp.Off, mptcp.NotOffered, mptcp.TCP, "not_offered"},
	} {
		t.Run(name, func(t *testing.T) {
			in := telemetry.NewInstruments("test")
			metric := func(name string, labels ...string) float64 {
				return proxytest.Metric(t, in.Registry(), name, labels...)
			}
			var live Registry
			var l Info
			if got := l.Open(dialled(t, c.listen, c.dial), telemetry.SideBackend, in, c.asked, &live); got != c.want {
				t.Fatalf("it speaks %v, want %v", got, c.want)
			}
			subflows := 0
			if c.want == mptcp.MPTCP {
				subflows = 1
			}
			if live.Len() != subflows {
				t.Errorf("%d are live, want %d", live.Len(), subflows)
			}
			now := time.Now()
			for range 2 { // the second time from memory
				if got, n := l.Refresh(now); got != c.want || n != subflows {
					t.Errorf("refreshed: %v over %d subflows, want %v over %d", got, n, c.want, subflows)
				}
			}
			if n := metric("mpgate_mptcp_subflows", "side", "backend"); n != float64(subflows) {
				t.Errorf("%v subflows in the metrics, want %d", n, subflows)
			}
			l.Close()
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
			if live.Len() != 0 {
				t.Errorf("%d are live after the end", live.Len())
			}
		})
	}
}

func TestRefreshAsksOnceASecond(t *testing.T) {
	proxytest.NeedMPTCP(t)
	var l Info
	l.Open(dialled(t, mptcp.Prefer, mptcp.Prefer), telemetry.SideListener, nil, mptcp.None, nil)
	now := time.Now()
	l.Refresh(now)
	l.set(mptcp.MPTCP, 7) // what the memory holds
	if _, n := l.Refresh(now.Add(maxAge - time.Millisecond)); n != 7 {
		t.Errorf("the kernel was asked again within the second: %d", n)
	}
	if _, n := l.Refresh(now.Add(maxAge)); n != 1 {
		t.Errorf("got %d subflows after a second, want 1", n)
	}
	if allocs := testing.AllocsPerRun(100, func() { now = now.Add(2 * maxAge); l.Refresh(now) }); allocs != 0 {
		t.Errorf("%v allocations to ask", allocs)
	}
}

func TestUnixLeg(t *testing.T) {
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
	var l Info
	if got := l.Open(raw, telemetry.SideListener, in, mptcp.None, nil); got != mptcp.Unix {
		t.Errorf("it speaks %v, want unix", got)
	}
	l.Close()
	if n := proxytest.Metric(t, in.Registry(), "mpgate_mptcp_connections_total"); n != 0 {
		t.Errorf("%v connections counted, want none of unix", n)
	}
}

// A look at many connections does not keep new ones waiting, and sees none that has gone.
func TestLiveLetsOthersIn(t *testing.T) {
	var v Registry
	legs := make([]Info, 200)
	for i := range legs {
		v.add(&legs[i])
	}
	came := make(chan struct{})
	seen := 0
	v.All(func(*Info) bool {
		if seen++; seen == 1 {
			go func() {
				defer close(came)
				v.add(new(Info))
				for i := range legs {
					v.remove(&legs[i])
				}
			}()
		}
		<-time.After(time.Millisecond)
		return true
	})
	<-came
	if seen == len(legs) || v.Len() != 1 {
		t.Errorf("%d were seen though they had gone, %d are left", seen, v.Len())
	}
}
