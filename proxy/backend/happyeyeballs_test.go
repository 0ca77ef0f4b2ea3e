package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mpgate/internal/dnstest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// dualStack starts a server on IPv4 and makes its port on IPv6 answer no SYN.
func dualStack(t *testing.T) (port uint16) {
	t.Helper()
	port, _ = origins(t, "127.0.0.1")
	proxytest.FullQueue(t, netip.AddrPortFrom(netip.IPv6Loopback(), port))
	return port
}

// A family that does not answer costs attemptDelay once. After it works again, it is found by a
// test in the background.
func TestBlackholedFamily(t *testing.T) {
	port := dualStack(t)
	s := dnstest.New(t)
	s.Set("api.example. 300 IN A 127.0.0.1", "api.example. 300 IN AAAA ::1")
	b, _ := pool(t, Options{Resolve: asks(s), Servers: servers(fmt.Sprintf("api.example.:%d", port))})
	server := b.list()[0]
	order := func() string {
		list, err := server.names.lookup(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(server.preference.order(list))
	}
	if got := order(); got != "[::1 127.0.0.1]" {
		t.Fatalf("the first order is %s", got)
	}
	began := time.Now()
	if _, tries, err := open(t, b); err != nil || tries != 1 {
		t.Fatalf("%v, after %d tries", err, tries)
	}
	if took := time.Since(began); took < attemptDelay {
		t.Errorf("it took %v, want at least %v: is the address silent?", took, attemptDelay)
	}
	for range 2 {
		if got := order(); got != "[127.0.0.1 ::1]" {
			t.Errorf("after that the order is %s", got)
		}
		if _, tries, err := open(t, b); err != nil || tries != 1 {
			t.Errorf("%v, after %d tries", err, tries)
		}
	}
}

// An address that lost is tested in the background after retestAfter.
func TestLostAddressIsTested(t *testing.T) {
	port, list := origins(t, "127.0.0.1", "127.0.0.2")
	s := dnstest.New(t)
	s.Set("api.example. 300 IN A 127.0.0.1", "api.example. 300 IN A 127.0.0.2")
	b, _ := pool(t, Options{Resolve: asks(s), Servers: servers(fmt.Sprintf("api.example.:%d", port))})
	server := b.list()[0]
	server.preference.note(netip.MustParseAddr("127.0.0.1"), addrs("127.0.0.2"))
	if _, _, err := open(t, b); err != nil {
		t.Fatal(err)
	}
	if n := list[1].Connections(); n != 0 {
		t.Fatalf("%d connections to the address that lost", n)
	}
	p := &server.preference
	p.mu.Lock()
	p.lost[netip.MustParseAddr("127.0.0.2")] = time.Now().Add(-retestAfter)
	p.mu.Unlock()
	if _, _, err := open(t, b); err != nil {
		t.Fatal(err)
	}
	forgotten := func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.lost) == 0 && !p.testing }
	if !proxytest.Within(proxytest.Patience, forgotten) {
		t.Error("the address was not tested, or failed the test")
	}
}

func TestPreference(t *testing.T) {
	all := addrs("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8::3")
	v4, v6 := all[:2], all[2:]
	show := func(list []netip.Addr) string { return strings.ReplaceAll(fmt.Sprint(list), "2001:db8::", "6:") }
	for _, c := range []struct {
		name   string
		before func(*preference)
		addrs  []netip.Addr
		want   string // the first two orders
	}{
		{"in turn", func(*preference) {}, all, "[6:1 192.0.2.1 6:2 192.0.2.2 6:3] [6:2 192.0.2.2 6:3 192.0.2.1 6:1]"},
		{"one address lost", func(p *preference) { p.note(v4[1], v4[:1]) }, v4, "[192.0.2.2 192.0.2.1] [192.0.2.2 192.0.2.1]"},
		{"a family lost", func(p *preference) { p.note(v4[0], v6[:1]) }, all, "[192.0.2.1 192.0.2.2 6:1 6:2 6:3] [192.0.2.2 192.0.2.1 6:1 6:2 6:3]"},
		{"both lost, one after the other", func(p *preference) { p.note(v4[0], v6[:1]); p.note(v6[0], v4) }, all, "[6:1 6:2 6:3 192.0.2.1 192.0.2.2] [6:2 6:3 6:1 192.0.2.1 192.0.2.2]"},
		{"a new address of a family that lost", func(p *preference) { p.note(v4[0], v6[:1]) }, addrs("2001:db8::9", "192.0.2.1"), "[192.0.2.1 6:9] [192.0.2.1 6:9]"},
	} {
		var p preference
		c.before(&p)
		if got := show(p.order(c.addrs)) + " " + show(p.order(c.addrs)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	var p preference
	p.note(v4[0], v6[:1])
	if a, ok := p.due(all, time.Now()); ok {
		t.Errorf("%v is due at once", a)
	}
	if a, ok := p.due(addrs("192.0.2.1", "2001:db8::9"), time.Now().Add(retestAfter)); !ok || a != netip.MustParseAddr("2001:db8::9") || len(p.lost) != 0 {
		t.Errorf("%v, %v is due, with %v; want the new address, and the old one forgotten", a, ok, p.lost)
	}
	if _, ok := p.due(all, time.Now().Add(2*retestAfter)); ok {
		t.Error("two tests at a time")
	}
}

// All addresses are tried while the time allows, also if many of them fail, and the error is one of
// theirs.
func TestManyAddressesFail(t *testing.T) {
	port, _ := origins(t, "127.0.0.1")
	s := dnstest.New(t)
	var lines []string
	for i := range 3 * maxAttempts {
		lines = append(lines, fmt.Sprintf("api.example. 300 IN A 127.0.9.%d", i))
	}
	s.Set(lines...)
	b, _ := pool(t, Options{Resolve: asks(s), Servers: servers(fmt.Sprintf("api.example.:%d", port))})
	if _, tries, err := open(t, b); connectResult(err) != connectResult(refusal(t)) || tries != 1 {
		t.Errorf("%v after %d tries, want a refusal", err, tries)
	}
	s.Set(append(lines, "api.example. 300 IN A 127.0.0.1")...)
	renew(b)
	if got := ask(t, b, "GET"); got != "127.0.0.1" {
		t.Errorf("%q answers", got)
	}
}

// refusal returns the error of a connect that is refused.
func refusal(t *testing.T) error {
	t.Helper()
	_, err := net.Dial("tcp", proxytest.NewRefusing(t).Address)
	return err
}

// The addresses of the other family than the source address are not tried.
func TestFamilyOfTheSource(t *testing.T) {
	all := addrs("192.0.2.1", "2001:db8::1")
	s := &Server{dialer: mptcp.Dialer{Source: netip.MustParseAddr("127.0.0.1")}}
	if got := s.reachable(all); !slices.Equal(got, all[:1]) {
		t.Errorf("with a source of IPv4: %v", got)
	}
	if got := s.reachable(all[1:]); len(got) != 1 {
		t.Errorf("without an address of its family: %v", got)
	}
	s.dialer.Source = netip.Addr{}
	if got := s.reachable(all); len(got) != 2 {
		t.Errorf("without a source: %v", got)
	}
}

// A connect whose time is over when it begins ends with an error.
func TestConnectWithoutTime(t *testing.T) {
	b, _ := pool(t, Options{Servers: servers("api.example.:80")})
	got := make(chan error, 1)
	go func() {
		_, _, _, err := b.list()[0].dialAny(ended(t), addrs("127.0.0.1", "127.0.0.2"))
		got <- err
	}()
	if err := await(t, got); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
