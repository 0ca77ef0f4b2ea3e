package gateway

import (
	"context"
	"time"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
	"mpgate/telemetry"
)

// unclogMost is how many MPTCP connections are looked at each second, of both sides together,
// beginning at another one each time. A look is a system call, so this is at most 0.2 % of a core.
const unclogMost = 1000

// unclog frees connections that the kernel lets stall; see mptcp.Unclog.
func (g *Gateway) unclog(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	short := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			g.unclogSome()
			short = g.watchHostMemory(short)
		}
	}
}

// watchHostMemory says when connections to servers are made by TCP for want of memory, and when
// that is over.
func (g *Gateway) watchHostMemory(before bool) (now bool) {
	switch now = mptcp.CheckHostMemory(); {
	case now && !before:
		g.log.Warn("this host is short of memory for TCP sockets (net.ipv4.tcp_mem): with mptcp = \"prefer\", connections to servers use TCP")
	case before && !now:
		g.log.Info("this host has enough memory for TCP sockets again: connections to servers use MPTCP")
	}
	return now
}

// unclogSome logs when it has looked: a look holds up the connections that come and go.
func (g *Gateway) unclogSome() {
	looked, freed := 0, 0
	var fault error
	for c := range g.liveConnections {
		if looked++; looked > unclogMost {
			break
		}
		did, err := mptcp.Unclog(c.Raw)
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
