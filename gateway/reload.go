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

// Reload reads the configuration again and swaps to it. On any fault the running generation
// continues, and the error says what is wrong.
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
	err := attempt("reload", func() error { return g.reloadLocked(ctx, old) })
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

// parts are what a reload opens beside a generation.
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

// install puts a generation made of cfg in the place of old. On any fault old stays. g.mu is held.
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

// awaitAccepting returns when every listener accepts: what is retired then leaves no gap.
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

// retire ends what the next generation has not taken over: accepting at once, exchanges at a
// deadline.
func (g *Gateway) retire(old, next *generation) {
	var ending proxy.Ending
	var gone []*front
	for name, f := range old.listeners {
		switch other := next.listeners[name]; {
		case other == nil:
			gone = append(gone, f)
			ending.Listeners = append(ending.Listeners, f.proxy)
			g.forsake(f)
			f.task.stop()
			_ = f.sockets.Close()
		case other.sockets != f.sockets:
			f.sockets.Yield(other.sockets)
			f.task.stop()
			_ = f.sockets.Close()
			fallthrough
		default:
			if (f.tls == nil) != (other.tls == nil) {
				g.proxy.Dismiss(f.proxy) // who has begun with the other kind cannot continue with it
			}
			f.closeTLS()
		}
	}
	for name, p := range old.backends {
		if next.backends[name] != p {
			p.task.cancel() // it ends with the last exchange there, which may take until the deadline
		}
	}
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

// forsake keeps the sockets of a listener that is gone, if somebody else passed them and goes on
// listening: he would not pass them again.
func (g *Gateway) forsake(f *front) {
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

// reopenFront finds the sockets of a listener that was there before, by options that changed.
func (g *Gateway) reopenFront(ctx context.Context, old *front, f *front) (*listener.Listener, error) {
	l, err := listener.Reopen(ctx, f.open, g.options.Inherited, old.sockets)
	return l, f.explain(err)
}

// explain adds what only a reload has to say about sockets that cannot be had.
func (f *front) explain(err error) error {
	var e *listener.Error
	if !errors.As(err, &e) || f.open.Systemd == "" {
		return err
	}
	return fmt.Errorf("%w; systemd passes sockets only at start: start the .socket unit, then run systemctl restart mpgate, which loses no connection", err)
}

// held says what of the running generation has an address that a reload wants for something else:
// it continues until the reload has gone through.
func (g *Gateway) held(address string) (who, remedy string) {
	gen := g.gen.Load()
	if gen == nil {
		return "", ""
	}
	const restart = "restart mpgate (systemctl restart mpgate)"
	for name, f := range gen.listeners {
		if !f.sockets.InTheWay(address) {
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
