package telemetry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// gather returns the series of mpgate's own by `name{label="value",…}`. A histogram is its count.
func gather(t *testing.T, in *Instruments) map[string]float64 {
	t.Helper()
	families, err := in.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), "mpgate_")
		if !ours {
			continue
		}
		for _, m := range f.GetMetric() {
			got[name+labels(m)] = value(m)
		}
	}
	return got
}

func labels(m *dto.Metric) string {
	var l []string
	for _, p := range m.GetLabel() {
		l = append(l, fmt.Sprintf("%s=%q", p.GetName(), p.GetValue()))
	}
	if l == nil {
		return ""
	}
	return "{" + strings.Join(l, ",") + "}"
}

func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return float64(m.Histogram.GetSampleCount())
}

func expect(t *testing.T, got map[string]float64, want map[string]float64) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[k]; !ok {
			t.Errorf("%s is missing", k)
		} else if v != want[k] {
			t.Errorf("%s = %v, want %v", k, v, want[k])
		}
	}
}

// exercise touches every metric once.
func exercise(in *Instruments) {
	m := in.Exchange("web", "api")
	m.Start()
	m.Start()
	r := sample()
	r.DroppedFields, r.Filter = 2, "allow"
	m.End(r)
	in.Auth("api", "basic_auth").Count(AuthPassed)
	in.Limits("api").Exceeded(LimitRate, false)
	in.Limits("api").Shared()
	in.Mirror("api", "shadow").Count(MirrorSent)
	pool := in.Backend("api")
	pool.Waiting(1)
	pool.Queued(QueueServed, time.Second)
	pool.RetryRefused()
	pool.Hedged(HedgeWon)
	in.AuthSource("/etc/users").Read(time.Now(), nil)
	p := in.Passthrough("web", "sni")
	p.Start()
	s := in.Server("app", "10.0.1.10:8080")
	s.Start()
	s.Request(200)
	s.Request(0)
	s.FirstByte(time.Millisecond)
	s.Retry()
	s.Connect(TransportMPTCP, ConnectOK)
	s.Connect("", ConnectRefused)
	s.Open(3)
	s.Idle(2)
	s.Up(false)
	s.Drained(true)
	s.Changed(ChangeEject, ServerDown)
	s.Checked(true)
	in.BackendHealth("app").Panics(true)
	in.SetNames(func(yield func(NameTotals) bool) {
		yield(NameTotals{Backend: "app", Name: "app:8080", Found: 2, At: time.Now(), Lookups: 3, Failed: 1})
		yield(NameTotals{Backend: "app", Name: "app:8080"})
	})
	in.Compress.Add("gzip", 1000, 100)
	l := in.Listener("web")
	l.Opened()
	l.Opened()
	l.Closed(ConnSilent)
	l.Handshake("TLS 1.3", true)
	l.HandshakeError(TLSNoCertificate)
	in.MPTCPEnded(SideListener, TransportFallback)
	in.MPTCPFellBack(SideListener, "later")
	in.MPTCPSubflows(SideBackend, 4)
	in.MPTCPReceiveStall(SideBackend)
	in.SetPathUp("wwan", false)
	in.PathFailover("wwan", 60*time.Millisecond)
	in.SetPlainDials(func() uint64 { return 9 })
	in.SetPathTotals(func(yield func(PathTotals) bool) {
		yield(PathTotals{"wwan", 10, 20, 3, 1, 5, 4, 2, 6, 7})
	})
	in.SetCertificate("example.org", time.Unix(1800000000, 0))
	in.SetCertificateFailing("example.org", true)
	in.Reload(true, 1, time.Unix(1700000000, 0))
	in.Reload(false, 1, time.Unix(1700000060, 0))
	in.SetDraining(1)
	in.Panics.Inc()
	in.LogDropped.Add(7)
}

func TestInstruments(t *testing.T) {
	in := NewInstruments("1.2.3")
	exercise(in)
	got := gather(t, in)
	expect(t, got, map[string]float64{
		`http_requests_total{code="200",listener="web",method="GET",route="api"}`:                     1,
		`http_request_duration_seconds{listener="web",route="api"}`:                                   1,
		`http_requests_in_flight{listener="web",route="api"}`:                                         1,
		`exchanges_total{end="ok",listener="web",route="api"}`:                                        1,
		`exchange_body_bytes_total{direction="in",listener="web",route="api"}`:                        7,
		`exchange_body_bytes_total{direction="out",listener="web",route="api"}`:                       1024,
		`filter_ended_requests_total{code="200",filter="allow",listener="web",route="api"}`:           1,
		`header_fields_dropped_total{listener="web",route="api"}`:                                     2,
		`passthrough_connections_open{listener="web",route="sni"}`:                                    1,
		`backend_requests_total{backend="app",code="200",server="10.0.1.10:8080"}`:                    1,
		`backend_requests_total{backend="app",code="",server="10.0.1.10:8080"}`:                       1,
		`backend_requests_in_flight{backend="app",server="10.0.1.10:8080"}`:                           1,
		`backend_first_byte_seconds{backend="app",server="10.0.1.10:8080"}`:                           1,
		`backend_retries_total{backend="app",server="10.0.1.10:8080"}`:                                1,
		`backend_connects_total{backend="app",result="ok",server="10.0.1.10:8080",transport="mptcp"}`: 1,
		`backend_connects_total{backend="app",result="refused",server="10.0.1.10:8080",transport=""}`: 1,
		`backend_connections_open{backend="app",server="10.0.1.10:8080"}`:                             3,
		`backend_connections_idle{backend="app",server="10.0.1.10:8080"}`:                             2,
		`backend_server_up{backend="app",server="10.0.1.10:8080"}`:                                    0,
		`connections_total{end="silent",listener="web"}`:                                              1,
		`connections_open{listener="web"}`:                                                            1,
		`tls_handshakes_total{listener="web",resumed="true",version="TLS 1.3"}`:                       1,
		`tls_handshake_errors_total{listener="web",reason="no_certificate"}`:                          1,
		`mptcp_connections_total{result="fallback",side="listener"}`:                                  1,
		`mptcp_connections_total{result="mptcp",side="backend"}`:                                      0,
		`mptcp_fallbacks_total{reason="later",side="listener"}`:                                       1,
		`mptcp_fallbacks_total{reason="not_offered",side="backend"}`:                                  0,
		`mptcp_subflows{side="backend"}`:                                                              4,
		`mptcp_receive_stalls_total{side="backend"}`:                                                  1,
		`mptcp_plain_dials_total`:                                                                     9,
		`path_up{path="wwan"}`:                                                                        0,
		`path_bytes_total{direction="sent",path="wwan"}`:                                              10,
		`path_bytes_total{direction="received",path="wwan"}`:                                          20,
		`path_retransmitted_bytes_total{path="wwan"}`:                                                 3,
		`path_subflows{path="wwan"}`:                                                                  1,
		`path_subflows_opened_total{path="wwan"}`:                                                     5,
		`path_subflows_closed_total{path="wwan"}`:                                                     4,
		`path_subflows_failed_total{path="wwan"}`:                                                     2,
		`path_cuts_total{path="wwan"}`:                                                                6,
		`path_returns_total{path="wwan"}`:                                                             7,
		`path_failover_gap_seconds{path="wwan"}`:                                                      1,
		`tls_certificate_failing{name="example.org"}`:                                                 1,
		`tls_certificate_not_after_timestamp_seconds{name="example.org"}`:                             1800000000,
		`reload_success`:                   0,
		`reload_success_timestamp_seconds`: 1700000000,
		`reload_attempt_timestamp_seconds`: 1700000060,
		`reloads_total{result="ok"}`:       1,
		`reloads_total{result="refused"}`:  1,
		`config_generation`:                1,
		`config_generations_draining`:      1,
		`panics_total`:                     1,
		`log_dropped_total`:                7,
		`log_errors_total`:                 0,
	})
	for k := range got {
		if strings.HasPrefix(k, `http_requests_total`) && strings.Contains(k, `route="sni"`) {
			t.Errorf("a passed-through connection counts as HTTP: %s", k)
		}
	}
	build := slices.ContainsFunc(slices.Collect(maps.Keys(got)), func(k string) bool {
		return strings.HasPrefix(k, "build_info{") && strings.Contains(k, `version="1.2.3"`)
	})
	if !build {
		t.Error("build_info is missing")
	}
}

// Every description is sent, every metric is described, names and units are as Prometheus wants
// them.
func TestInstrumentsLint(t *testing.T) {
	in := NewInstruments("1")
	exercise(in)
	strict := prometheus.NewPedanticRegistry()
	strict.MustRegister(in, kernelCollector{})
	families, err := strict.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	seen := map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
	}
	for _, d := range descs {
		name := strings.Split(d.String(), `"`)[1]
		if !seen[name] {
			t.Errorf("%s is described and never sent", name)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 60 * time.Second, time.Hour} {
		h.observe(d)
	}
	count, sum, buckets := h.read()
	if count != 5 || sum < 3660 || sum > 3661 {
		t.Errorf("count %d, sum %v", count, sum)
	}
	for le, want := range map[float64]uint64{0.001: 2, 0.0025: 3, 30: 3, 60: 4} {
		if buckets[le] != want {
			t.Errorf("le %v: got %d, want %d", le, buckets[le], want)
		}
	}
}

func TestMethodsAndCodes(t *testing.T) {
	in := NewInstruments("1")
	m := in.Exchange("l", "")
	for _, tt := range []struct {
		method string
		code   int
	}{{"PROPFIND", 207}, {"get", 200}, {"", 400}, {"GET", 0}, {"GET", 999}, {"GET", 999}, {"GET", -1}, {"GET", 1000000}} {
		m.Start()
		m.End(&Record{Method: []byte(tt.method), Status: tt.code, End: End(77)})
	}
	got := gather(t, in)
	expect(t, got, map[string]float64{
		`http_requests_total{code="207",listener="l",method="other",route=""}`: 1,
		`http_requests_total{code="200",listener="l",method="other",route=""}`: 1,
		`http_requests_total{code="400",listener="l",method="",route=""}`:      1,
		`http_requests_total{code="",listener="l",method="GET",route=""}`:      1,
		`http_requests_total{code="999",listener="l",method="GET",route=""}`:   2,
		`http_requests_in_flight{listener="l",route=""}`:                       0,
		`exchanges_total{end="internal",listener="l",route=""}`:                8,
	})
	for k := range got {
		if strings.Contains(k, "1000000") || strings.Contains(k, `"-1"`) {
			t.Errorf("not a status code: %s", k)
		}
	}
}

func TestInFlightIsNeverNegative(t *testing.T) {
	in := NewInstruments("1")
	m := in.Exchange("l", "r")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			r := &Record{Method: []byte("GET"), Status: 200, End: EndOK}
			for {
				select {
				case <-stop:
					return
				default:
					m.Start()
					m.End(r)
				}
			}
		})
	}
	for range 2000 {
		if n := m.InFlight(); n < 0 {
			t.Errorf("in flight: %d", n)
			break
		}
	}
	close(stop)
	wg.Wait()
	if n := m.InFlight(); n != 0 {
		t.Errorf("in flight at the end: %d", n)
	}
}

// All methods may be called on nil.
func TestNil(t *testing.T) {
	var in *Instruments
	m, s, l := in.Exchange("", ""), in.Server("", ""), in.Listener("")
	m.Start()
	m.End(&Record{})
	m.Release()
	s.Start()
	s.Done()
	s.Connect("", ConnectOK)
	s.Release()
	l.Opened()
	l.Closed(ConnOK)
	l.Handshake("", false)
	l.Release()
	in.MPTCPEnded(SideBackend, TransportTCP)
	in.MPTCPSubflows(SideBackend, 1)
	in.Reload(true, 1, time.Time{})
	in.SetPathUp("", true)
	if m.InFlight() != 0 || s.InFlight() != 0 {
		t.Error("nil counts")
	}
	var log *AccessLog
	log.Log(&Record{})
	if err := log.Reopen(); err != nil {
		t.Error(err)
	}
	if err := log.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
