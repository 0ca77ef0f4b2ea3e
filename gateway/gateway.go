package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mpgate/admin"
	"mpgate/certs"
	"mpgate/config"
	"mpgate/listener"
	"mpgate/proxy"
	"mpgate/telemetry"
)

// Options are what a gateway needs beside its configuration.
type Options struct {
	Version   string
	Inherited *listener.Inherited // nil: none
	// Load reads the configuration anew, for Reload; nil: it cannot be reloaded.
	Load     func() (*config.Config, error)
	Logger   *slog.Logger   // nil: nothing is logged
	LogLevel *slog.LevelVar // follows the configuration, if not nil
	// Notify, if set, is told what a service manager wants to know. It must not wait.
	Notify func(Notice)
}

// Gateway is a running gateway.
type Gateway struct {
	options Options
	log     *slog.Logger
	started time.Time

	metrics *telemetry.Instruments
	access  *telemetry.AccessLog
	gate    *listener.Gate
	proxy   *proxy.Proxy
	certs   *certs.Manager
	admin   *admin.Server // nil: off, or the default address could not be had
	tasks   *tasks

	state atomic.Uint32

	mu     sync.Mutex // held while a generation is built and swapped
	gen    atomic.Pointer[generation]
	reload atomic.Pointer[admin.Reload]
}

// The states of a gateway: starting ─► ready ─► draining.
const (
	starting uint32 = iota
	ready
	draining
)

// Open builds the first generation and opens every address. ctx bounds the opening only.
func Open(ctx context.Context, cfg *config.Config, o Options) (_ *Gateway, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{options: o, log: o.Logger, started: time.Now(), tasks: newTasks(o.Logger)}
	g.metrics = telemetry.NewInstruments(o.Version)
	defer func() {
		if err != nil {
			g.closeAll()
		}
	}()
	if g.access, err = g.openAccessLog(&cfg.Log); err != nil {
		return nil, g.fault(cfg, "log.access", err)
	}
	g.gate = listener.NewGate(connectionLimit(cfg.Limits.Connections))
	g.proxy = proxy.New(g.proxyOptions(&cfg.Limits))
	g.openCerts(cfg)
	gen, err := g.build(ctx, nil, cfg)
	if err != nil {
		return nil, err
	}
	g.gen.Store(gen)
	if o.Inherited != nil {
		if err := o.Inherited.CheckUnused(); err != nil {
			return nil, err
		}
	}
	if err := g.openAdmin(ctx, cfg); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *Gateway) closeAll() {
	if gen := g.gen.Load(); gen != nil {
		gen.close()
	}
	if g.admin != nil {
		_ = g.admin.Close(context.Background())
	}
	if g.access != nil {
		_ = g.access.Close(context.Background())
	}
	g.proxyClose()
}

func (g *Gateway) proxyClose() {
	if g.proxy != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		g.proxy.Shutdown(now)
	}
}

// fault places an error at a key of the configuration.
func (g *Gateway) fault(cfg *config.Config, key string, err error) error {
	file, line := cfg.Position(key)
	return config.Errors{{File: file, Line: line, Key: key, Msg: err.Error(), Severity: config.Error}}
}

func (g *Gateway) openAccessLog(l *config.Log) (*telemetry.AccessLog, error) {
	format, err := telemetry.ParseFormat(string(l.Format))
	if err != nil {
		return nil, err
	}
	return telemetry.OpenAccessLog(telemetry.AccessLogOptions{
		Format: format,
		SpoolOptions: telemetry.SpoolOptions{
			Destination: l.Access, Logger: g.log, Dropped: &g.metrics.LogDropped, Errors: &g.metrics.LogErrors,
		},
	})
}

func (g *Gateway) proxyOptions(l *config.Limits) proxy.Options {
	return proxy.Options{
		Limits: proxyLimits(l), Instruments: g.metrics, AccessLog: g.access, Logger: g.log, Leave: g.gate.Leave, Ready: g.isReady,
	}
}

func proxyLimits(l *config.Limits) proxy.Limits {
	return proxy.Limits{
		HeaderBytes: int(l.HeaderBytes), HeaderFields: l.HeaderFields, HeaderTime: l.HeaderTime,
		IdleTime: l.IdleTime, MinRate: l.MinRate, PerClient: l.ConnectionsPerClient,
	}
}

// connectionLimit is the configured one, or what the descriptors suffice for: an exchange needs two, and
// some are for logs, the admin address and the like.
func connectionLimit(configured int) int {
	if configured > 0 {
		return configured
	}
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	const others = 128
	return int(max(1, (min(r.Cur, 1<<30)-min(r.Cur, others))/2))
}

func (g *Gateway) openAdmin(ctx context.Context, cfg *config.Config) error {
	if cfg.Admin.Off {
		return nil
	}
	server, err := admin.Open(ctx, admin.Options{
		Address: cfg.Admin.Address.String(), Metrics: g.metrics.Registry(), Status: g.statusAny, Ready: g.Ready,
		Handlers: g.handlers(), Logger: g.log,
	})
	switch {
	case err == nil:
		g.admin = server
	case cfg.Admin.Written:
		return g.fault(cfg, "admin.address", err)
	default:
		g.log.Warn("no admin address: status, health and reload will not find this gateway", "address", cfg.Admin.Address.String(), "error", err)
	}
	return nil
}

// AdminAddress is where status and metrics are, "" where they are not.
func (g *Gateway) AdminAddress() string {
	if g.admin == nil {
		return ""
	}
	return g.admin.Addr()
}

// Run serves until ctx ends, then drains: readiness fails first, exchanges under way come to their end, and
// what is left after the configured time, or when kill ends, is cut. onReady is called once every listener
// accepts.
func (g *Gateway) Run(ctx, kill context.Context, onReady func()) error {
	defer g.closeLogs()
	if g.access != nil {
		g.tasks.run("access log", g.access.Run)
	}
	if g.admin != nil {
		g.tasks.run("admin", g.admin.Serve)
	}
	g.tasks.run("certificates", g.certs.Run)
	g.mu.Lock()
	g.gen.Load().start(g)
	g.state.Store(ready)
	g.metrics.Reload(true, 1, g.started)
	g.reload.Store(&admin.Reload{At: g.started, OK: true})
	g.mu.Unlock()
	g.announce()
	g.notify(NoticeReady)
	if onReady != nil {
		onReady()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-g.tasks.failed:
		g.log.Error("a part of the gateway ended; draining", "error", err)
	}
	g.drain(kill)
	return err
}

// drain ends the gateway in order.
func (g *Gateway) drain(kill context.Context) {
	g.state.Store(draining)
	g.mu.Lock() // no reload from here on
	defer g.mu.Unlock()
	g.notify(NoticeStopping)
	gen := g.gen.Load()
	limit := gen.config.Shutdown.Drain
	g.log.Info("draining", "connections", g.proxy.Connections(), "at_most", limit.String())
	gen.stopAccepting(false)
	ctx, cancel := context.WithTimeout(kill, limit)
	defer cancel()
	g.proxy.Shutdown(ctx)
	gen.stopAccepting(true)
	gen.close()
	if g.admin != nil {
		_ = g.admin.Close(ctx)
	}
	g.log.Info("stopped")
}

// closeLogs comes last, so that what the end of everything had to say is written.
func (g *Gateway) closeLogs() {
	if g.access != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := g.access.Close(ctx); err != nil {
			g.log.Error("access log not written whole", "error", err)
		}
	}
	g.tasks.stop()
}

// ReopenLogs opens log files anew, after they were renamed.
func (g *Gateway) ReopenLogs() error {
	if g.access == nil {
		return nil
	}
	return g.access.Reopen()
}

func (g *Gateway) isReady() bool { return g.state.Load() == ready }

// Ready says whether the gateway takes traffic, and if not, why.
func (g *Gateway) Ready() (bool, []string) {
	switch g.state.Load() {
	case starting:
		return false, []string{"starting"}
	case draining:
		return false, []string{"draining"}
	}
	return true, nil
}

// Reload reads the configuration anew and swaps to it. On any fault the running generation goes on, and the
// error says what is wrong.
func (g *Gateway) Reload(ctx context.Context) error {
	if g.options.Load == nil {
		return errors.New("this gateway has no configuration file to reload")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.Load() != ready {
		return errors.New("the gateway is not ready, or drains")
	}
	g.notify(NoticeReloading)
	defer g.notify(NoticeReady)
	old := g.gen.Load()
	err := g.reloadLocked(ctx, old)
	now := time.Now()
	result := &admin.Reload{At: now, OK: err == nil}
	if err != nil {
		result.Error = err.Error()
		g.log.Error("reload refused; the running configuration stays", "generation", old.number, "error", err)
	} else {
		g.log.Info("reloaded", "generation", g.gen.Load().number)
	}
	g.reload.Store(result)
	g.metrics.Reload(err == nil, g.gen.Load().number, now)
	return err
}

func (g *Gateway) reloadLocked(ctx context.Context, old *generation) error {
	cfg, err := g.options.Load()
	if err != nil {
		return err
	}
	if err := unchangeable(old.config, cfg); err != nil {
		return err
	}
	next, err := g.build(ctx, old, cfg)
	if err != nil {
		return err
	}
	if g.options.LogLevel != nil {
		g.options.LogLevel.Set(cfg.Log.Level)
	}
	g.gate.SetLimit(connectionLimit(cfg.Limits.Connections))
	next.start(g)
	g.gen.Store(next)
	old.retire(next)
	return nil
}

// unchangeable names what a reload cannot change yet; it wants a restart, in which systemd keeps the sockets.
func unchangeable(old, next *config.Config) error {
	for _, c := range []struct {
		key  string
		same bool
	}{
		{"admin", old.Admin == next.Admin},
		{"log.access", old.Log.Access == next.Log.Access},
		{"log.format", old.Log.Format == next.Log.Format},
		{"limits", sameLimits(old.Limits, next.Limits)},
	} {
		if !c.same {
			file, line := next.Position(c.key)
			return config.Errors{{File: file, Line: line, Key: c.key, Severity: config.Error,
				Msg: "cannot be changed by a reload; restart the gateway"}}
		}
	}
	return nil
}

func sameLimits(a, b config.Limits) bool {
	a.Connections = b.Connections
	return a == b
}

// announce says at start what the kernel granted to each listener.
func (g *Gateway) announce() {
	for _, l := range g.gen.Load().listeners {
		for _, s := range l.sockets.Sockets() {
			args := []any{"listener", s.Listener, "address", s.Address, "speaks", s.Transport.String(), "from", s.Origin.String()}
			if s.Why != "" {
				g.log.Warn("listening, but not as preferred", append(args, "why", s.Why, "remedy", s.Remedy)...)
				continue
			}
			g.log.Info("listening", args...)
		}
	}
	if g.admin != nil {
		g.log.Info("admin", "address", g.admin.Addr())
	}
	g.log.Info("ready", "version", g.options.Version, "pid", os.Getpid(), "kernel_mptcp", fmt.Sprint(hostUsable()))
}
