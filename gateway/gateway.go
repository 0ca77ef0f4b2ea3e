package gateway

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/admin"
	"mpgate/certs"
	"mpgate/config"
	"mpgate/listener"
	"mpgate/mptcp"
	"mpgate/mptcp/paths"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/coding"
	"mpgate/proxy/conninfo"
	"mpgate/proxy/filter/auth"
	"mpgate/proxy/filter/limit"
	"mpgate/proxy/http2"
	"mpgate/proxy/limits"
	"mpgate/task"
	"mpgate/telemetry"
)

// Options are what a gateway needs in addition to its configuration.
type Options struct {
	Version   string
	Inherited *listener.Inherited // nil: none
	// Load reads the configuration again, for Reload; nil: it cannot be reloaded.
	Load   func() (*config.Config, error)
	Logger *slog.Logger // nil: nothing is logged
	// LogDropped counts the lines of the Logger that were dropped; nil: none are.
	LogDropped *telemetry.Counter
	// LogSettings follow the configuration, if not nil. They are those of the Logger.
	LogSettings *LogSettings
	// Notifier notifies the service manager; nil: there is none.
	Notifier *Notifier
	// Parent is the process that this one replaces; nil: none.
	Parent *Parent
	// Command gives the command that replaces this process, for Upgrade; nil: it cannot be
	// replaced.
	Command func() (path string, args []string)
	// Shield calls start while signals that would end a new process, before it handles them, are
	// ignored; nil: none are.
	Shield func(start func() error) error
}

// Gateway is a running gateway.
type Gateway struct {
	options Options
	log     *slog.Logger
	started time.Time

	metrics *telemetry.Instruments
	access  atomic.Pointer[telemetry.AccessLog] // nil: off
	gate    *listener.Gate
	// clients is the limit of client connections, from the descriptors or the configuration.
	clients     atomic.Int64
	places      backend.ConnLimit // for connections to servers, and files
	encoders    coding.Encoders   // bounds the memory of compression
	group       *memoryGroup      // nil: the memory is not limited; nor are the next two then
	room        *proxy.Room       // for exchanges
	streams     http2.Memory      // for what servers of HTTP/2 may have us hold
	proxy       *proxy.Proxy
	limitMemory limit.Memory // bounds the tables of all limits of routes
	certs       *certs.Manager
	hashing     *auth.Queue  // of passwords
	credentials *auth.Memory // that were valid
	// admin is nil if it is off, or if the default address is not available.
	admin            atomic.Pointer[adminServer]
	store            *fdStore
	tasks            *tasks
	stopPanicReports func() // ends the reports of panics

	paths       atomic.Pointer[paths.Manager] // nil: never asked for
	pathsRun    bool
	front, back conninfo.Registry // the connections that use MPTCP
	names       backend.Names     // what is known about the names of servers
	memory      mptcp.Memory      // what dials have learned about servers

	state     atomic.Uint32
	draining  atomic.Int32  // old generations with work left
	replaced  chan struct{} // closed when upgraded: another process has taken over
	successor *os.File      // open as long as this process has connections, for that process to see

	mu     sync.Mutex // held while a generation is built and swapped
	gen    atomic.Pointer[generation]
	reload atomic.Pointer[admin.Reload]

	changed chan []string // files of TLS policies; see followFiles
}

// The states of a gateway: starting ─► ready ─► draining.
const (
	starting uint32 = iota
	ready
	draining
)

// Open builds the first generation and opens every address. ctx limits the opening only.
func Open(ctx context.Context, cfg *config.Config, o Options) (_ *Gateway, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Inherited == nil {
		o.Inherited = new(listener.Inherited)
	}
	g := &Gateway{options: o, log: o.Logger, started: time.Now(), tasks: newTasks(o.Logger), replaced: make(chan struct{}), changed: make(chan []string, 1)}
	g.hashing, g.credentials = auth.NewQueue(0), auth.NewMemory()
	g.metrics = telemetry.NewInstruments(o.Version)
	g.stopPanicReports = task.OnPanic(g.panicked)
	g.metrics.SetOwnLog(o.LogDropped)
	g.metrics.SetPlainDials(g.memory.Skipped)
	g.metrics.SetNames(g.nameTotals)
	g.front.BeforeClose, g.back.BeforeClose = g.countClosing, g.countClosing
	defer func() {
		if err != nil {
			g.closeAll()
		}
	}()
	g.store = newFDStore(o.Notifier, o.Inherited, o.Parent, o.Logger)
	o.Inherited.OnDrop, o.Inherited.Held = g.store.drop, g.held
	access, err := g.openAccessLog(&cfg.Log)
	if err != nil {
		return nil, g.fault(cfg, "log.access", err)
	}
	g.access.Store(access)
	g.gate = listener.NewGate(0)
	g.encoders.Limit = coding.EncoderMemory()
	g.places.CloseIdle = g.closeIdleConnection
	g.limitConnections(cfg.Limits.Connections)
	g.openMemory()
	g.proxy = proxy.New(g.proxyOptions(cfg.Limits))
	g.gate.Full = g.proxy.Shed
	g.openCerts(cfg)
	gen, err := g.build(ctx, nil, cfg)
	if err != nil {
		return nil, err
	}
	g.gen.Store(gen)
	if err := o.Inherited.CheckUnused(); err != nil {
		return nil, err
	}
	if err := g.openPaths(cfg); err != nil {
		return nil, err
	}
	server, err := g.openAdmin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	g.admin.Store(server)
	for _, s := range o.Inherited.CloseSpares() {
		if s.Origin == listener.Parent { // it still has them, and closes them itself
			continue
		}
		g.log.Info("closed a socket of an earlier process: no listener has its address", "address", s.Address)
	}
	return g, nil
}

// closeAll undoes a failed Open.
func (g *Gateway) closeAll() {
	defer g.stopPanicReports()
	if m := g.paths.Load(); m != nil {
		m.Close()
	}
	if gen := g.gen.Load(); gen != nil {
		gen.closeNew(nil)
	}
	if s := g.admin.Load(); s != nil {
		_ = s.Close(context.Background())
	}
	if l := g.access.Load(); l != nil {
		_ = l.Close(context.Background())
	}
	if g.proxy != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		g.proxy.Shutdown(now)
	}
	if g.group != nil {
		g.group.close()
	}
	_ = g.options.Inherited.Close()
}

// fault gives an error the position of a key in the configuration.
func (g *Gateway) fault(cfg *config.Config, key string, err error) error {
	return placed(cfg, key, err)
}

func placed(cfg *config.Config, key string, err error) config.Errors {
	file, line := cfg.Position(key)
	return config.Errors{{File: file, Line: line, Key: key, Msg: err.Error(), Severity: config.Error}}
}

func (g *Gateway) openAccessLog(l *config.Log) (*telemetry.AccessLog, error) {
	return telemetry.OpenAccessLog(telemetry.AccessLogOptions{
		Format: l.Format, Fields: l.Fields,
		SpoolOptions: telemetry.SpoolOptions{
			Destination: l.Access, Logger: g.log, Dropped: &g.metrics.LogDropped, Errors: &g.metrics.LogErrors,
		},
	})
}

func (g *Gateway) proxyOptions(l limits.Limits) proxy.Options {
	return proxy.Options{
		Limits: proxyLimits(l), Instruments: g.metrics, AccessLog: g.access.Load(), Logger: g.log, Closed: g.gate.Leave, Ready: g.isReady, PathAt: g.pathAt,
		Live: &g.front, Room: g.room, StreamMemory: g.streamMemory(),
	}
}

// proxyLimits are the limits of the file for the proxy: there a rate of zero is the default.
func proxyLimits(l limits.Limits) limits.Limits {
	if l.MinRate == 0 {
		l.MinRate = -1
	}
	return l
}

// Run serves until ctx ends, then drains: readiness fails first, exchanges in progress finish, and
// what is left after the configured time, or when kill ends, is aborted. onReady is called once
// every listener accepts.
func (g *Gateway) Run(ctx, kill context.Context, onReady func()) error {
	defer g.notifySuccessor()
	if g.group != nil {
		defer g.group.close()
	}
	defer g.closeLogs()
	g.runAccessLog(g.access.Load())
	if s := g.admin.Load(); s != nil {
		g.tasks.run("admin", s.Serve)
	}
	g.tasks.run("certificates", g.certs.Run)
	g.tasks.keep("memory of limits", g.limitMemory.Run)
	g.tasks.keep("changed files", g.followFiles)
	g.tasks.keep("changed files of routes", g.followContents)
	g.tasks.keep("MPTCP connections", g.watchReceiveStalls)
	if g.group != nil {
		g.tasks.keep("memory", g.watchMemory)
	}
	err := catchPanic("start", func() error { return g.begin(ctx) })
	if err == nil {
		g.announce(nil)
		if a := g.AdminAddress(); a != "" {
			g.log.Info("admin address", "address", a)
		}
		g.log.Info("ready", "version", g.options.Version, "pid", os.Getpid(), "kernel_mptcp", hostUsable())
		g.options.Notifier.send("READY=1", "STATUS="+g.statusLine())
		g.tasks.keep("service manager", g.serveManager)
		if onReady != nil {
			onReady()
		}
		select {
		case <-ctx.Done():
		case <-g.replaced:
		case err = <-g.tasks.failed:
			g.log.Error("a task failed; draining", "err", err)
		}
	} else if ctx.Err() != nil {
		err = nil
	}
	g.drain(kill)
	return err
}

// begin starts the first generation.
func (g *Gateway) begin(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.options.Parent == nil {
		g.runPaths()
	}
	gen := g.gen.Load()
	gen.start(g)
	err := gen.probe(ctx) // from here on every listener accepts
	if err == nil && g.options.Parent != nil {
		err = g.takeOver(ctx)
	}
	if err == nil {
		g.state.Store(ready)
	}
	g.metrics.Reload(true, 1, g.started)
	g.reload.Store(&admin.Reload{At: g.started, OK: true})
	g.store.sync(gen)
	return err
}

// lastRequestTime is how long connections that were accepted during the drain may take for one
// request.
const lastRequestTime = 5 * time.Second

// drain ends the gateway: it closes sockets that no other process keeps; open connections finish,
// while new ones on the other sockets are served once and closed; then those sockets are left to
// the next process.
func (g *Gateway) drain(kill context.Context) {
	g.state.Store(draining)
	g.mu.Lock() // no reload from here on
	defer g.mu.Unlock()
	// Another process continues with the sockets.
	handedOver := g.isReplaced() || g.options.Parent.isServing()
	if !handedOver {
		g.options.Notifier.send("STOPPING=1", "STATUS=draining")
	}
	gen := g.gen.Load()
	limit := gen.config.Shutdown.Drain
	g.log.Info("draining", "connections", g.proxy.Connections(), "at_most", limit.String())
	for _, f := range gen.listeners {
		f.leave = handedOver || g.store.holds(f)
	}
	gen.stopAccepting(func(f *front) bool { return handedOver || !f.leave && !f.sockets.Activated() })
	ctx, cancel := context.WithTimeout(kill, limit)
	defer cancel()
	if cut := g.proxy.Drain(ctx); cut > 0 {
		why := "shutdown.drain expired"
		if kill.Err() != nil {
			why = "a second signal arrived"
		}
		g.log.Warn("connections aborted: still in use when "+why, "connections", cut)
	}
	gen.stopAccepting(func(*front) bool { return true })
	last, cancel := context.WithTimeout(kill, lastRequestTime)
	defer cancel()
	g.proxy.Shutdown(last)
	gen.close()
	if s := g.admin.Load(); s != nil {
		_ = s.Close(last)
	}
	_ = g.options.Inherited.Close()
	g.options.Parent.awaitEnd(kill, limit+lastRequestTime)
	g.log.Info("stopped")
}

func (g *Gateway) isReplaced() bool {
	select {
	case <-g.replaced:
		return true
	default:
		return false
	}
}

// closeLogs comes last, so that all log lines are written.
func (g *Gateway) closeLogs() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := g.access.Load().Close(ctx); err != nil {
		g.log.Error("access log is incomplete", "err", err)
	}
	g.tasks.stop()
	g.stopPanicReports()
}

// ReopenLogs reopens log files after they were renamed. It also logs an error.
func (g *Gateway) ReopenLogs() error {
	err := g.access.Load().Reopen()
	if err != nil {
		g.log.Error("cannot reopen log file", "err", err)
	}
	return err
}

func (g *Gateway) isReady() bool { return g.state.Load() == ready && g.missingPaths() == nil }

// Ready reports whether the gateway accepts traffic and, if not, why.
func (g *Gateway) Ready() (bool, []string) {
	switch g.state.Load() {
	case starting:
		return false, []string{"starting"}
	case draining:
		return false, []string{"draining"}
	}
	if why := g.missingPaths(); why != nil {
		return false, why
	}
	return true, nil
}

// announce logs what the kernel granted to each listener, in the order of the file, except for
// sockets that are unchanged from old.
func (g *Gateway) announce(old *generation) {
	gen := g.gen.Load()
	for i := range gen.config.Listeners {
		name := gen.config.Listeners[i].Name
		f := gen.listeners[name]
		var known []listener.SocketInfo
		if old != nil && old.listeners[name] != nil {
			known = old.listeners[name].sockets.Sockets()
		}
		for _, s := range f.sockets.Sockets() {
			if slices.Contains(known, s) {
				continue
			}
			args := []any{"listener", s.Listener, "address", s.Address, "transport", s.Transport.String(), "from", s.Origin.String()}
			if s.Why != "" {
				g.log.Warn("listening, but not as preferred", append(args, "why", s.Why, "remedy", s.Remedy)...)
				continue
			}
			if s.Reserve {
				g.log.Info("listening in reserve: new connections go to the other socket of this address", args...)
				continue
			}
			g.log.Info("listening", args...)
		}
	}
}
