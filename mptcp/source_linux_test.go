package mptcp

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// from is a SourceSelector that always gives the same answer.
type from struct{ addr netip.Addr }

func (f from) SelectSource(netip.Addr) netip.Addr { return f.addr }
func (f from) Valid() context.Context             { return context.Background() }

// A dial leaves from the address that its SourceSelector gives, unless the caller names one or the
// host has lost it.
func TestSourceSelector(t *testing.T) {
	l := listen(t, "127.0.0.1:0", Off)
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	for _, c := range []struct {
		name   string
		dialer Dialer
		want   string
	}{
		{"none", Dialer{}, "127.0.0.1"},
		{"the kernel's choice", Dialer{SourceSelector: from{}}, "127.0.0.1"},
		{"another address", Dialer{SourceSelector: from{netip.MustParseAddr("127.0.0.7")}}, "127.0.0.7"},
		{"a source that was asked for", Dialer{Source: netip.MustParseAddr("127.0.0.8"), SourceSelector: from{netip.MustParseAddr("127.0.0.7")}}, "127.0.0.8"},
		{"one that the host has not", Dialer{SourceSelector: from{netip.MustParseAddr("192.0.2.7")}}, "127.0.0.1"},
	} {
		for _, mode := range []Mode{Off, Prefer} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			c.dialer.Mode, c.dialer.Memory = mode, new(Memory)
			conn, _, err := c.dialer.Dial(ctx, to)
			cancel()
			if err != nil {
				t.Errorf("%s, %v: %v", c.name, mode, err)
				continue
			}
			if got := conn.LocalAddr().(*net.TCPAddr).IP.String(); got != c.want {
				t.Errorf("%s, %v: from %s, want %s", c.name, mode, got, c.want)
			}
			conn.Close()
		}
	}
}
