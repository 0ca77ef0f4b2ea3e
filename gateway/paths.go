package gateway

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"mpgate/config"
	"mpgate/mptcp/paths"
	"mpgate/proxy/leg"
	"mpgate/telemetry"
)

// openPaths makes the manager of the declared paths, or gives the running one its new options; a
// fault changes nothing. It is nil as long as no configuration has asked for it.
func (g *Gateway) openPaths(cfg *config.Config) error {
	o := g.pathOptions(cfg)
	if m := g.paths.Load(); m != nil {
		if err := m.Update(o); err != nil {
			return g.pathsFault(cfg, err)
		}
		return nil
	}
	if o.Manage == paths.ManageOff && o.Failover == paths.FailoverOff {
		if o.Recover && exists(o.Journal) { // to take back what an earlier process has left
			if err := g.newPaths(o); err != nil {
				g.log.Error("cannot take over the MPTCP endpoints and limits of an earlier process", "err", err)
			}
		}
		return nil
	}
	if err := g.newPaths(o); err != nil {
		return g.pathsFault(cfg, err)
	}
	return nil
}

func (g *Gateway) newPaths(o paths.Options) error {
	m, err := paths.Open(o)
	if err != nil {
		return err
	}
	g.paths.Store(m)
	g.metrics.SetPathTotals(func(yield func(telemetry.PathTotals) bool) {
		for _, p := range m.Status().Paths {
			t := telemetry.PathTotals{
				Path: p.Name, BytesSent: p.BytesSent, BytesReceived: p.BytesReceived, BytesRetransmitted: p.BytesRetrans,
				Subflows: p.Subflows, Opened: p.Opened, Closed: p.Closed, Failed: p.Failed, Cuts: p.Cuts, Returns: p.Returns,
			}
			if !yield(t) {
				return
			}
		}
	})
	return nil
}

// succeed continues with what another manager made: that of the process before this one, or of this
// one, if no other came of it.
func (g *Gateway) succeed(e *paths.Estate) {
	if e.Empty() {
		return
	}
	o := g.pathOptions(g.gen.Load().config)
	o.Succeed = e
	var err error
	if m := g.paths.Load(); m != nil {
		err = m.Update(o)
	} else {
		err = g.newPaths(o) // no path is declared any more: to take back what was made
	}
	if err != nil {
		g.log.Error("cannot take over the MPTCP endpoints and limits of the previous process", "err", err)
	}
}

// handOverPaths gives up endpoints and limits to a process that replaces this one.
func (g *Gateway) handOverPaths(ctx context.Context) (*paths.Estate, error) {
	if m := g.paths.Load(); m != nil {
		return m.HandOver(ctx)
	}
	return nil, nil
}

// runPaths starts the manager, if there is one that does not run.
func (g *Gateway) runPaths() {
	if m := g.paths.Load(); m != nil && !g.pathsRun {
		g.pathsRun = true
		g.tasks.run("paths", m.Run)
	}
}

// journal is where the endpoints that were made are noted.
func journal(cfg *config.Config) string { return filepath.Join(cfg.StateDir, "endpoints.json") }

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

func (g *Gateway) pathsFault(cfg *config.Config, err error) error {
	key := "mptcp.manage"
	var privilege *paths.PrivilegeError
	if errors.As(err, &privilege) && cfg.MPTCP.Manage != paths.ManageSync {
		key = "mptcp.failover"
	}
	return g.fault(cfg, key, err)
}

func (g *Gateway) pathOptions(cfg *config.Config) paths.Options {
	o := PathOptions(&cfg.MPTCP)
	o.Logger, o.Source = g.log, g.liveConnections
	o.Predecessor = g.options.Parent.lives
	o.Journal, o.Recover = journal(cfg), g.options.Parent == nil
	o.Hooks = paths.Hooks{Up: g.metrics.SetPathUp, Gone: g.metrics.DeletePath, Cut: g.failedOver}
	return o
}

// failedOver is told of each cut. One that found no subflow held nobody up.
func (g *Gateway) failedOver(c paths.Cut) {
	if c.Subflows > 0 {
		g.metrics.PathFailover(c.Path, c.Stalled+c.Took)
	}
}

// liveConnections yields the connections of both sides that use MPTCP.
func (g *Gateway) liveConnections(yield func(paths.Conn) bool) {
	front, back := g.front.All, g.back.All
	sides := [...]struct {
		all  func(func(*leg.Leg) bool)
		side paths.Side
	}{{front, paths.Front}, {back, paths.Back}}
	if time.Now().UnixNano()&(1<<20) != 0 { // whoever takes a sample sees both sides in turn
		sides[0], sides[1] = sides[1], sides[0]
	}
	for _, s := range sides {
		more := true
		s.all(func(l *leg.Leg) bool {
			more = yield(paths.Conn{Raw: l.Raw(), Side: s.side, Owner: l})
			return more
		})
		if !more {
			return
		}
	}
}

// detour leads dials around paths that do not carry.
type detour struct{ g *Gateway }

func (d detour) From(to netip.Addr) netip.Addr {
	if m := d.g.paths.Load(); m != nil {
		return m.From(to)
	}
	return netip.Addr{}
}

func (d detour) Era() context.Context {
	if m := d.g.paths.Load(); m != nil {
		return m.Era()
	}
	return context.Background()
}

// settle has what a connection carried counted by path before it is closed.
func (g *Gateway) settle(raw syscall.RawConn) {
	if m := g.paths.Load(); m != nil {
		m.Settle(raw)
	}
}
