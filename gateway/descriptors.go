package gateway

import (
	"syscall"
)

// fewConnections is a limit that is unlikely to be intended.
const fewConnections = 100

// limitConnections divides the file descriptors: a connection of a client takes one, one to a
// server takes one, and some are for logs, the admin address and so on. configured is the limit of
// client connections; 0: half of all.
func (g *Gateway) limitConnections(configured int) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		g.clients.Store(int64(configured))
		g.gate.SetLimit(configured)
		return
	}
	clients, servers := divideDescriptors(uint64(r.Cur), configured)
	const remedy = "set LimitNOFILE=524288 in the unit, or run ulimit -n 524288 before the start"
	switch {
	case configured > clients:
		g.log.Warn("file descriptor limit is low: limiting connections below limits.connections", "descriptors", r.Cur,
			"configured", configured, "connections", clients, "to_servers", servers, "remedy", remedy)
	case configured == 0 && clients < fewConnections:
		g.log.Warn("file descriptor limit is low: limiting connections", "descriptors", r.Cur, "connections", clients,
			"to_servers", servers, "remedy", remedy+"; or set limits.connections")
	}
	g.clients.Store(int64(clients))
	g.gate.SetLimit(clients)
	g.places.SetLimit(servers)
}

// divideDescriptors returns how many client and server connections the descriptors allow. At least
// an eighth is for servers.
func divideDescriptors(descriptors uint64, configured int) (clients, servers int) {
	// An eighth of the descriptors, and 128 at most, are pipes of netio.
	others := min(256, descriptors/2)
	all := int(max(2, min(descriptors, 1<<30)-others))
	clients = all / 2
	if configured > 0 {
		clients = max(1, min(configured, all-max(1, all/8)))
	}
	return clients, all - clients
}

// closeIdleConnection closes a connection to a server that no request uses.
func (g *Gateway) closeIdleConnection() bool {
	gen := g.gen.Load()
	if gen == nil {
		return false
	}
	if gen.closeIdleFile() {
		return true
	}
	for _, p := range gen.backends {
		if p.CloseIdle() {
			return true
		}
	}
	return false
}
