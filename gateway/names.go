package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"mpgate/admin"
	"mpgate/config"
	"mpgate/proxy/backend"
	"mpgate/proxy/resolve"
	"mpgate/task"
	"mpgate/telemetry"
)

const (
	// namesTime is how long CheckNames waits for all names.
	namesTime = 5 * time.Second
	// namesAtOnce is how many it resolves at the same time.
	namesAtOnce = 16
)

// serverAddress is the address for a backend; "" for SRV records.
func serverAddress(s *config.Server) string {
	if s.SRV != "" {
		return ""
	}
	return s.Address.String()
}

func resolveOptions(b *config.Backend) backend.Resolve {
	return backend.Resolve{Servers: b.Resolve.Servers, Every: b.Resolve.Every}
}

// logNames logs which names of servers do not resolve, and which servers come and go.
func (g *Gateway) logNames(o *backend.Options) {
	name := o.Name
	o.Stale = func(server string, known bool, why error) {
		switch {
		case why == nil:
			g.log.Info("the server's name resolves again", "backend", name, "server", server)
		case known:
			g.log.Warn("the server's name does not resolve; its last addresses stay in use", "backend", name, "server", server, "err", why)
		default:
			g.log.Warn("the server's name does not resolve; it has no servers", "backend", name, "server", server, "err", why)
		}
	}
	o.Moved = func(server string, added, removed []string) {
		args := []any{"backend", name, "server", server}
		if len(added) > 0 {
			args = append(args, "added", added)
		}
		if len(removed) > 0 {
			args = append(args, "removed", removed)
		}
		g.log.Info("the servers of a name have changed", args...)
	}
}

// nameTotals reads the names of the servers for a scrape.
func (g *Gateway) nameTotals(yield func(telemetry.NameTotals) bool) {
	n := g.gen.Load()
	if n == nil {
		return
	}
	for backend, p := range n.backends {
		for _, s := range p.NameStatus() {
			if !yield(telemetry.NameTotals{Backend: backend, Name: s.Name, Found: len(s.Found), At: s.At, Lookups: s.Lookups, Failed: s.Failed}) {
				return
			}
		}
	}
}

// nameStatus describes the names of servers for the status.
func nameStatus(b *backend.Backend) (list []admin.BackendName) {
	for _, n := range b.NameStatus() {
		one := admin.BackendName{Name: n.Name, Kind: n.Kind, Found: n.Found, Age: n.Age.Seconds(), Next: n.Expires.Seconds(), Failures: n.InRow}
		if n.Err != nil {
			one.Error = oneLine(cause(n.Err).Error())
		}
		list = append(list, one)
	}
	return list
}

// Lookup resolves the name of a server of a backend, as the gateway would, and returns all
// addresses that it stands for. A server that has an address stands for that one.
func Lookup(ctx context.Context, b *config.Backend, s *config.Server) ([]netip.AddrPort, error) {
	if !s.HasName() {
		if ip := s.Address.IP(); ip.IsValid() {
			return []netip.AddrPort{netip.AddrPortFrom(ip, s.Address.Port)}, nil
		}
		return nil, nil
	}
	r := resolve.New(resolve.Options{Servers: b.Resolve.Servers})
	if s.SRV == "" {
		return lookupHost(ctx, r, s.Address.Host, s.Address.Port)
	}
	services, f := r.Services(ctx, s.SRV)
	if f.Err != nil {
		return nil, f.Err
	}
	var list []netip.AddrPort
	for _, one := range services {
		addrs, err := lookupHost(ctx, r, one.Target+".", one.Port)
		if err != nil {
			return list, fmt.Errorf("%s: %w", net.JoinHostPort(one.Target, strconv.Itoa(int(one.Port))), cause(err))
		}
		list = append(list, addrs...)
	}
	return list, nil
}

// LookupFound resolves the name of a server of a backend as Lookup does, and returns what the name
// stands for in the words of the status: addresses, or the targets of SRV records.
func LookupFound(ctx context.Context, b *config.Backend, s *config.Server) (found []string, err error) {
	if s.SRV != "" {
		services, f := resolve.New(resolve.Options{Servers: b.Resolve.Servers}).Services(ctx, s.SRV)
		for _, one := range services {
			found = append(found, fmt.Sprintf("%s priority %d weight %d", net.JoinHostPort(one.Target, strconv.Itoa(int(one.Port))), one.Priority, one.Weight))
		}
		return found, f.Err
	}
	addrs, err := Lookup(ctx, b, s)
	for _, a := range addrs {
		found = append(found, a.String())
	}
	return found, err
}

func lookupHost(ctx context.Context, r *resolve.Resolver, host string, port uint16) (list []netip.AddrPort, err error) {
	v4, v6, _ := r.Addresses(ctx, host, "")
	for _, a := range slices.Concat(v4.Addrs, v6.Addrs) {
		list = append(list, netip.AddrPortFrom(a, port))
	}
	if len(list) > 0 {
		return list, nil
	}
	return nil, resolve.NoAddress(v4, v6)
}

// CheckNames resolves the names of servers, and warns of those that have no address: a gateway
// starts all the same, and resolves them again when it needs them. Names of addresses to listen on
// are needed at the start and are in CheckFiles.
func CheckNames(ctx context.Context, cfg *config.Config) (warnings []config.Fault) {
	ctx, cancel := context.WithTimeout(ctx, namesTime)
	defer cancel()
	failed := lookupAll(ctx, cfg)
	for i := range cfg.Backends {
		b := &cfg.Backends[i]
		for j := range b.Servers {
			s := &b.Servers[j]
			err := failed[nameOf(b, s)]
			if err == nil {
				continue
			}
			key := "address"
			if s.SRV != "" {
				key = "srv"
			}
			key = fmt.Sprintf("backend.%s.servers[%d].%s", b.Name, j, key)
			for _, f := range placed(cfg, key, fmt.Errorf("does not resolve here (got %q): %w; correct the name, or expect 503 until it has an address", s.Name(), err)) {
				f.Severity = config.Warning
				warnings = append(warnings, f)
			}
		}
	}
	return warnings
}

// checkedName is a name that CheckNames resolves once.
type checkedName struct{ name, servers string }

func nameOf(b *config.Backend, s *config.Server) checkedName {
	name := s.SRV
	if name == "" {
		name = s.Address.Host
	}
	return checkedName{name, fmt.Sprint(b.Resolve.Servers)}
}

// lookupAll resolves the names of all servers, each once, and returns the errors.
func lookupAll(ctx context.Context, cfg *config.Config) map[checkedName]error {
	failed := map[checkedName]error{}
	seen := map[checkedName]bool{}
	var mu sync.Mutex // guards failed
	var group task.Group
	slots := make(chan struct{}, namesAtOnce)
	for i := range cfg.Backends {
		b := &cfg.Backends[i]
		for j := range b.Servers {
			s := &b.Servers[j]
			name := nameOf(b, s)
			if !s.HasName() || seen[name] {
				continue
			}
			seen[name] = true
			slots <- struct{}{}
			group.Go("resolve "+name.name, func() {
				defer func() { <-slots }()
				if _, err := Lookup(ctx, b, s); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed[name] = cause(err)
				}
			}, nil)
		}
	}
	group.Wait()
	return failed
}

// cause returns the error of a lookup without the name, which the fault has.
func cause(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return errors.New(dns.Err)
	}
	return err
}
