package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"mpgate/config"
	"mpgate/mptcp/doctor"
)

// resolve gives the first addresses of a host, for each family that the resolver has.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i] = all[i].Unmap()
	}
	return all[:min(len(all), mostAddresses)], nil
}

// greeting is the first thing that a server of the backend expects: the kernel makes further
// subflows only once bytes have passed both ways.
func greeting(b *config.Backend, host string) func(context.Context, net.Conn) error {
	greet := doctor.GreetHTTP(host)
	switch {
	case b.TLS != nil:
		// Whether the certificate is right is the gateway's to judge; this sends nothing.
		greet = doctor.GreetTLS(&tls.Config{ServerName: cmp.Or(b.TLS.ServerName, host), InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	case b.Protocol == config.H2C:
		greet = greetWith("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", readOne) // RFC 9113, 3.4: the preface and empty SETTINGS
	}
	switch b.SendProxy {
	case 1:
		greet = greetWith("PROXY UNKNOWN\r\n", greet)
	case 2: // LOCAL: a check of the proxy's own
		greet = greetWith("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", greet)
	}
	return greet
}

// greetWith sends bytes first.
func greetWith(first string, then func(context.Context, net.Conn) error) func(context.Context, net.Conn) error {
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
