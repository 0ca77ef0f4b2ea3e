package filter

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Networks is a set of networks. The zero value is empty. It is immutable. A search takes as many
// steps as the logarithm of their number, and allocates nothing.
type Networks struct {
	v4, v6 []span // sorted, apart from each other; those of IPv4 as mapped to IPv6
	every  bool   // there is a network of all addresses
}

// span is the addresses from first to last.
type span struct{ first, last address }

// address is an IPv6 address.
type address struct{ high, low uint64 }

func newAddress(a netip.Addr) address {
	b := a.As16()
	return address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a address) less(b address) bool {
	return a.high < b.high || a.high == b.high && a.low < b.low
}

// NewNetworks makes a set. Networks of IPv4 addresses mapped to IPv6 are those of IPv4.
func NewNetworks(list []netip.Prefix) (n Networks) {
	for _, p := range list {
		p = p.Masked()
		n.every = n.every || p.Bits() == 0
		if bits := p.Bits(); p.Addr().Is4() {
			n.v4 = append(n.v4, newSpan(p.Addr(), 96+bits))
		} else if p.Addr().Is4In6() && bits >= 96 {
			n.v4 = append(n.v4, newSpan(p.Addr(), bits))
		} else {
			n.v6 = append(n.v6, newSpan(p.Addr(), bits))
		}
	}
	n.v4, n.v6 = merge(n.v4), merge(n.v6)
	return n
}

// newSpan is the addresses that have the first bits of a.
func newSpan(a netip.Addr, bits int) span {
	first := newAddress(a)
	last := first
	if bits < 64 {
		last.high |= 1<<(64-bits) - 1
	}
	last.low |= 1<<(128-max(bits, 64)) - 1
	return span{first, last}
}

// merge sorts spans and joins those that overlap.
func merge(list []span) []span {
	slices.SortFunc(list, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.first.high, b.first.high), cmp.Compare(a.first.low, b.first.low))
	})
	out := list[:0]
	for _, s := range list {
		last := len(out) - 1
		switch {
		case last < 0 || out[last].last.less(s.first):
			out = append(out, s)
		case out[last].last.less(s.last):
			out[last].last = s.last
		}
	}
	return out
}

// Has reports whether an address is in one of the networks. An address that is not valid, as that
// of a peer on a unix socket, is only in a network of all addresses. A zone does not count.
func (n *Networks) Has(a netip.Addr) bool {
	switch {
	case !a.IsValid():
		return n.every
	case a.Is4() || a.Is4In6():
		return has(n.v4, newAddress(a))
	}
	return has(n.v6, newAddress(a))
}

func has(list []span, a address) bool {
	from, to := 0, len(list)
	for from < to {
		if mid := (from + to) / 2; list[mid].last.less(a) {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return from < len(list) && !a.less(list[from].first)
}
