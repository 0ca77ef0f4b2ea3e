package telemetry

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Instruments are the metrics of one gateway. What is counted often is in the atomics of a handle,
// read at a scrape; methods of Instruments count the rest. All methods but Registry, and those of
// all handles and counters, may be called on nil, and all from anywhere.
type Instruments struct {
	LogDropped   Counter // access log lines that were dropped: for SpoolOptions.Dropped
	LogErrors    Counter // failed writes and reopens of the access log: for SpoolOptions.Errors
	Panics       Counter // exchanges and connections ended by a panic
	TaskPanics   Counter // panics in other tasks of the gateway
	AcceptErrors Counter // failed accepts
	Compress     CompressMeter

	shed [shortageCount]Counter

	registry  *prometheus.Registry
	buildInfo prometheus.Metric

	exchanges meters[exchangeKey, *ExchangeMeter]
	servers   meters[serverKey, *ServerMeter]
	healths   meters[string, *BackendHealthMeter]
	backends  meters[string, *BackendMeter]
	listeners meters[string, *ListenerMeter]
	auths     meters[authKey, *AuthMeter]
	limits    meters[string, *LimitMeter]
	mirrors   meters[mirrorKey, *MirrorMeter]
	mptcp     [sideCount]mptcpMeter

	authSources meters[string, *AuthSourceMeter]

	mu           sync.Mutex
	paths        map[string]*pathMeter
	pathTotals   func(yield func(PathTotals) bool)
	plainDials   func() uint64
	names        func(yield func(NameTotals) bool)
	ownDropped   *Counter
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

// Registry is what a scrape gathers. Other packages may register collectors in it.
func (in *Instruments) Registry() *prometheus.Registry { return in.registry }

// Exchange returns the meter of the HTTP exchanges of a listener and a route ("" for those that no
// route matched). The first call creates it, later ones share it. Each call is matched by one
// Release. Once all are released, what the meter has counted is still exported, and a later call
// continues it; see retained.
func (in *Instruments) Exchange(listener, route string) *ExchangeMeter {
	return in.exchange(exchangeKey{listener: listener, route: route})
}

// Passthrough is Exchange for connections that are passed through.
func (in *Instruments) Passthrough(listener, route string) *ExchangeMeter {
	return in.exchange(exchangeKey{listener: listener, route: route, passthrough: true})
}

func (in *Instruments) exchange(k exchangeKey) *ExchangeMeter {
	if in == nil {
		return nil
	}
	return in.exchanges.take(k, func() *ExchangeMeter { return &ExchangeMeter{in: in, key: k} })
}

// Server returns the meter of one server of a backend, like Exchange.
func (in *Instruments) Server(backend, server string) *ServerMeter {
	if in == nil {
		return nil
	}
	k := serverKey{backend, server}
	return in.servers.take(k, func() *ServerMeter { return &ServerMeter{in: in, key: k} })
}

// Listener returns the meter of a listener's connections, like Exchange.
func (in *Instruments) Listener(name string) *ListenerMeter {
	if in == nil {
		return nil
	}
	return in.listeners.take(name, func() *ListenerMeter { return &ListenerMeter{in: in, name: name} })
}

// SetCertificate sets the expiry of a certificate. name is from the configuration.
func (in *Instruments) SetCertificate(name string, notAfter time.Time) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.certificates[name] = notAfter
}

// DeleteCertificate removes a certificate that is no longer configured from the metrics.
func (in *Instruments) DeleteCertificate(name string) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.certificates, name)
	delete(in.failing, name)
}

// SetCertificateFailing sets whether the last attempt to renew or reload a certificate failed.
func (in *Instruments) SetCertificateFailing(name string, failing bool) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.failing[name] = failing
}

// SetOwnLog sets the counter of dropped lines of the program's own log.
func (in *Instruments) SetOwnLog(dropped *Counter) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ownDropped = dropped
}

type reloadState struct {
	tried      bool
	ok         bool
	okAt, at   time.Time
	generation uint64
	total      [2]uint64 // failed, ok
}

// Reload records the outcome of loading a configuration, including the first one. generation is the
// active one afterwards.
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

// SetDraining sets the number of old generations that still have work to finish.
func (in *Instruments) SetDraining(generations int) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.draining = generations
}

// Counter only increases. The zero value is ready for use; nil counts nothing.
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
