package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mpgate/mptcp"
)

// statusEvery is how often the service manager is told figures.
const statusEvery = 10 * time.Second

// serveManager keeps the service manager informed: figures, and, where it asks for that, that every
// accept loop answers. When one does not, the manager hears nothing, and will end this process and
// start another.
func (g *Gateway) serveManager(ctx context.Context) error {
	n := g.options.Notifier
	if n == nil {
		return nil
	}
	pace := statusEvery
	if n.Watchdog > 0 {
		pace = min(pace, n.Watchdog/3)
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n.Watchdog > 0 {
			if err := g.checkListeners(ctx, n.Watchdog/2); err != nil {
				g.log.Error("health check failed; the systemd watchdog is not notified", "err", err)
				continue
			}
			n.send("WATCHDOG=1")
		}
		if g.isReady() {
			n.send("STATUS=" + g.statusLine())
		}
	}
}

// checkListeners reports whether every accept loop answers within that time. If one ends because of
// a reload, those of the next generation are asked.
func (g *Gateway) checkListeners(ctx context.Context, within time.Duration) error {
	if !g.isReady() {
		return nil // draining: loops end, within a limit
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for {
		err := g.gen.Load().probe(ctx)
		if err == nil || !g.isReady() {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-pause.C:
		}
	}
}

// probe asks each accept loop.
func (n *generation) probe(ctx context.Context) error {
	var errs []error
	for _, f := range n.listeners {
		errs = append(errs, f.sockets.Probe(ctx))
	}
	return errors.Join(errs...)
}

// statusLine is what `systemctl status` shows.
func (g *Gateway) statusLine() string {
	gen := g.gen.Load()
	sockets, mptcpSockets := 0, 0
	for _, f := range gen.listeners {
		for _, s := range f.sockets.Sockets() {
			sockets++
			if s.Transport == mptcp.MPTCP {
				mptcpSockets++
			}
		}
	}
	line := fmt.Sprintf("serving: generation %d, sockets: %d (MPTCP: %d), connections: %d", gen.number, sockets, mptcpSockets, g.proxy.Connections())
	if n := g.draining.Load(); n > 0 {
		line += fmt.Sprintf(", draining generations: %d", n)
	}
	if r := g.reload.Load(); r != nil && !r.OK {
		line += "; the last reload failed, see the log"
	}
	return line
}
