package gateway

import (
	"encoding/json"
	"time"

	"mpgate/config"
	"mpgate/proxy/backend"
)

// healthOptions sets what decides whether servers get requests.
func healthOptions(o *backend.Options, b *config.Backend) {
	o.SlowStart = b.SlowStart
	if c := b.Check; c != nil {
		o.Check = &backend.CheckOptions{
			Path: c.Path, GRPC: c.GRPC != "", Service: c.GRPC, Interval: c.Interval, Timeout: c.Timeout, Rise: c.Rise, Fall: c.Fall,
			Method: c.Method, Host: c.Host, Body: c.Body,
		}
		if c.GRPC == config.WholeServer {
			o.Check.Service = ""
		}
		for _, r := range c.Status {
			o.Check.Statuses = append(o.Check.Statuses, backend.StatusRange(r))
		}
	}
	if e := b.Eject; e != nil {
		o.Eject = &backend.EjectOptions{Errors: e.Errors, Ratio: e.Ratio.Ratio(), Rest: e.Rest, Most: e.Most.Ratio()}
	}
	// What a server was found to do counts as long as it is asked the same in the same way.
	health, _ := json.Marshal([]any{b.Check, b.Protocol, b.TLS, b.SendProxy}) // values only
	o.Health = string(health)
}

// earlierStates returns the states of the servers of a backend in the generation before, or in the
// process before; nil: there is no such backend.
func (g *Gateway) earlierStates(old *generation, name string) []backend.ServerState {
	if old == nil {
		return g.options.Parent.serverStates(name)
	}
	if p := old.backends[name]; p != nil {
		return p.States()
	}
	return nil
}

// logHealth logs changes of the health of servers.
func (g *Gateway) logHealth(o *backend.Options) {
	name := o.Name
	o.Down = func(server string, why error) {
		g.log.Warn("server is down", "backend", name, "server", server, "err", why)
	}
	o.Up = func(server string, after time.Duration) {
		g.log.Info("server is back", "backend", name, "server", server, "after", after.Round(time.Millisecond).String())
	}
	o.Panic = func(on bool, healthy, servers int) {
		if !on {
			g.log.Info("enough servers are healthy again", "backend", name, "healthy", healthy, "servers", servers)
			return
		}
		g.log.Warn("too few servers are healthy: failed checks and ejections do not count", "backend", name, "healthy", healthy, "servers", servers)
	}
}
