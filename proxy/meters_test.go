package proxy

import (
	"fmt"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"mpgate/proxy/route"
	"mpgate/telemetry"
)

func routesNamed(t *testing.T, names ...string) *Routes {
	t.Helper()
	var list []Route
	for _, n := range names {
		list = append(list, Route{Name: n, Match: route.Match{Paths: []string{"/" + n}}})
	}
	r, err := NewRoutes(list)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// series returns those of a metric.
func series(t *testing.T, in *telemetry.Instruments, name string) (all []*dto.Metric) {
	t.Helper()
	families, err := in.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			all = f.GetMetric()
		}
	}
	return all
}

// A meter is made once, and found without an allocation from then on.
func TestMeterIsMadeOnce(t *testing.T) {
	in := telemetry.NewInstruments("1")
	var names []string
	for i := range 3 * meterPage {
		names = append(names, fmt.Sprint(i))
	}
	routes := routesNamed(t, names...)
	l := New(Options{Instruments: in}).NewListener("web", ListenerOptions{Routes: routes})
	v := l.view.Load()
	for _, r := range routes.list {
		m := v.meters.of(r)
		if want := in.Exchange("web", r.Name); m != want || v.meters.of(r) != want {
			t.Fatalf("route %s: %p, then %p, want %p", r.Name, m, v.meters.of(r), want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { v.meters.of(routes.list[70]) }); n != 0 {
		t.Errorf("%v allocations to find a meter", n)
	}
	none := New(Options{}).NewListener("web", ListenerOptions{Routes: routes})
	if m := none.view.Load().meters.of(routes.list[0]); m != nil {
		t.Errorf("%v without instruments", m)
	}
}

// A reload hands the meters over to the routes of the same names, used ones only. Those of an
// exchange that outlasts its generation count on.
func TestMetersOverReload(t *testing.T) {
	in := telemetry.NewInstruments("1")
	p := New(Options{Instruments: in})
	first := routesNamed(t, "a", "b", "unused")
	l := p.NewListener("web", ListenerOptions{Routes: first, Passthrough: (*Passthroughs)(routesNamed(t, "sni"))})
	old := l.view.Load()
	end := &telemetry.Record{Method: []byte("GET"), Status: 200, End: telemetry.EndOK}
	count := func(m *telemetry.ExchangeMeter) {
		m.Start()
		m.End(end)
	}
	count(old.meters.of(first.list[0]))
	count(old.meters.of(first.list[1]))
	count(old.passthroughMeters.of(old.passthroughMeters.routes.list[0]))

	second := routesNamed(t, "c", "unused", "a")
	l.Update(ListenerOptions{Routes: second, Passthrough: (*Passthroughs)(routesNamed(t, "other", "sni"))})
	v := l.view.Load()
	inUse := func(want ...string) {
		t.Helper()
		got := map[string]bool{}
		for _, name := range []string{"mpgate_http_requests_in_flight", "mpgate_passthrough_connections_open"} {
			for _, m := range series(t, in, name) {
				got[m.GetLabel()[1].GetValue()] = true
			}
		}
		ok := len(got) == len(want)
		for _, w := range want {
			ok = ok && got[w]
		}
		if !ok {
			t.Errorf("in use are the meters of %v, want %v", got, want)
		}
	}
	inUse("a", "sni")
	if v.meters.of(second.list[2]) != old.meters.of(first.list[0]) ||
		v.passthroughMeters.of(v.passthroughMeters.routes.list[1]) != old.passthroughMeters.of(old.passthroughMeters.routes.list[0]) {
		t.Error("a reload gave a route another meter")
	}
	count(old.meters.of(first.list[1])) // of a route that is gone
	count(old.meters.of(first.list[2])) // of one that is there, but was not used before
	inUse("a", "sni")
	count(v.meters.of(second.list[1]))
	inUse("a", "sni", "unused")
	l.Close()
	inUse()
	if n := len(series(t, in, "mpgate_http_request_duration_seconds")); n != 3 {
		t.Errorf("%d routes have counted, want 3", n)
	}
}

// Exchanges that begin while listeners are updated are all counted, and no meter is left in use at
// the end.
func TestMetersDuringReload(t *testing.T) {
	in := telemetry.NewInstruments("1")
	p := New(Options{Instruments: in})
	routes := [2]*Routes{routesNamed(t, "a", "b", "c"), routesNamed(t, "c", "a")}
	l := p.NewListener("web", ListenerOptions{Routes: routes[0]})
	const workers, each = 4, 3000
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range each {
				v := l.view.Load()
				m := v.meters.of(v.meters.routes.list[i%len(v.meters.routes.list)])
				m.Start()
				m.End(&telemetry.Record{Method: []byte("GET"), Status: 200, End: telemetry.EndOK})
			}
		})
	}
	for i := range 500 {
		l.Update(ListenerOptions{Routes: routes[i%2]})
	}
	wg.Wait()
	l.Close()
	var sum float64
	for _, m := range series(t, in, "mpgate_http_requests_total") {
		sum += m.GetCounter().GetValue()
	}
	if sum != workers*each {
		t.Errorf("%v exchanges are counted, want %d", sum, workers*each)
	}
	if left := series(t, in, "mpgate_http_requests_in_flight"); len(left) != 0 {
		t.Errorf("in use at the end: %v", left)
	}
}
