package gateway

import (
	"context"
	"time"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
	"mpgate/proxy/conninfo"
	"mpgate/telemetry"
)

// maxStallChecks is how many MPTCP connections are checked each second, of both sides together,
// beginning at a different one each time. A check is a system call, so this is at most 0.2 % of a
// core.
const maxStallChecks = 1000

// watchReceiveStalls repairs connections that stall in the kernel; see mptcp.FixReceiveStall.
func (g *Gateway) watchReceiveStalls(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	short := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			g.fixReceiveStalls()
			short = g.watchHostMemory(short)
		}
	}
}

// watchHostMemory logs when connections to servers use TCP because memory is short, and when that
// is over.
func (g *Gateway) watchHostMemory(before bool) (now bool) {
	switch now = mptcp.CheckHostMemory(); {
	case now && !before:
		g.log.Warn("this host is short of memory for TCP sockets (net.ipv4.tcp_mem): with mptcp = \"prefer\", connections to servers use TCP")
	case before && !now:
		g.log.Info("this host has enough memory for TCP sockets again: connections to servers use MPTCP")
	}
	return now
}

// fixReceiveStalls logs after the checks, because the registry of connections is locked during
// them.
func (g *Gateway) fixReceiveStalls() {
	looked, freed := 0, 0
	var fault error
	for c := range g.liveConnections {
		if i, ok := c.Owner.(*conninfo.Info); ok && i.OnlyChecks() {
			continue // their small responses fill no buffer
		}
		if looked++; looked > maxStallChecks {
			break
		}
		did, err := mptcp.FixReceiveStall(c.Raw)
		if err != nil {
			fault = err
		}
		if !did {
			continue
		}
		freed++
		side := telemetry.SideListener
		if c.Side == paths.Back {
			side = telemetry.SideBackend
		}
		g.metrics.MPTCPReceiveStall(side)
	}
	if freed > 0 {
		g.log.Warn("MPTCP connections stalled, their receive buffers full of out-of-order data; buffers enlarged", "connections", freed)
	}
	if fault != nil {
		g.log.Debug("cannot check for stalled MPTCP connections", "err", fault)
	}
}
