package target

import (
	"net/netip"
	"strings"
)

// ServerHost is the host and port by which a server is addressed in a request, given its address in
// the configuration: "unix:…" becomes localhost, as other clients of unix sockets write it, and the
// zone of a link-local address is removed.
func ServerHost(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return "localhost"
	}
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().Zone() != "" {
		return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()).String()
	}
	return address
}
