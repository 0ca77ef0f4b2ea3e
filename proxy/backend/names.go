package backend

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxNameAge is how long an answer of the resolver is used. Go's resolver does not tell the record's own.
const maxNameAge = 5 * time.Second

// names remembers what a server's name resolved to. When the resolver fails the last answer goes on serving.
type names struct {
	mu    sync.Mutex // held during a look-up, so that one is made for all who wait
	addrs []netip.Addr
	at    time.Time
}

func (n *names) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.addrs != nil && time.Since(n.at) < maxNameAge {
		return n.addrs, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		if n.addrs == nil {
			return nil, err
		}
		n.at = time.Now() // a resolver that is away is not asked for every connection
		return n.addrs, nil
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	n.addrs, n.at = addrs, time.Now()
	return addrs, nil
}
