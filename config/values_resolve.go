package config

import (
	"net/netip"
	"reflect"
	"strings"
	"time"

	"mpgate/proxy/resolve"
)

// resolverAddress parses the address of a DNS server; the port is 53 if there is none.
func resolverAddress(s, _ string) (netip.AddrPort, string) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 53), ""
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil { // [2001:db8::2]
		a, err = netip.ParseAddrPort(s + ":53")
	}
	if err != nil || a.Port() == 0 {
		return netip.AddrPort{}, `is not the address of a DNS server; write an IP address with or without a port, for example "10.0.0.2:53" or "[2001:db8::2]:53"`
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), ""
}

// resolveEvery are times between lookups; empty: by TTL.
var resolveEvery = func() codec {
	c := durations(resolve.MinTTL.String(), "")
	text := c.text
	c.empty = true
	c.text = func(v reflect.Value) string {
		if v.Interface().(time.Duration) == 0 {
			return ""
		}
		return text(v)
	}
	return c
}()

// srvName parses the name of SRV records (RFC 2782).
func srvName(s, _ string) (string, string) {
	const right = `write the service, the protocol and the domain, for example "_http._tcp.api.example.org"`
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	if len(labels) < 3 || !strings.HasPrefix(labels[0], "_") || !strings.HasPrefix(labels[1], "_") || len(labels[0]) == 1 || len(labels[1]) == 1 {
		return "", "is not a name of SRV records; " + right
	}
	name, problem := hostName(strings.TrimSuffix(s, "."), false)
	if problem != "" {
		wrong, _, _ := strings.Cut(problem, "; ")
		return "", wrong + "; " + right
	}
	if strings.HasSuffix(s, ".") { // search domains are not tried
		name += "."
	}
	return name, ""
}
