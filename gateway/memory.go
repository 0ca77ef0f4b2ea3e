package gateway

import (
	"context"
	"time"

	"mpgate/proxy"
)

// memoryLook is how often the memory is checked.
const memoryLook = 100 * time.Millisecond

// openMemory limits the memory of exchanges if the control group limits that of the process.
func (g *Gateway) openMemory() {
	if g.group = openMemoryGroup(); g.group == nil {
		return
	}
	g.room = &proxy.Room{Free: g.group.free, Cost: g.group.cost()}
	g.streams.Limit = g.streamMemory() / 2
	g.encoders.Limit = min(g.encoders.Limit, g.group.limit/8)
	g.log.Info("the control group limits memory: requests that exceed it are refused with 503", "bytes", g.group.limit)
}

// streamMemory is what clients of HTTP/2 may have us hold, servers half as much; 0: the default.
// Most of it is part of what the room counts for an exchange.
func (g *Gateway) streamMemory() int64 {
	const most = 256 << 20
	if g.group == nil {
		return 0
	}
	return min(most, g.group.limit/4)
}

// watchMemory updates the free memory. When it is nearly used up, no connections are accepted
// either, and idle ones are closed to make room.
func (g *Gateway) watchMemory(ctx context.Context) error {
	tick := time.NewTicker(memoryLook)
	defer tick.Stop()
	paused := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			g.room.Renew(now)
			g.group.limitHeap(g.group.used())
			switch free := g.group.free(); {
			case free < -g.group.limit/20:
				paused = true
				g.gate.SetLimit(max(1, min(g.gate.Inside(), int(g.clients.Load()))))
			case paused && free > 0:
				paused = false
				g.gate.SetLimit(int(g.clients.Load()))
			}
		}
	}
}
