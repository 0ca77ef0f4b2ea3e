package config

import (
	"time"
)

func (l *loader) backend(r *rawBackend) Backend {
	out := Backend{
		Name:            l.name(r.Name),
		Balance:         oneOf(l, r.Balance, RoundRobin),
		Protocol:        oneOf(l, r.Protocol, H1, H2, H2C, Auto),
		MPTCP:           oneOf(l, r.MPTCP, MPTCPPrefer, MPTCPRequire, MPTCPOff),
		ConnectTimeout:  l.duration(r.ConnectTimeout, time.Millisecond),
		ResponseTimeout: l.duration(r.ResponseTimeout, time.Millisecond),
		IdleTimeout:     l.duration(r.IdleTimeout, time.Millisecond),
		SendProxy:       oneOf(l, r.SendProxy, SendProxyOff, SendProxyV1, SendProxyV2),
		Source:          l.ip(r.Source),
		Interface:       l.device(r.Interface),
	}
	if r.TLS != nil {
		out.TLS = l.backendTLS(r.TLS)
	}
	switch {
	case out.Protocol == H2 && r.TLS == nil:
		l.fault(r.Protocol.At, `is HTTP/2 over TLS%s, and this backend has no tls; add tls = {}, or write "h2c" for HTTP/2 without it`, r.Protocol.got())
	case out.Protocol == H2C && r.TLS != nil:
		l.fault(r.Protocol.At, `is HTTP/2 without TLS%s, and this backend has tls; write "h2"`, r.Protocol.got())
	}
	if len(r.Servers) == 0 {
		l.fault(r.At, `has no servers; add for example servers = [ { address = "127.0.0.1:8080" } ]`)
	}
	taken := map[Address]*place{}
	for _, s := range r.Servers {
		srv := l.server(s, &out)
		if first := taken[srv.Address]; first != nil && srv.Address != (Address{}) {
			l.fault(s.Address.At, "is a server of this backend already%s, at %s:%d; give one of them more weight instead", s.Address.got(), first.file, first.line)
		} else {
			taken[srv.Address] = s.Address.At
		}
		out.Servers = append(out.Servers, srv)
	}
	return out
}

// server resolves one server; what it leaves out is the backend's.
func (l *loader) server(r *rawServer, b *Backend) Server {
	out := Server{Address: l.address(r.Address, dialAddress), Weight: l.number(r.Weight, 1, 1000)}
	out.MPTCP, out.Source, out.Interface = b.MPTCP, b.Source, b.Interface
	if r.MPTCP.V != "" {
		out.MPTCP = oneOf(l, r.MPTCP, MPTCPPrefer, MPTCPRequire, MPTCPOff)
	}
	if r.Source.V != "" {
		out.Source = l.ip(r.Source)
	}
	if r.Interface.V != "" {
		out.Interface = l.device(r.Interface)
	}
	if out.Address.IsUnix() {
		if out.MPTCP == MPTCPRequire {
			l.fault(r.Address.At, `is a unix socket%s, which never speaks MPTCP, and mptcp is "require"; write mptcp = "off" for this server`, r.Address.got())
		}
		for _, s := range []str{r.Source, r.Interface} {
			if s.V != "" {
				l.fault(s.At, "is set for a unix socket%s; leave it out", s.got())
			}
		}
		// The backend's are for the other servers.
		out.MPTCP, out.Source, out.Interface = MPTCPOff, Address{}.IP(), ""
		return out
	}
	if ip := out.Address.IP(); ip.IsValid() && out.Source.IsValid() && ip.Is4() != out.Source.Is4() {
		l.fault(r.Address.At, "is of another family than its source %s%s; give the server a source of its own", out.Source, r.Address.got())
	}
	return out
}

func (l *loader) backendTLS(r *rawBackendTLS) *BackendTLS {
	out := &BackendTLS{CA: l.filePath(r.CA), Cert: l.filePath(r.Cert), Key: l.filePath(r.Key), Verify: r.Verify.V}
	if s := r.ServerName; s.V != "" {
		name, problem := hostName(s.V, false)
		if problem != "" {
			l.wrong(s, problem)
		}
		out.ServerName = name
	}
	for _, s := range r.SAN.V {
		if s.V == "" {
			l.fault(s.At, "is empty; must be a name that stands in the server's certificate")
		}
		out.SAN = append(out.SAN, s.V)
	}
	if (out.Cert == "") != (out.Key == "") {
		missing := r.Key.At
		if out.Cert == "" {
			missing = r.Cert.At
		}
		l.fault(missing, "is missing; cert and key go together")
	}
	if !out.Verify {
		l.warn(r.Verify.At, "is false: anyone on the way can answer for the servers; name their CA in ca instead")
		if len(out.SAN) > 0 || out.CA != "" {
			l.fault(r.Verify.At, "is false beside ca or san, which then are never looked at; leave one of them out")
		}
	}
	return out
}
