package config

import (
	"net/netip"

	"mpgate/mptcp"
)

func (l *loader) checkBackend(b *Backend, n *node) {
	if b.TLS != nil {
		l.checkBackendTLS(b.TLS, n.get("tls"))
	}
	switch {
	case b.Protocol == H2 && b.TLS == nil:
		l.fault(n.get("protocol").at, `is HTTP/2 over TLS%s, and this backend has no tls; add tls = {}, or write "h2c" for HTTP/2 without it`, n.get("protocol").got())
	case b.Protocol == H2C && b.TLS != nil:
		l.fault(n.get("protocol").at, `is HTTP/2 without TLS%s, and this backend has tls; write "h2"`, n.get("protocol").got())
	}
	l.checkHealth(b, n)
	l.checkBalance(b, n)
	servers := n.get("servers").entries()
	if len(servers) == 0 && !n.unset("servers") {
		l.fault(n.at, `has no servers; add for example servers = [ { address = "127.0.0.1:8080" } ]`)
	}
	taken := map[string]*place{}
	for i, sn := range servers {
		srv, where := &b.Servers[i], sn.get("address")
		l.checkServer(srv, sn, b)
		if srv.SRV != "" {
			where = sn.get("srv")
		}
		known := srv.SRV != "" || srv.Address != (Address{})
		if first := taken[srv.Name()]; first != nil && known {
			instead := "give one of them more weight instead"
			if srv.SRV != "" {
				instead = "remove one of them"
			}
			l.fault(where.at, "is already a server of this backend%s, at %s:%d; %s", where.got(), first.file, first.line, instead)
		} else {
			taken[srv.Name()] = where.at
		}
	}
	l.checkRetry(&b.Retry, b.ResponseTimeout, n.get("retry"))
	l.checkHedge(b, n)
	l.checkQueue(b, n)
}

// checkServer sets the keys that a server does not set to the values of its backend.
func (l *loader) checkServer(s *Server, n *node, b *Backend) {
	if !n.has("mptcp") {
		s.MPTCP = b.MPTCP
	}
	if !n.has("source") {
		s.Source = b.Source
	}
	if !n.has("interface") {
		s.Interface = b.Interface
	}
	if !n.written("max_requests") {
		s.MaxRequests = b.MaxRequests
	}
	address := n.get("address")
	l.checkNames(s, n)
	if s.Address.IsUnix() {
		if s.MPTCP == mptcp.Require {
			l.fault(address.at, `is a unix socket%s, which cannot use MPTCP, and mptcp is "require"; write mptcp = "off" for this server`, address.got())
		}
		for _, key := range []string{"source", "interface"} {
			if n.has(key) {
				l.wrong(n.get(key), "is set for a unix socket; leave it out")
			}
		}
		// The values of the backend are for its other servers.
		s.MPTCP, s.Source, s.Interface = mptcp.Off, netip.Addr{}, ""
		return
	}
	if ip := s.Address.IP(); ip.IsValid() && s.Source.IsValid() && ip.Is4() != s.Source.Is4() {
		l.fault(address.at, "has another address family than its source %s%s; give the server a source of its own", s.Source, address.got())
	}
}

// checkNames checks the keys of a server that stands for several.
func (l *loader) checkNames(s *Server, n *node) {
	switch {
	case n.has("srv") && n.has("address"):
		l.wrong(n.get("srv"), "is set beside address; write one of them")
	case s.SRV != "" && s.Weight != 1:
		l.wrong(n.get("weight"), "is set for SRV records, which have weights of their own; leave it out")
	case s.SRV != "" && s.All:
		l.wrong(n.get("all"), "is set for SRV records, each of which is a server anyway; leave it out")
	case s.All && (s.Address.IsUnix() || s.Address.IP().IsValid()):
		l.wrong(n.get("all"), "is true for a server that has no name; write a name in address, or leave all out")
	}
}

func (l *loader) checkBackendTLS(t *BackendTLS, n *node) {
	if (t.Cert == "") != (t.Key == "") {
		missing := "key"
		if t.Cert == "" {
			missing = "cert"
		}
		l.fault(n.get(missing).at, "is missing; cert and key go together")
	}
	if !t.Verify {
		l.warn(n.get("verify").at, "is false: anyone between mpgate and the servers can impersonate them; name their CA in ca instead")
		if len(t.SAN) > 0 || t.CA != "" {
			l.fault(n.get("verify").at, "is false together with ca or san, which then have no effect; leave one of them out")
		}
	}
}
