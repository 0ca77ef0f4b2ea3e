package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"mpgate/config"
	"mpgate/task"
)

const (
	// namesTime is how long CheckNames waits for all names.
	namesTime = 5 * time.Second
	// namesAtOnce is how many it resolves at the same time.
	namesAtOnce = 16
)

// CheckNames resolves the names of servers, and warns of those that have no address: a gateway
// starts all the same, and resolves them again when it needs them. Names of addresses to listen on
// are needed at the start and are in CheckFiles.
func CheckNames(ctx context.Context, cfg *config.Config) (warnings []config.Fault) {
	ctx, cancel := context.WithTimeout(ctx, namesTime)
	defer cancel()
	failed := resolve(ctx, serverNames(cfg))
	for i := range cfg.Backends {
		b := &cfg.Backends[i]
		for j, s := range b.Servers {
			if err := failed[s.Address.Host]; err != nil {
				key := fmt.Sprintf("backend.%s.servers[%d].address", b.Name, j)
				for _, f := range placed(cfg, key, fmt.Errorf("does not resolve here (got %q): %w; correct the name, or expect 503 until it has an address", s.Address.String(), err)) {
					f.Severity = config.Warning
					warnings = append(warnings, f)
				}
			}
		}
	}
	return warnings
}

// serverNames returns the hosts of servers that are names, each once.
func serverNames(cfg *config.Config) (names []string) {
	seen := map[string]bool{}
	for i := range cfg.Backends {
		for _, s := range cfg.Backends[i].Servers {
			if a := s.Address; !a.IsUnix() && !a.IP().IsValid() && !seen[a.Host] {
				seen[a.Host] = true
				names = append(names, a.Host)
			}
		}
	}
	return names
}

// resolve looks names up, and returns the errors of those that have no address.
func resolve(ctx context.Context, names []string) map[string]error {
	errs := make([]error, len(names))
	var group task.Group
	slots := make(chan struct{}, namesAtOnce)
	for i, name := range names {
		slots <- struct{}{}
		group.Go("resolve "+name, func() {
			defer func() { <-slots }()
			_, errs[i] = net.DefaultResolver.LookupHost(ctx, name)
		}, nil)
	}
	group.Wait()
	failed := map[string]error{}
	for i, err := range errs {
		if err != nil {
			failed[names[i]] = cause(err)
		}
	}
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
