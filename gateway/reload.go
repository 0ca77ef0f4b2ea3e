package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"mpgate/admin"
	"mpgate/config"
	"mpgate/listener"
	"mpgate/proxy"
	"mpgate/telemetry"
)

// Reload reads the configuration again and activates it. On any error the running generation
// continues.
func (g *Gateway) Reload(ctx context.Context) error {
	if g.options.Load == nil {
		return errors.New("this gateway has no configuration file to reload")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.Load() != ready || g.isReplaced() {
		return errors.New("the gateway is not ready or is draining")
	}
	g.options.Notifier.send(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	began := time.Now()
	old := g.gen.Load()
	err := catchPanic("reload", func() error { return g.reloadLocked(ctx, old) })
	now := time.Now()
	result := &admin.Reload{At: now, OK: err == nil}
	if err != nil {
		result.Error = err.Error()
		g.log.Error("reload failed; the running configuration remains active", "generation", old.number, "err", err)
	} else {
		g.log.Info("reloaded", "generation", g.gen.Load().number, "took", now.Sub(began).String())
	}
	g.reload.Store(result)
	g.metrics.Reload(err == nil, g.gen.Load().number, now)
	g.options.Notifier.send("READY=1", "STATUS="+g.statusLine())
	return err
}

// parts are what a reload opens in addition to a generation.
type parts struct {
	access    *telemetry.AccessLog
	newAccess bool
	admin     *adminServer
	newAdmin  bool
}

func (g *Gateway) reloadLocked(ctx context.Context, old *generation) error {
	cfg, err := g.options.Load()
	if err != nil {
		return err
	}
	if cfg.StateDir != old.config.StateDir {
		return g.fault(cfg, "state_dir", fmt.Errorf("cannot be changed by a reload (got %q, it is %q); restart the gateway", cfg.StateDir, old.config.StateDir))
	}
	if err := g.install(ctx, old, cfg); err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		g.log.Warn("configuration", "file", w.File, "line", w.Line, "key", w.Key, "warning", w.Msg)
	}
	return nil
}

// install replaces old with a generation built from cfg. On any error old stays. g.mu is held.
func (g *Gateway) install(ctx context.Context, old *generation, cfg *config.Config) error {
	var p parts
	next, err := g.build(ctx, old, cfg)
	if err == nil {
		err = g.openParts(ctx, old.config, cfg, &p)
	}
	if err == nil {
		err = g.openPaths(cfg) // last: it takes effect at once
	}
	if err != nil {
		if next != nil {
			next.closeNew(old)
		}
		p.close()
		return err
	}
	g.options.LogSettings.Set(&cfg.Log)
	g.limitConnections(cfg.Limits.Connections)
	g.proxy.SetLimits(proxyLimits(cfg.Limits))
	g.swapParts(&p)
	g.runPaths()
	next.start(g)
	g.gen.Store(next)
	g.awaitAccepting(next)
	g.announce(old)
	g.retire(old, next)
	g.store.sync(next)
	return nil
}

// awaitAccepting returns when every listener accepts, so that retiring the old ones refuses no
// connection.
func (g *Gateway) awaitAccepting(n *generation) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := n.probe(ctx); err != nil {
		g.log.Error("a listener does not accept connections after a reload", "err", err)
	}
}

// openParts opens the logs and the admin address where they change.
func (g *Gateway) openParts(ctx context.Context, old, cfg *config.Config, p *parts) (err error) {
	if old.Log.Access != cfg.Log.Access || old.Log.Format != cfg.Log.Format {
		if p.access, err = g.openAccessLog(&cfg.Log); err != nil {
			return g.fault(cfg, "log.access", err)
		}
		p.newAccess = true
	}
	if old.Admin.Off != cfg.Admin.Off || old.Admin.Address != cfg.Admin.Address {
		if p.admin, err = g.openAdmin(ctx, cfg); err != nil {
			return err
		}
		p.newAdmin = true
	}
	return nil
}

func (p *parts) close() {
	if p.newAccess {
		_ = p.access.Close(context.Background())
	}
	if p.admin != nil {
		_ = p.admin.Close(context.Background())
	}
}

func (g *Gateway) swapParts(p *parts) {
	if p.newAccess {
		g.runAccessLog(p.access)
		g.proxy.SetAccessLog(p.access)
		if old := g.access.Swap(p.access); old != nil {
			g.tasks.run("old access log", func(ctx context.Context) error {
				g.closeLate(ctx, old)
				return nil
			})
		}
	}
	if p.newAdmin {
		g.swapAdmin(p.admin)
	}
}

func (g *Gateway) runAccessLog(l *telemetry.AccessLog) {
	if l != nil {
		g.tasks.run("access log", l.Run)
	}
}

// closeLate closes an access log that was replaced, after a moment: exchanges that ended just
// before may be about to write to it.
func (g *Gateway) closeLate(ctx context.Context, l *telemetry.AccessLog) {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := l.Close(last); err != nil {
		g.log.Error("the previous access log is incomplete", "err", err)
	}
}

// retire ends what the next generation does not keep: it stops accepting at once, and ends
// exchanges at a deadline.
func (g *Gateway) retire(old, next *generation) {
	var ending proxy.Ending
	var gone []*front
	for name, f := range old.listeners {
		switch other := next.listeners[name]; {
		case other == nil:
			gone = append(gone, f)
			ending.Listeners = append(ending.Listeners, f.proxy)
			g.releaseListener(f)
			f.task.stop()
			_ = f.sockets.Close()
		case other.sockets != f.sockets:
			f.sockets.Yield(other.sockets)
			f.task.stop()
			_ = f.sockets.Close()
			fallthrough
		default:
			if (f.tls == nil) != (other.tls == nil) {
				// A connection that began with TLS cannot continue without, and the reverse.
				g.proxy.Dismiss(f.proxy)
			}
			f.closeTLS()
		}
	}
	for name, p := range old.backends {
		if next.backends[name] != p {
			// It ends with its last exchange, at the drain deadline at the latest.
			p.task.cancel()
		}
	}
	old.releaseMeters()
	for name, s := range old.sources {
		if next.sources[name] != s {
			s.task.cancel()
			s.meter.Release()
		}
	}
	old.closeFiles()
	for name, l := range old.leases {
		if n, ok := next.leases[name]; !ok || n.Lease != l.Lease {
			ending.Leases = append(ending.Leases, l.Lease)
		}
	}
	if len(ending.Leases)+len(ending.Listeners) == 0 {
		return
	}
	limit := next.config.Shutdown.Drain
	g.countDraining(1)
	g.tasks.run(fmt.Sprintf("generation %d", old.number), func(ctx context.Context) error {
		defer g.countDraining(-1)
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		cut := g.proxy.Expire(ctx, ending)
		for _, f := range gone {
			f.closeTLS()
			f.proxy.Close()
		}
		if cut > 0 {
			g.log.Warn("connections aborted at the drain deadline: they used what a reload removed", "generation", old.number, "connections", cut, "after", limit.String())
		}
		return nil
	})
}

// releaseListener keeps the sockets of a removed listener for a later reload, if systemd passed
// them: it goes on listening and does not pass them again.
func (g *Gateway) releaseListener(f *front) {
	if !f.sockets.Activated() {
		return
	}
	if err := f.sockets.GiveBack(g.options.Inherited); err != nil {
		g.log.Error("cannot keep sockets passed by systemd", "listener", f.sockets.Name(), "err", err)
	}
	for _, s := range f.sockets.Sockets() {
		g.log.Warn("no listener accepts on a socket that systemd holds open: clients that connect to it get no answer",
			"socket", f.sockets.Systemd(), "address", s.Address, "remedy", "systemctl disable --now its .socket unit")
	}
}

func (g *Gateway) countDraining(delta int32) {
	g.metrics.SetDraining(int(g.draining.Add(delta)))
}

// reopenFront opens the sockets of a listener whose options have changed.
func (g *Gateway) reopenFront(ctx context.Context, old *front, f *front) (*listener.Listener, error) {
	l, err := listener.Reopen(ctx, f.open, g.options.Inherited, old.sockets)
	return l, f.explain(err)
}

// explain adds advice to an error about sockets that a reload cannot open.
func (f *front) explain(err error) error {
	var e *listener.Error
	if !errors.As(err, &e) || f.open.Systemd == "" {
		return err
	}
	return fmt.Errorf("%w; systemd passes sockets only at start: start the .socket unit, then run systemctl restart mpgate, which loses no connection", err)
}

// held names the listener of the running generation that has an address which a reload needs: it
// keeps the address until the reload is complete.
func (g *Gateway) held(address string) (who, remedy string) {
	gen := g.gen.Load()
	if gen == nil {
		return "", ""
	}
	const restart = "restart mpgate (systemctl restart mpgate)"
	for name, f := range gen.listeners {
		if !f.sockets.Conflicts(address) {
			continue
		}
		who = fmt.Sprintf("this gateway's listener %q", name)
		if f.sockets.Activated() {
			return who, "stop its .socket unit (systemctl disable --now), then " + restart
		}
		return who, restart + ", or reload twice: first without the old address of that listener, then with the new one"
	}
	return "", ""
}
