package backend

import (
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/telemetry"
)

// The server counts the requests in progress, with and without metrics.
func TestInFlight(t *testing.T) {
	for _, p := range []Protocol{HTTP1, HTTP2} {
		for _, in := range []*telemetry.Instruments{nil, telemetry.NewInstruments("test")} {
			address := h2c(t)
			if p == HTTP1 {
				address = proxytest.NewOrigin(t, mptcp.Off, silent).Address()
			}
			b, err := New(Options{Name: "b", Servers: servers(address), Protocol: p, Instruments: in})
			if err != nil {
				t.Fatal(err)
			}
			want := func(n int64) {
				t.Helper()
				if got := b.list()[0].inFlight.Load(); got != n {
					t.Errorf("protocol %d: %d requests in progress, want %d", p, got, n)
				}
				if in != nil {
					if got := proxytest.Metric(t, in.Registry(), "mpgate_backend_requests_in_flight"); got != float64(n) {
						t.Errorf("protocol %d: the metric is %v, want %d", p, got, n)
					}
				}
			}
			var list []Stream
			for n := range 3 {
				up, _, err := attempt(b, Request{})
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, up)
				want(int64(n + 1))
			}
			for n, up := range list {
				up.Abort()
				up.Release(time.Now())
				want(int64(2 - n))
			}
			b.Discard()
			b.readers.Wait()
		}
	}
}
