package backend

import (
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/telemetry"
)

// A request that reaches a restored server before its tasks start ends the outage.
func TestRestoredOutageEndsEarly(t *testing.T) {
	b, err := New(Options{Name: "b", Servers: someServers[:1], Restore: []ServerState{{Address: someServers[0].Address, Down: time.Now(), Why: "refused"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Discard()
	s := b.list()[0]
	s.connectSucceeded()
	b.startServers()
	if !s.healthy() {
		t.Error("the outage has come back")
	}
}

// A reload that forgets the states of the servers ends the panic of the backend before.
func TestPanicMetricAfterReload(t *testing.T) {
	o := Options{Servers: someServers[:1]}
	b, in := pool(t, o, probingEvery(time.Hour))
	b.list()[0].fail(telemetry.ChangeCheck, &checkError{"GET /: status 503"})
	proxytest.WaitMetric(t, in.Registry(), 1, "mpgate_backend_panic")
	o.Name, o.Instruments, o.Restore, o.Health = "pool", in, b.States(), "another check"
	next, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Discard()
	next.startServers()
	if proxytest.Metric(t, in.Registry(), "mpgate_backend_panic") != 0 {
		t.Error("the metric is that of the backend before")
	}
}
