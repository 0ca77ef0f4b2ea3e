package gateway

import (
	"context"
	"time"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
	"mpgate/telemetry"
)

// MPTCP connections looked at each second, of both sides together, beginning at another one each time. A look is
// a system call, so this is at most 0.2 % of a core.
const unclogMost = 1000

// unclog frees connections that the kernel lets stand still; see mptcp.Unclog.
func (g *Gateway) unclog(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		looked := 0
		for c := range g.liveConnections {
			if looked++; looked > unclogMost {
				break
			}
			did, err := mptcp.Unclog(c.Raw)
			if !did {
				if err != nil {
					g.log.Debug("MPTCP connection cannot be freed", "error", err)
				}
				continue
			}
			side := telemetry.SideListener
			if c.Side == paths.Back {
				side = telemetry.SideBackend
			}
			g.metrics.MPTCPUnclogged(side)
			g.log.Warn("an MPTCP connection stood still, its receive buffer full of what came out of order; it got more room", "side", side)
		}
	}
}
