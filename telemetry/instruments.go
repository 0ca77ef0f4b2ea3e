package telemetry

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Instruments are the metrics of one gateway. What is counted often is a handle's own atomics, read
// at scrape; the rest is a method here. All methods but Registry, and those of all handles and
// counters, may be called on nil, and all from anywhere.
type Instruments struct {
	LogDropped   Counter // access log lines that were dropped: for SpoolOptions.Dropped
	LogErrors    Counter // failed writes and reopens of the access log: for SpoolOptions.Errors
	Panics       Counter // exchanges ended by a panic
	AcceptErrors Counter // failed accepts

	shed [shortageCount]Counter

	registry  *prometheus.Registry
	buildInfo prometheus.Metric

	exchanges handles[exchangeKey, ExchangeMeter]
	servers   handles[serverKey, ServerMeter]
	listeners handles[string, ListenerMeter]
	mptcp     [sideCount]mptcpMeter

	mu           sync.Mutex
	paths        map[string]*pathMeter
	pathTotals   func(yield func(PathTotals) bool)
	plainDials   func() uint64
	certificates map[string]time.Time
	failing      map[string]bool
	reload       reloadState
	draining     int
}

// NewInstruments registers the metrics, with those of the Go runtime and the process, in a registry
// of its own. version is the program's.
func NewInstruments(version string) *Instruments {
	in := &Instruments{
		registry:     prometheus.NewRegistry(),
		buildInfo:    buildInfo(version),
		paths:        map[string]*pathMeter{},
		certificates: map[string]time.Time{},
		failing:      map[string]bool{},
	}
	in.registry.MustRegister(in, kernelCollector{},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return in
}

// Registry is what a scrape gathers. Others may register collectors of theirs.
func (in *Instruments) Registry() *prometheus.Registry { return in.registry }

// Exchange resolves the meter of the HTTP exchanges of a listener and a route ("" for those that no
// route matched). It is created by the first call, shared by later ones, and lives until each has
// been matched by one Release.
func (in *Instruments) Exchange(listener, route string) *ExchangeMeter {
	return in.exchange(exchangeKey{listener: listener, route: route})
}

// Passthrough is Exchange for connections that are forwarded unopened.
func (in *Instruments) Passthrough(listener, route string) *ExchangeMeter {
	return in.exchange(exchangeKey{listener: listener, route: route, passthrough: true})
}

func (in *Instruments) exchange(k exchangeKey) *ExchangeMeter {
	if in == nil {
		return nil
	}
	return in.exchanges.take(k, func() *ExchangeMeter { return &ExchangeMeter{in: in, key: k} })
}

// Server resolves the meter of one server of a backend; Release it as many times.
func (in *Instruments) Server(backend, server string) *ServerMeter {
	if in == nil {
		return nil
	}
	k := serverKey{backend, server}
	return in.servers.take(k, func() *ServerMeter { return &ServerMeter{in: in, key: k} })
}

// Listener resolves the meter of a listener's connections; Release it as many times.
func (in *Instruments) Listener(name string) *ListenerMeter {
	if in == nil {
		return nil
	}
	return in.listeners.take(name, func() *ListenerMeter { return &ListenerMeter{in: in, name: name} })
}

// SetCertificate says until when a certificate is valid. name is one from the configuration.
func (in *Instruments) SetCertificate(name string, notAfter time.Time) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.certificates[name] = notAfter
}

// DeleteCertificate takes a certificate that is no longer configured out of the metrics.
func (in *Instruments) DeleteCertificate(name string) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.certificates, name)
	delete(in.failing, name)
}

// SetCertificateFailing says whether the last attempt to renew or reload a certificate failed.
func (in *Instruments) SetCertificateFailing(name string, failing bool) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.failing[name] = failing
}

type reloadState struct {
	tried      bool
	ok         bool
	okAt, at   time.Time
	generation uint64
	total      [2]uint64 // failed, ok
}

// Reload tells the outcome of loading a configuration, the first one included. generation is the
// one that serves afterwards.
func (in *Instruments) Reload(ok bool, generation uint64, at time.Time) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	r := &in.reload
	r.tried, r.ok, r.at, r.generation = true, ok, at, generation
	if ok {
		r.okAt = at
		r.total[1]++
	} else {
		r.total[0]++
	}
}

// SetDraining says how many old generations still have work to end.
func (in *Instruments) SetDraining(generations int) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.draining = generations
}

// Counter only goes up. The zero value is ready, and nil counts nothing.
type Counter struct{ v atomic.Uint64 }

func (c *Counter) Inc() { c.Add(1) }

func (c *Counter) Add(n uint64) {
	if c != nil {
		c.v.Add(n)
	}
}

func (c *Counter) Value() uint64 {
	if c == nil {
		return 0
	}
	return c.v.Load()
}

// handles are meters by what they count, each as long as somebody holds it.
type handles[K comparable, M any] struct {
	mu   sync.Mutex
	held map[K]*handle[M]
}

type handle[M any] struct {
	meter *M
	refs  int
}

func (h *handles[K, M]) take(k K, create func() *M) *M {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.held[k]
	if e == nil {
		if h.held == nil {
			h.held = map[K]*handle[M]{}
		}
		e = &handle[M]{meter: create()}
		h.held[k] = e
	}
	e.refs++
	return e.meter
}

// release gives one reference back. m guards against one release too many, after which k may name
// somebody else's meter.
func (h *handles[K, M]) release(k K, m *M) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.held[k]
	if e == nil || e.meter != m {
		return
	}
	if e.refs--; e.refs == 0 {
		delete(h.held, k)
	}
}

// all returns the meters held now, so that a scrape does not hold up a reload.
func (h *handles[K, M]) all() []*M {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*M, 0, len(h.held))
	for _, e := range h.held {
		all = append(all, e.meter)
	}
	return all
}

func buildInfo(version string) prometheus.Metric {
	revision, goversion := "", ""
	if bi, ok := debug.ReadBuildInfo(); ok {
		goversion = bi.GoVersion
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return prometheus.MustNewConstMetric(descBuildInfo, prometheus.GaugeValue, 1, version, revision, goversion)
}
