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

// String returns "host:port" or "unix:/path", as in the file.
func (a Address) String() string {
	if a.IsUnix() {
		return "unix:" + a.Path
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// IP returns the host if it is an IP address, and an invalid address otherwise.
func (a Address) IP() netip.Addr {
	ip, err := netip.ParseAddr(a.Host)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}
