package config

import (
	"net"
	"net/netip"
	"strconv"
)

// Address is where to listen or to dial: host and port, or the path of a unix socket.
type Address struct {
	// Host is an IP address (without brackets), a name in lower case, or "" for all addresses of
	// the host.
	Host string
	Port uint16
	// Path is absolute, or begins with @ (a name of Linux's abstract namespace); "" for host and
	// port.
	Path string
}

// IsUnix reports whether it is a unix socket.
func (a Address) IsUnix() bool { return a.Path != "" }

// Network is "unix" or "tcp", as package net wants it.
func (a Address) Network() string {
	if a.IsUnix() {
		return "unix"
	}
	return "tcp"
}

// String is "host:port" or "unix:/path", as it would be written in the file.
func (a Address) String() string {
	if a.IsUnix() {
		return "unix:" + a.Path
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// IP is the host where that is an IP address, else not valid.
func (a Address) IP() netip.Addr {
	ip, err := netip.ParseAddr(a.Host)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}
