package config

import (
	"net"
	"net/netip"
	"strconv"
)

// Address is an address to listen on or to connect to: host and port, or the path of a Unix socket.
type Address struct {
	// Host is an IP address (without brackets), a name in lower case, or "" for all addresses of
	// the host.
	Host string
	Port uint16
	// Last is the last of a range of ports that begins with Port; 0: Port alone. Only addresses to
	// listen on have it.
	Last uint16
	// Path is absolute, or begins with @ (a name of Linux's abstract namespace); "" for host and
	// port.
	Path string
}

// IsUnix reports whether the address is that of a Unix socket.
func (a Address) IsUnix() bool { return a.Path != "" }

// Network returns "unix" or "tcp", the network for package net.
func (a Address) Network() string {
	if a.IsUnix() {
		return "unix"
	}
	return "tcp"
}

// String returns "host:port", "host:first-last" or "unix:/path", as in the file.
func (a Address) String() string {
	if a.IsUnix() {
		return "unix:" + a.Path
	}
	port := strconv.Itoa(int(a.Port))
	if a.Last != 0 {
		port += "-" + strconv.Itoa(int(a.Last))
	}
	return net.JoinHostPort(a.Host, port)
}

// Each returns the addresses of a range of ports, and any other address alone.
func (a Address) Each() []Address {
	if a.Last == 0 {
		return []Address{a}
	}
	all := make([]Address, 0, int(a.Last-a.Port)+1)
	for port := int(a.Port); port <= int(a.Last); port++ {
		all = append(all, Address{Host: a.Host, Port: uint16(port)})
	}
	return all
}

// has reports whether the port is the address's, or in its range.
func (a Address) has(port uint16) bool { return port == a.Port || a.Port <= port && port <= a.Last }

// IP returns the host if it is an IP address, and an invalid address otherwise.
func (a Address) IP() netip.Addr {
	ip, err := netip.ParseAddr(a.Host)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}
