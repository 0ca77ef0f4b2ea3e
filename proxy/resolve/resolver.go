package resolve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// MinTTL is the shortest time for which an answer is used, whatever its TTL is.
	MinTTL = time.Second
	// MaxTTL is the longest time for which an answer is used.
	MaxTTL = 5 * time.Minute
	// MaxRecords bounds the addresses of a name in one family, and the records of a service. Of
	// more, those first in order are used, so that two answers with the same records give the same
	// list.
	MaxRecords = 256
	// maxLookups bounds the lookups at the same time, each of which takes up to two descriptors.
	maxLookups = 64
)

// Options describe a Resolver. The zero value is for the system's resolver.
type Options struct {
	// Servers are asked instead of the name servers in resolv.conf; they are tried in this order.
	Servers []netip.AddrPort
	// ResolvConf and Hosts are the files to read; "" is for those in /etc.
	ResolvConf, Hosts string
}

// A Resolver asks DNS servers for the addresses of names. It may be used by many goroutines.
type Resolver struct {
	servers []netip.AddrPort // of Options
	system  system
	slots   chan struct{} // holds one element for each lookup in progress
	good    atomic.Uint32 // the index of the server that answered last
}

// New makes a resolver. It opens no file and no socket.
func New(o Options) *Resolver {
	r := &Resolver{servers: slices.Clone(o.Servers), slots: make(chan struct{}, maxLookups)}
	r.system.resolvConf.name, r.system.hosts.name = o.ResolvConf, o.Hosts
	if o.ResolvConf == "" {
		r.system.resolvConf.name = "/etc/resolv.conf"
	}
	if o.Hosts == "" {
		r.system.hosts.name = "/etc/hosts"
	}
	return r
}

// Family is what is known about the addresses of a name in one family.
type Family struct {
	Addrs []netip.Addr  // in the order of the answer
	TTL   time.Duration // how long Addrs are valid
	// Err says why there is no address. It is a *net.DNSError: with IsNotFound, a server says that
	// there is none; otherwise it is not known whether there is one.
	Err error
}

// Service is a server that an SRV record names (RFC 2782).
type Service struct {
	Target   string // a name without the dot at its end
	Port     uint16
	Priority uint16 // servers with the lowest number are used first
	Weight   uint16 // its share among the servers of equal priority
}

// NotFound reports whether err means that a server said that the name, or a record of the type that
// was asked for, does not exist.
func NotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// NoAddress returns the error of a name that has no address in either family: the one that may
// pass, if there is one.
func NoAddress(v4, v6 Family) error {
	if NotFound(v4.Err) && !NotFound(v6.Err) {
		return v6.Err
	}
	return v4.Err
}

// answer is the answer to one question.
type answer struct {
	addrs    []netip.Addr
	services []Service
	ttl      time.Duration
	err      *net.DNSError
}

func failed(name, server, why string) answer {
	return answer{err: &net.DNSError{Err: why, Name: name, Server: server}}
}

// enter waits until the lookup may begin.
func (r *Resolver) enter(ctx context.Context) error {
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Resolver) leave() { <-r.slots }

// limitTTL applies the bounds to a TTL.
func limitTTL(ttl time.Duration) time.Duration { return min(max(ttl, MinTTL), MaxTTL) }

// typeOf returns the type of record for addresses.
func typeOf(v6 bool) dnsmessage.Type {
	if v6 {
		return dnsmessage.TypeAAAA
	}
	return dnsmessage.TypeA
}
