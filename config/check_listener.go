package config

import (
	"net/netip"
	"slices"

	"mpgate/mptcp"
	"mpgate/proxy/preread"
)

func (l *loader) checkListener(ln *Listener, n *node) {
	if ln.TLS != nil {
		l.checkTLS(ln.TLS, n.get("tls"))
	}
	l.checkProtocols(ln, n.get("protocols"))
	l.checkTCP(ln, n)
	for i, t := range ln.TrustedProxies {
		l.warnAll(t.Prefix, n.get("trusted_proxies").item(i))
	}
	for i, p := range ln.ProxyProtocolFrom {
		l.warnAll(p, n.get("proxy_protocol_from").item(i))
	}
	ln.TrustedProxies, ln.ProxyProtocolFrom = compact(ln.TrustedProxies), compact(ln.ProxyProtocolFrom)
	l.checkSockets(ln, n)
	if ln.ProxyProtocol == preread.ProxyOff && n.has("proxy_protocol_from") && !n.unset("proxy_protocol") {
		l.warn(n.get("proxy_protocol_from").at, `has no effect while proxy_protocol is "off"; write proxy_protocol = "optional" or "required"`)
	}
	if ln.RedirectHTTPS && ln.TLS != nil {
		l.fault(n.get("redirect_https").at, "is set on a listener with tls; set it on the one for plain HTTP")
	}
}

// checkSockets checks the keys that depend on the kinds of the listener's sockets.
func (l *loader) checkSockets(ln *Listener, n *node) {
	if len(ln.Addresses) == 0 && !n.has("systemd") && !n.unset("address", "systemd") {
		l.fault(n.at, `has neither address nor systemd; write for example address = "0.0.0.0:8080"`)
	}
	unix := 0
	for _, a := range ln.Addresses {
		if a.IsUnix() {
			unix++
		}
	}
	onlyUnix := unix > 0 && unix == len(ln.Addresses) && ln.Systemd == ""
	if unix > 0 && ln.MPTCP == mptcp.Require {
		l.fault(n.get("mptcp").at, `is "require" with a unix socket, which cannot use MPTCP; give that address a listener of its own`)
	}
	device := n.get("interface")
	if onlyUnix && ln.Interface != "" {
		l.fault(device.at, "is set, but there are only unix sockets%s; leave it out", device.got())
	}
	if onlyUnix && len(ln.TrustedProxies) > 0 && !ln.TrustsUnix() && ln.ProxyProtocol == preread.ProxyOff && !n.unset("proxy_protocol") {
		l.warn(n.get("trusted_proxies").at, `has networks, and peers on unix sockets have no address: none of them is trusted; write trusted_proxies = [ "unix" ]`)
	}
	if unix == 0 && ln.Systemd == "" && slices.Contains(ln.TrustedProxies, Network{Name: NetworkUnix}) {
		l.warn(n.get("trusted_proxies").at, `has "unix", and this listener has no unix socket; leave it out`)
	}
	if ln.TrustsCertificate() && !ln.TLS.verifiesClients() {
		l.fault(n.get("trusted_proxies").at, `has "certificate", and client certificates are not verified; write client_auth = "require" and client_ca in [listener.tls]`)
	}
	if unix == 0 && len(ln.Addresses) > 0 && n.written("mode") && ln.Mode != 0 {
		l.warn(n.get("mode").at, "is for unix sockets, and this listener has none; leave it out")
	}
	if !onlyUnix && ln.Interface != "" && ln.MPTCP != mptcp.Off {
		l.warn(device.at, `binds every subflow of a connection to the device%s, so that no second path is used; leave it out or write mptcp = "off"`, device.got())
	}
	if ln.ProxyProtocol != preread.ProxyOff && !n.has("proxy_protocol_from") && !onlyUnix {
		l.fault(n.get("proxy_protocol").at, `is %q without proxy_protocol_from; name the balancers there, for example proxy_protocol_from = [ "10.0.0.0/8" ]`, ln.ProxyProtocol)
	}
}

func (l *loader) checkProtocols(ln *Listener, n *node) {
	if !n.at.written || n.at.unset {
		if ln.TLS != nil {
			ln.Protocols = []Protocol{H1, H2}
		}
		return
	}
	for i, p := range ln.Protocols {
		switch {
		case p == "":
		case slices.Contains(ln.Protocols[:i], p):
			l.wrong(n.item(i), "is listed twice; keep one of them")
		case p == TCP && len(ln.Protocols) > 1:
			l.fault(n.item(i).at, `is set together with other protocols%s, and excludes them; write protocols = [ "tcp" ], or give it a listener of its own`, n.item(i).got())
		case p == H2 && ln.TLS == nil:
			l.fault(n.item(i).at, `is HTTP/2 over TLS%s, and this listener has no tls; add [listener.tls], or write "h2c" for HTTP/2 without it`, n.item(i).got())
		case p == H2C && ln.TLS != nil:
			l.fault(n.item(i).at, `is HTTP/2 without TLS%s, and this listener has tls; write "h2"`, n.item(i).got())
		}
	}
	if len(ln.Protocols) == 0 {
		l.fault(n.at, `is empty; name at least one of "h1", "h2", "h2c" and "tcp", or leave it out`)
	}
	ln.Protocols = compact(ln.Protocols)
}

// warnAll warns if a network contains every address.
func (l *loader) warnAll(p netip.Prefix, n *node) {
	if p.IsValid() && p.Bits() == 0 {
		l.warn(n.at, "is every address%s: every client that reaches the socket is trusted; name the networks of your own proxies", n.got())
	}
}
