package telemetry

import (
	"net/netip"
	"strconv"
	"time"
)

// appendTime appends RFC 3339 in UTC with all nine digits of the nanoseconds: lines then sort as
// text.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	ns := t.Nanosecond()
	b = append2(append2(b, year/100), year%100)
	b = append2(append(b, '-'), int(month))
	b = append2(append(b, '-'), day)
	b = append2(append(b, 'T'), hour)
	b = append2(append(b, ':'), minute)
	b = append2(append(b, ':'), second)
	b = append(b, '.')
	b = append3(append3(append3(b, ns/1e6), ns/1e3%1e3), ns%1e3)
	return append(b, 'Z')
}

// append2 appends two digits of v, which is not negative; append3 appends three.
func append2(b []byte, v int) []byte { return append(b, byte('0'+v/10%10), byte('0'+v%10)) }
func append3(b []byte, v int) []byte { return append2(append(b, byte('0'+v/100)), v%100) }

// appendInt is strconv.AppendInt for base 10, faster for small numbers.
func appendInt(b []byte, n int64) []byte {
	switch {
	case n < 0 || n > 999:
		return strconv.AppendInt(b, n, 10)
	case n > 99:
		return append3(b, int(n))
	case n > 9:
		return append2(b, int(n))
	}
	return append(b, byte('0'+n))
}

// appendMillis appends milliseconds with three decimals.
func appendMillis(b []byte, d time.Duration) []byte {
	us := max(d, 0).Microseconds()
	b = appendInt(b, us/1000)
	return append3(append(b, '.'), int(us%1000))
}

// appendID appends the ID. A generated one needs no escaping.
func appendID(b []byte, r *Record) []byte {
	if r.GivenID == nil && r.ID[0] != 0 {
		return append(b, r.ID[:]...)
	}
	return appendEscaped(b, r.GivenID)
}

// appendPeer appends address:port. A listener for both families sees IPv4 peers as mapped
// addresses; they are logged as what they are.
func appendPeer(b []byte, p netip.AddrPort) []byte {
	if !p.IsValid() {
		return b
	}
	if p.Addr().Zone() != "" { // an interface's name, which may hold anything
		return appendEscaped(b, p.String())
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()).AppendTo(b)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	if a.Zone() != "" {
		return appendEscaped(b, a.String())
	}
	return a.Unmap().AppendTo(b)
}
