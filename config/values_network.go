package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// Network is a network, or a set of peers that has a name.
type Network struct {
	Prefix netip.Prefix // zero if there is a name
	Name   string       // NetworkPrivate, NetworkUnix, NetworkCertificate, or ""
}

const (
	NetworkPrivate     = "private"     // loopback, link-local and private addresses; see Prefixes
	NetworkUnix        = "unix"        // peers on unix sockets, which have no address
	NetworkCertificate = "certificate" // peers with a verified client certificate, at any address
)

// private are the networks of NetworkPrivate.
var private = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), // loopback
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"), // link-local
	// RFC 1918.
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("fc00::/7"), // unique local, RFC 4193
}

// Prefixes are all networks of a list.
func Prefixes(list []Network) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range list {
		switch {
		case n.Name == NetworkPrivate:
			out = append(out, private...)
		case n.Prefix.IsValid():
			out = append(out, n.Prefix)
		}
	}
	return out
}

// String is the network as it is written in the file.
func (n Network) String() string {
	if n.Name != "" {
		return n.Name
	}
	return n.Prefix.String()
}

// networks are networks, or sets of the names that the key takes.
func networks(names ...string) codec {
	return of(func(s, dir string) (Network, string) {
		if slices.Contains(names, s) {
			return Network{Name: s}, ""
		}
		p, problem := network(s, dir)
		if near := nearest(s, names); problem != "" && near != "" {
			problem = fmt.Sprintf("is not a valid network; did you mean %q?", near)
		}
		return Network{Prefix: p}, problem
	}, Network.String)
}

// network is a network; a single address stands for itself.
func network(s, _ string) (netip.Prefix, string) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, `is not a valid network; write for example "10.0.0.0/8", "2001:db8::/32" or one address`
	case p != p.Masked():
		return netip.Prefix{}, fmt.Sprintf("has bits set beyond its prefix length; must be %q", p.Masked())
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 { // IPv4 addresses are compared as such
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p, ""
}
