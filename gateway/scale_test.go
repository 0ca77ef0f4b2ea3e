package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
)

// large is a configuration of that many listeners and routes, and a backend of one server for each
// ten routes.
func large(listeners, routes int) string {
	var b strings.Builder
	b.WriteString(head)
	for i := range listeners {
		b.WriteString(listenerTable(fmt.Sprintf("l%d", i), "127.0.0.1:0", ""))
	}
	for i := range routes {
		b.WriteString(routeTable(fmt.Sprintf("r%d", i), fmt.Sprintf("host = \"h%d.example\"", i), fmt.Sprintf("b%d", i/10)))
	}
	for i := range (routes + 9) / 10 {
		b.WriteString(backendTable(fmt.Sprintf("b%d", i), fmt.Sprintf("127.0.0.1:%d", 1+i), ""))
	}
	return b.String()
}

// costs are what a configuration takes before the first request.
type costs struct {
	allocated, reload int64 // bytes that were allocated to start, and to reload
	series            int64
}

func costsOf(t *testing.T, toml string) costs {
	t.Helper()
	var before, started, reloaded runtime.MemStats
	runtime.ReadMemStats(&before)
	r := startRig(t, toml, nil)
	runtime.ReadMemStats(&started)
	r.swap(toml)
	runtime.ReadMemStats(&reloaded)
	families, err := r.metrics.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	c := costs{allocated: int64(started.TotalAlloc - before.TotalAlloc), reload: int64(reloaded.TotalAlloc - started.TotalAlloc)}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "mpgate_") {
			c.series += int64(len(f.GetMetric()))
		}
	}
	r.end()
	return c
}

// TestCostsGrowWithListenersAndRoutes, not with their product: what many of both cost beyond many
// of each is next to nothing, of memory and of metric series.
func TestCostsGrowWithListenersAndRoutes(t *testing.T) {
	const few, listeners, routes = 2, 60, 1000
	base, l, r, both := costsOf(t, large(few, few)), costsOf(t, large(listeners, few)), costsOf(t, large(few, routes)), costsOf(t, large(listeners, routes))
	t.Logf("few of both %+v, many listeners %+v, many routes %+v, many of both %+v", base, l, r, both)
	const pairs = (listeners - few) * (routes - few)
	for what, more := range map[string]int64{
		"bytes to start":  both.allocated - l.allocated - r.allocated + base.allocated,
		"bytes to reload": both.reload - l.reload - r.reload + base.reload,
	} {
		if more > 24*pairs { // a meter has several times that
			t.Errorf("%d %s for %d pairs of a listener and a route", more, what, pairs)
		}
	}
	if more := both.series - l.series - r.series + base.series; more != 0 {
		t.Errorf("%d series for %d pairs of a listener and a route", more, pairs)
	}
}

// TestCountersOutliveReloads: what a reload takes away keeps its counters, and counts on from there
// when it comes back.
func TestCountersOutliveReloads(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(server.Close)
	other := named(t, "other")
	web, gone := proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	stays := head + listenerTable("web", web, "") + routeTable("all", "", "app")
	less := stays + backendTable("app", other, "")
	whole := strings.Replace(stays, `"app"`, `"main"`, 1) + routeTable("x", `path = "/x"`, "main") +
		listenerTable("gone", gone, "") + backendTable("main", server.URL, "")
	r := startRig(t, whole, nil)
	address := strings.TrimPrefix(server.URL, "http://")
	count := func(want float64) {
		t.Helper()
		for _, c := range []struct {
			name   string
			labels []string
		}{
			{"mpgate_http_requests_total", []string{"listener", "gone", "route", "x"}},
			{"mpgate_exchanges_total", []string{"listener", "gone", "route", "x", "end", "ok"}},
			{"mpgate_connections_total", []string{"listener", "gone", "end", "ok"}},
			{"mpgate_backend_requests_total", []string{"backend", "main", "server", address, "code", "200"}},
		} {
			got := func() float64 { return proxytest.Metric(t, r.metrics.Registry(), c.name, c.labels...) }
			if !proxytest.Within(patience, func() bool { return got() == want }) {
				t.Fatalf("%s%v is %v, want %v", c.name, c.labels, got(), want)
			}
		}
	}
	ask := func() {
		t.Helper()
		if got := fetch(t, "http://"+gone+"/x"); got != "200 ok" {
			t.Errorf("got %q", got)
		}
	}
	ask()
	count(1)
	for i := range 3 {
		r.swap(less)
		count(float64(1 + i))
		r.swap(less)
		count(float64(1 + i))
		r.swap(whole)
		count(float64(1 + i))
		ask()
		count(float64(2 + i))
	}
}
