package route

import (
	"net/netip"
	"slices"
)

// clients are networks, one of which must contain the client's address. They are sorted, and none
// lies within another.
type clients []netip.Prefix

func newClients(networks []netip.Prefix) clients {
	sorted := make([]netip.Prefix, 0, len(networks))
	for _, n := range networks {
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		sorted = append(sorted, n.Masked())
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits() // the larger network first
	})
	var c clients
	for _, n := range sorted {
		if len(c) == 0 || !c[len(c)-1].Contains(n.Addr()) {
			c = append(c, n)
		}
	}
	return c
}

// contains looks at the last network that begins at or before the address.
func (c clients) contains(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	a = a.Unmap().WithZone("")
	lo, hi := 0, len(c)
	for lo < hi {
		if mid := (lo + hi) / 2; c[mid].Addr().Compare(a) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo > 0 && c[lo-1].Contains(a)
}

func (c clients) holds(q *Request) bool { return c.contains(q.Client) }

func (c clients) key() string { return "client" }

func (c clients) want() string {
	texts := make([]string, len(c))
	for i, n := range c {
		texts[i] = n.String()
	}
	return list(texts)
}

func (c clients) got(q *Request) string {
	if !q.Client.IsValid() {
		return "none"
	}
	return q.Client.String()
}

func (c clients) implies(other condition) bool {
	o, ok := other.(clients)
	return ok && !slices.ContainsFunc(c, func(n netip.Prefix) bool {
		return !slices.ContainsFunc(o, func(m netip.Prefix) bool { return m.Bits() <= n.Bits() && m.Contains(n.Addr()) })
	})
}
