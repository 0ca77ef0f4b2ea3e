package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"mpgate/config"
	"mpgate/mptcp/paths"
	"mpgate/proxy/conninfo"
	"mpgate/telemetry"
)

// openPaths makes the manager of the declared paths, or updates the options of the running one; an
// error changes nothing. There is no manager until a configuration needs one.
func (g *Gateway) openPaths(cfg *config.Config) error {
	o := g.pathOptions(cfg)
	if m := g.paths.Load(); m != nil {
		if err := m.Update(o); err != nil {
			return g.pathsFault(cfg, err)
		}
		return nil
	}
	if o.Manage == paths.ManageOff && o.Failover == paths.FailoverOff && len(o.Paths) == 0 {
		if o.Recover && exists(o.Journal) { // to revert what an earlier process has left
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

// missingPaths returns why the gateway is not ready: with manage = "sync", all paths are down, and
// one of them is not optional.
func (g *Gateway) missingPaths() (why []string) {
	m, gen := g.paths.Load(), g.gen.Load()
	if m == nil || gen == nil || gen.config.MPTCP.Manage != paths.ManageSync {
		return nil
	}
	s, required := m.Status(), false
	for _, p := range gen.config.MPTCP.Paths {
		i := slices.IndexFunc(s.Paths, func(q paths.PathStatus) bool { return q.Name == p.Name })
		if i < 0 || s.Paths[i].State != paths.Down {
			return nil
		}
		required = required || !p.Optional
		why = append(why, fmt.Sprintf("path %q is down: %s", p.Name, s.Paths[i].Why))
	}
	if !required {
		return nil
	}
	return why
}

// takeHandover continues with what another manager made: that of the previous process, or that of
// this process after a failed upgrade.
func (g *Gateway) takeHandover(e *paths.Handover) {
	if e.Empty() {
		return
	}
	o := g.pathOptions(g.gen.Load().config)
	o.Handover = e
	var err error
	if m := g.paths.Load(); m != nil {
		err = m.Update(o)
	} else {
		err = g.newPaths(o) // no path is declared any more: to revert what was made
	}
	if err != nil {
		g.log.Error("cannot take over the MPTCP endpoints and limits of the previous process", "err", err)
	}
}

// handOverPaths transfers endpoints and limits to a process that replaces this one.
func (g *Gateway) handOverPaths(ctx context.Context) (*paths.Handover, error) {
	if m := g.paths.Load(); m != nil {
		return m.HandOver(ctx)
	}
	return nil, nil
}

// runPaths starts the manager, if there is one that is not running.
func (g *Gateway) runPaths() {
	if m := g.paths.Load(); m != nil && !g.pathsRun {
		g.pathsRun = true
		g.tasks.run("paths", m.Run)
	}
}

// journal is the file in which endpoints are recorded.
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
	o.Predecessor = g.options.Parent.isDraining
	o.Journal, o.Recover = journal(cfg), g.options.Parent == nil
	o.Hooks = paths.Hooks{Up: g.metrics.SetPathUp, Gone: g.metrics.DeletePath, Cut: g.failedOver}
	return o
}

// failedOver counts a cut. One without subflows delayed no connection.
func (g *Gateway) failedOver(c paths.Cut) {
	if c.Subflows > 0 {
		g.metrics.PathFailover(c.Path, c.Stalled+c.Took)
	}
}

// liveConnections yields the connections of both sides that use MPTCP.
func (g *Gateway) liveConnections(yield func(paths.Conn) bool) {
	front, back := g.front.All, g.back.All
	sides := [...]struct {
		all  func(func(*conninfo.Info) bool)
		side paths.Side
	}{{front, paths.Front}, {back, paths.Back}}
	if time.Now().UnixNano()&(1<<20) != 0 { // a sample includes both sides in turn
		sides[0], sides[1] = sides[1], sides[0]
	}
	for _, s := range sides {
		more := true
		s.all(func(l *conninfo.Info) bool {
			more = yield(paths.Conn{Raw: l.Raw(), Side: s.side, Owner: l})
			return more
		})
		if !more {
			return
		}
	}
}

// sourceSelector selects source addresses by the manager of paths.
type sourceSelector struct{ g *Gateway }

func (d sourceSelector) SelectSource(to netip.Addr) netip.Addr {
	if m := d.g.paths.Load(); m != nil {
		return m.SelectSource(to)
	}
	return netip.Addr{}
}

func (d sourceSelector) Valid() context.Context {
	if m := d.g.paths.Load(); m != nil {
		return m.Valid()
	}
	return context.Background()
}

// pathAt returns the name of the declared path with a local address, "" if there is none.
func (g *Gateway) pathAt(local netip.Addr) string {
	if m := g.paths.Load(); m != nil {
		return m.PathAt(local)
	}
	return ""
}

// countClosing counts the traffic of a connection by path before it is closed.
func (g *Gateway) countClosing(raw syscall.RawConn) {
	if m := g.paths.Load(); m != nil {
		m.CountClosing(raw)
	}
}
