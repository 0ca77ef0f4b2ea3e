package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"mpgate/config"
	"mpgate/gateway"
	"mpgate/mptcp/doctor"
)

// resolve returns the first addresses of a server.
func resolve(ctx context.Context, b *config.Backend, s *config.Server) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	all, err := gateway.Lookup(ctx, b, s)
	if err != nil {
		return nil, err
	}
	return all[:min(len(all), mostAddresses)], nil
}

// probe exchanges the first bytes with a server of the backend: the kernel creates further subflows
// only after bytes have passed in both directions.
func probe(b *config.Backend, host string) func(context.Context, net.Conn) error {
	probe := doctor.ProbeHTTP(host)
	switch {
	case b.TLS != nil:
		// Verifying the certificate is the gateway's task; doctor sends no data.
		probe = doctor.ProbeTLS(&tls.Config{ServerName: cmp.Or(b.TLS.ServerName, host), InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	case b.Protocol == config.H2C:
		// RFC 9113, 3.4: the preface and empty SETTINGS
		probe = probeWith("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", readOne)
	}
	switch b.SendProxy {
	case 1:
		probe = probeWith("PROXY UNKNOWN\r\n", probe)
	case 2: // LOCAL: a health check by the proxy
		probe = probeWith("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", probe)
	}
	return probe
}

// probeWith returns a probe that sends bytes first.
func probeWith(first string, then func(context.Context, net.Conn) error) func(context.Context, net.Conn) error {
	return func(ctx context.Context, c net.Conn) error {
		if _, err := c.Write([]byte(first)); err != nil {
			return err
		}
		return then(ctx, c)
	}
}

func readOne(_ context.Context, c net.Conn) error {
	_, err := c.Read(make([]byte, 1))
	return err
}
