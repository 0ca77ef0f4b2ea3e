package config

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

func (l *loader) listener(r *rawListener) Listener {
	out := Listener{
		Name:              l.name(r.Name),
		Mode:              l.fileMode(r.Mode),
		Systemd:           l.fdName(r.Systemd),
		MPTCP:             oneOf(l, r.MPTCP, MPTCPPrefer, MPTCPRequire, MPTCPOff),
		Interface:         l.device(r.Interface),
		ProxyProtocol:     oneOf(l, r.ProxyProtocol, ProxyOff, ProxyOptional, ProxyRequired),
		ProxyProtocolFrom: l.prefixes(r.ProxyProtocolFrom),
		RedirectHTTPS:     r.RedirectHTTPS.V,
		HealthPath:        r.HealthPath.V,
	}
	out.TrustedProxies, out.TrustUnix = l.trusted(r.TrustedProxies)
	for _, s := range r.Address.V {
		out.Addresses = append(out.Addresses, l.address(s, listenAddress))
	}
	if r.TLS != nil {
		out.TLS = l.tls(r.TLS)
	}
	out.Protocols = l.protocols(r.Protocols, r.TLS != nil)
	if out.HealthPath != "" {
		if problem := pathProblem(out.HealthPath); problem != "" {
			l.wrong(r.HealthPath, problem)
		} else if strings.Contains(out.HealthPath, "*") {
			l.wrong(r.HealthPath, `has a *; must be one path, for example "/healthz"`)
		}
	}
	l.listenerSense(r, &out)
	return out
}

// trustedUnix stands among trusted_proxies for all peers on unix sockets, which have no address.
const trustedUnix = "unix"

func (l *loader) trusted(r list) (networks []netip.Prefix, unix bool) {
	rest := list{At: r.At}
	for _, s := range r.V {
		if s.V == trustedUnix {
			unix = true
		} else {
			rest.V = append(rest.V, s)
		}
	}
	return l.prefixes(rest), unix
}

// listenerSense faults keys of a listener that are right each but not together.
func (l *loader) listenerSense(r *rawListener, out *Listener) {
	if len(r.Address.V) == 0 && r.Systemd.V == "" && !r.Address.At.unset && !r.Systemd.At.unset {
		l.fault(r.At, `has neither address nor systemd; write for example address = "0.0.0.0:8080"`)
	}
	unix, ip := 0, 0
	for _, a := range out.Addresses {
		if a.IsUnix() {
			unix++
		} else {
			ip++
		}
	}
	onlyUnix := unix > 0 && ip == 0 && out.Systemd == ""
	if unix > 0 && out.MPTCP == MPTCPRequire {
		l.fault(r.MPTCP.At, `is "require" with a unix socket, which never speaks MPTCP; give that address a listener of its own`)
	}
	if onlyUnix && out.Interface != "" {
		l.fault(r.Interface.At, "is set, but there are unix sockets only%s; leave it out", r.Interface.got())
	}
	if onlyUnix && len(out.TrustedProxies) > 0 && !out.TrustsUnix() && out.ProxyProtocol == ProxyOff {
		l.warn(r.TrustedProxies.At, `has networks, and peers on unix sockets have no address: none of them is trusted; write trusted_proxies = [ "unix" ]`)
	}
	if unix == 0 && out.Systemd == "" && out.TrustUnix {
		l.warn(r.TrustedProxies.At, `has "unix", and this listener has no unix socket; leave it out`)
	}
	if unix == 0 && len(out.Addresses) > 0 && r.Mode.At.written {
		l.warn(r.Mode.At, "is for unix sockets, and this listener has none; leave it out")
	}
	if !onlyUnix && out.Interface != "" && out.MPTCP != MPTCPOff {
		l.warn(r.Interface.At, `binds every subflow of a connection to the device%s, so that no second path is used; leave it out or write mptcp = "off"`, r.Interface.got())
	}
	if out.ProxyProtocol != ProxyOff && out.ProxyProtocol != "" && len(r.ProxyProtocolFrom.V) == 0 && !onlyUnix {
		l.fault(r.ProxyProtocol.At, `is %q without proxy_protocol_from; name the balancers there, for example proxy_protocol_from = [ "10.0.0.0/8" ]`, out.ProxyProtocol)
	}
	if out.ProxyProtocol == ProxyOff && len(r.ProxyProtocolFrom.V) > 0 {
		l.warn(r.ProxyProtocolFrom.At, `says nothing while proxy_protocol is "off"; write proxy_protocol = "optional" or "required"`)
	}
	if out.RedirectHTTPS && out.TLS != nil {
		l.fault(r.RedirectHTTPS.At, "is set on a listener that speaks TLS itself; set it on the one for plain HTTP")
	}
}

// fileMode is octal, "0660".
func (l *loader) fileMode(s str) os.FileMode {
	n, err := strconv.ParseUint(s.V, 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		l.fault(s.At, `is no mode of a file%s; must be octal, for example "0660"`, s.got())
		return 0
	}
	return os.FileMode(n)
}

// fdName is a FileDescriptorName of systemd: printable ASCII without colon, 255 long at most.
func (l *loader) fdName(s str) string {
	for i := 0; i < len(s.V); i++ {
		if c := s.V[i]; c <= ' ' || c >= 0x7f || c == ':' || len(s.V) > 255 {
			l.fault(s.At, "is no FileDescriptorName%s; must be printable ASCII without spaces and colons, 255 long at most", s.got())
			return ""
		}
	}
	return s.V
}

func (l *loader) protocols(r list, tls bool) []Protocol {
	if !r.At.written || r.At.unset {
		return defaultProtocols(tls)
	}
	var out []Protocol
	for _, s := range r.V {
		p := oneOf(l, s, H1, H2, H2C)
		switch {
		case p == "":
			continue
		case slices.Contains(out, p):
			l.fault(s.At, "stands twice%s; keep one of them", s.got())
			continue
		case p == H2 && !tls:
			l.fault(s.At, `is HTTP/2 over TLS%s, and this listener has no tls; add [listener.tls], or write "h2c" for HTTP/2 without it`, s.got())
		case p == H2C && tls:
			l.fault(s.At, `is HTTP/2 without TLS%s, and this listener has tls; write "h2"`, s.got())
		}
		out = append(out, p)
	}
	if len(r.V) == 0 {
		l.fault(r.At, `is empty; name at least one of "h1", "h2" and "h2c", or leave it out`)
	}
	return out
}
