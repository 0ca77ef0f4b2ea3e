package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
)

// listeners finds those that joins cannot reach: a listener bound to one address
// accepts them on that only, and other addresses are announced.
func (e *examination) listeners() {
	const check = "listeners"
	for _, l := range e.Listeners {
		if l.Mode == mptcp.Off {
			continue
		}
		bound := map[netip.Addr]bool{}
		wildcard, port := false, uint16(0)
		for _, a := range l.Addresses {
			host, p := splitAddress(a)
			if p != 0 {
				port = p
			}
			if wildcard = wildcard || host == "" && p != 0; host == "" {
				continue
			}
			if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
				wildcard = true
			} else if err == nil {
				bound[ip.Unmap()] = true
			}
		}
		if wildcard || len(bound) == 0 {
			continue
		}
		var missed []string
		for _, p := range e.Paths.Paths {
			if p.Role == paths.ForBackends || p.Port != 0 {
				continue
			}
			for _, a := range addressesOf(&p) {
				if !bound[a] {
					missed = append(missed, a.String())
				}
			}
		}
		if len(missed) > 0 {
			e.add(Warning, check, l.Name, fmt.Sprintf("it does not listen on %s, which is announced: joins there are refused", strings.Join(missed, ", ")),
				fmt.Sprintf(`address = "0.0.0.0:%d" (or "[::]:%d"), or port = PORT for the path`, port, port))
		} else {
			e.add(OK, check, l.Name, "it accepts joins on all announced addresses", "")
		}
	}
}

// splitAddress gives host and port; 0 for what is no TCP address.
func splitAddress(a string) (string, uint16) {
	i := strings.LastIndexByte(a, ':')
	if i < 0 || strings.HasPrefix(a, "unix:") {
		return "", 0
	}
	p, err := strconv.ParseUint(a[i+1:], 10, 16)
	if err != nil {
		return "", 0
	}
	return strings.Trim(a[:i], "[]"), uint16(p)
}

// systemdSince is the first version that supports SocketProtocol=mptcp.
const systemdSince = 257

// systemd checks inherited sockets or, without them, the version of systemd.
func (e *examination) systemd() {
	const check = "systemd"
	version := -1
	for _, l := range e.Listeners {
		if l.Systemd != "" && l.Mode == mptcp.Off {
			e.armed(&l)
		}
		if l.Systemd == "" || l.Mode == mptcp.Off {
			continue
		}
		level := Warning
		if l.Mode == mptcp.Require {
			level = Error
		}
		if found := e.inherited(l.Systemd, level, l.Name); found {
			continue
		}
		if version < 0 {
			version = e.systemdVersion()
		}
		switch {
		case version == 0:
			e.add(Warning, check, l.Name, "its socket comes from systemd, whose version is unknown", "check systemctl --version: 257 or later supports SocketProtocol=mptcp")
		case version < systemdSince:
			e.add(level, check, l.Name, fmt.Sprintf("systemd %d does not support SocketProtocol=mptcp and passes a TCP socket", version),
				fmt.Sprintf("systemd %d or later, or let mpgate open it: address = \"…\" without systemd", systemdSince))
		default:
			e.add(OK, check, l.Name, fmt.Sprintf("systemd %d supports SocketProtocol=mptcp", version), "")
		}
	}
}

// armed finds MPTCP sockets of a listener with MPTCP off, without a TCP socket for the same
// address.
func (e *examination) armed(l *Listener) {
	for _, in := range e.Inherited {
		if in.Name == l.Systemd && in.Transport == mptcp.MPTCP && !slices.Contains(e.Inherited, Inherited{in.Name, in.Address, mptcp.TCP}) {
			e.add(Warning, "systemd", l.Name, fmt.Sprintf("the socket that was passed (%s) is MPTCP and remains so, although MPTCP is off", in.Address),
				"remove SocketProtocol=mptcp from the .socket unit and restart the socket, or use the units of mpgate units --pair")
		}
	}
}

func (e *examination) inherited(name string, level Level, listener string) (found bool) {
	for _, in := range e.Inherited {
		if in.Name != name {
			continue
		}
		found = true
		switch in.Transport {
		case mptcp.MPTCP:
			e.add(OK, "systemd", listener, fmt.Sprintf("the socket that was passed (%s) is MPTCP", in.Address), "")
		case mptcp.TCP:
			if slices.Contains(e.Inherited, Inherited{in.Name, in.Address, mptcp.MPTCP}) {
				e.add(OK, "systemd", listener, fmt.Sprintf("a second, TCP socket was passed (%s): it gets new connections while MPTCP is off", in.Address), "")
				continue
			}
			e.add(level, "systemd", listener, fmt.Sprintf("the socket that was passed (%s) is TCP", in.Address),
				"SocketProtocol=mptcp in the .socket unit (systemd 257 or later), then systemctl daemon-reload and restart the socket")
		}
	}
	return found
}

// systemdVersion returns 0 if there is none.
func (e *examination) systemdVersion() int {
	out, err := e.Command(e.ctx, "systemctl", "--version")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(out))
	if len(fields) < 2 || fields[0] != "systemd" {
		return 0
	}
	digits := strings.IndexFunc(fields[1], func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		fields[1] = fields[1][:digits]
	}
	n, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return n
}
