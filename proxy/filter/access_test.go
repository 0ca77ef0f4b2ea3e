package filter_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"mpgate/proxy/filter"
	"mpgate/telemetry"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestNetworks(t *testing.T) {
	n := filter.NewNetworks(prefixes("10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32", "fe80::/10", "::ffff:198.51.100.0/120", "128.0.0.0/1"))
	for address, want := range map[string]bool{
		"10.0.0.0": true, "10.255.255.255": true, "11.0.0.0": false, "9.255.255.255": false,
		"192.0.2.7": true, "255.255.255.255": true, "127.255.255.255": false,
		"::ffff:10.1.2.3": true, "::ffff:11.1.2.3": false, "198.51.100.9": true, "100.0.0.1": false,
		"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": true, "2001:db9::": false, "2001:db7:ffff::": false,
		"fe80::1%eth0": true, "::": false, "::a00:1": false,
	} {
		if got := n.Has(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
	if n.Has(netip.Addr{}) {
		t.Error("an address that is not known is in networks that are not everything")
	}
	all := filter.NewNetworks(prefixes("::/0", "0.0.0.0/0"))
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("::"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("ffff::")} {
		if !all.Has(a) {
			t.Errorf("%v is not in all networks", a)
		}
	}
	var none filter.Networks
	if none.Has(netip.Addr{}) || none.Has(netip.MustParseAddr("::1")) {
		t.Error("something is in no network")
	}
}

// A set of random networks says the same as the networks one by one.
func TestNetworksAgainstPrefixes(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	address := func() netip.Addr {
		if dice.IntN(2) == 0 {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], dice.Uint32()&0x0f0f0f0f)
			return netip.AddrFrom4(b)
		}
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], dice.Uint64()&0x0101010101010101)
		binary.BigEndian.PutUint64(b[8:], dice.Uint64()&0x0101010101010101)
		return netip.AddrFrom16(b)
	}
	hits := 0
	for range 200 {
		var list []netip.Prefix
		for range dice.IntN(30) {
			a := address()
			list = append(list, netip.PrefixFrom(a, 1+dice.IntN(a.BitLen())).Masked())
		}
		n := filter.NewNetworks(list)
		for range 200 {
			a := address()
			want := slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
			if got := n.Has(a); got != want {
				t.Fatalf("%v in %v: %v, want %v", a, list, got, want)
			}
			if want {
				hits++
			}
		}
	}
	if hits < 1000 {
		t.Errorf("only %d addresses were in a network", hits)
	}
}

func TestAccess(t *testing.T) {
	for _, tt := range []struct {
		allow, deny []string
		client      string
		refused     bool
	}{
		{[]string{"10.0.0.0/8"}, nil, "10.1.2.3", false},
		{[]string{"10.0.0.0/8"}, nil, "11.1.2.3", true},
		{[]string{"10.0.0.0/8"}, nil, "2001:db8::1", true},
		{[]string{"10.0.0.0/8"}, nil, "", true},
		{nil, []string{"10.0.0.0/8"}, "10.1.2.3", true},
		{nil, []string{"10.0.0.0/8"}, "11.1.2.3", false},
		{nil, []string{"10.0.0.0/8"}, "", false},
		{nil, []string{"0.0.0.0/0"}, "", true},
		{[]string{"0.0.0.0/0"}, nil, "", false},
		{[]string{"10.0.0.0/8"}, []string{"10.9.0.0/16"}, "10.9.1.1", true},
		{[]string{"10.0.0.0/8"}, []string{"10.9.0.0/16"}, "10.8.1.1", false},
		{[]string{"10.9.1.1/32"}, []string{"10.9.0.0/16"}, "10.9.1.1", true}, // deny has precedence
	} {
		f := filter.NewAccess(prefixes(tt.allow...), prefixes(tt.deny...))
		r := requestFor("/")
		if tt.client != "" {
			r.Record.Client = netip.MustParseAddr(tt.client)
		}
		if got := f.FilterRequest(r); got != tt.refused {
			t.Errorf("allow %v, deny %v: %q is refused: %v", tt.allow, tt.deny, tt.client, got)
		}
		if tt.refused && (r.Answer.Status != 403 || r.Answer.End != telemetry.EndDenied) {
			t.Errorf("the answer is %+v", r.Answer)
		}
	}
}

func TestAccessExplained(t *testing.T) {
	r := requestFor("/")
	note := ""
	r.Explain = func(s string) { note = s }
	if filter.NewAccess(prefixes("10.0.0.0/8"), nil).FilterRequest(r) || note == "" {
		t.Errorf("a client that is not known is refused, or nothing is said of it: %q", note)
	}
}

// thousand are 1,000 networks apart from each other.
func thousand() (list []netip.Prefix) {
	for i := range 500 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i / 4), byte(i % 4 * 64), 0}), 20))
		list = append(list, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, byte(i / 256), byte(i)}), 40))
	}
	return list
}

func TestAccessAllocatesNothing(t *testing.T) {
	f := filter.NewAccess(thousand(), nil)
	r := requestFor("/")
	r.Record.Client = netip.MustParseAddr("20.3.64.1")
	if n := testing.AllocsPerRun(100, func() {
		if f.FilterRequest(r) {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkAccess(b *testing.B) {
	f := filter.NewAccess(thousand(), nil)
	r := requestFor("/")
	r.Record.Client = netip.MustParseAddr("2001:1ff::1")
	b.ReportAllocs()
	for b.Loop() {
		f.FilterRequest(r)
	}
}
