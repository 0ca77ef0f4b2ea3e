// Package proxytest has the two ends between which tests put a gateway: an Origin, a scripted
// server that records the bytes it gets, and a Client that sends bytes as they are. Both use TCP,
// MPTCP or unix sockets, and neither corrects what it sends or receives. A Log collects the lines
// of the gateway's log.
package proxytest

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"mpgate/internal/need"
	"mpgate/mptcp"
)

// Patience bounds waits that take long only if something is broken.
const Patience = 30 * time.Second

// NeedMPTCP skips a test on hosts without MPTCP; where CI=true that is a failure.
func NeedMPTCP(t testing.TB) {
	t.Helper()
	if s := mptcp.Host(); !s.Usable {
		need.Missing(t, "no MPTCP on this host: %s; remedy: %s", s.Why, s.Remedy)
	}
}

// Listen opens a loopback socket that uses MPTCP or, with mptcp.Off, TCP.
func Listen(t testing.TB, mode mptcp.Mode) *net.TCPListener {
	t.Helper()
	l, _, err := mptcp.Listen(context.Background(), "127.0.0.1:0", mptcp.ListenOptions{Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(address string, mode mptcp.Mode) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	d := mptcp.Dialer{Mode: mode}
	c, _, err := d.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Metric is the value of a counter or gauge, or the count of a histogram, summed over the series
// that have the given labels (name, value, name, value …).
func Metric(t testing.TB, g prometheus.Gatherer, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, want []string) bool {
	for i := 0; i < len(want); i += 2 {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
			return l.GetName() == want[i] && l.GetValue() == want[i+1]
		}) {
			return false
		}
	}
	return true
}

// WaitMetric waits until Metric is want. Counters move a moment after what they count can be seen
// from outside, so it asks again.
func WaitMetric(t testing.TB, g prometheus.Gatherer, want float64, name string, labels ...string) {
	t.Helper()
	var got float64
	if !Within(Patience, func() bool { got = Metric(t, g, name, labels...); return got == want }) {
		t.Fatalf("%s%q is %v, want %v", name, labels, got, want)
	}
}

// Within calls is until it returns true or the time is over, for states that can only be polled.
func Within(d time.Duration, is func() bool) bool {
	end := time.NewTimer(d)
	defer end.Stop()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if is() {
			return true
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-end.C:
			again.Stop()
			return is()
		}
	}
}
