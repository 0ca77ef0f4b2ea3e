package target

import (
	"bytes"
	"net/netip"
	"unsafe"
)

const maxHost = 253 // RFC 1035 3.1, as text

// Host gives the canonical host and the port of raw, a Host field or the authority of a target:
// lower case, without a trailing dot, an IPv6 address in brackets and in the form of RFC 5952; the
// port without leading zeros, nil when there is none or an empty one.
//
// The grammar is that of RFC 9110 7.2 and RFC 3986 3.2.2, less what no name of a server has and
// what would be read differently elsewhere: percent-encodings, bytes that are not ASCII, a user,
// zones, and sub-delims (a comma would make two hosts of one in X-Forwarded-Host, a semicolon a
// parameter in Forwarded). "_" may stand in a name.
//
// The result points into raw where that is canonical.
func Host(raw []byte, scratch *[]byte) (host, port []byte, err error) {
	if len(raw) > 0 && raw[0] == '[' {
		return hostIPv6(raw, scratch)
	}
	end, upper, err := hostEnd(raw)
	if err != nil {
		return nil, nil, err
	}
	if port, err = portOf(raw[end:]); err != nil {
		return nil, nil, err
	}
	host = raw[:end]
	if end > 0 && host[end-1] == '.' {
		host = host[:end-1]
	}
	switch {
	case len(host) == 0:
		return nil, nil, ErrHostEmpty
	case len(host) > maxHost:
		return nil, nil, ErrHostLong
	case host[len(host)-1] == '.':
		return nil, nil, ErrHostLabel
	}
	if !upper {
		return host[:len(host):len(host)], port, nil
	}
	base := len(*scratch)
	out := *scratch
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	*scratch = out
	return out[base:len(out):len(out)], port, nil
}

// hostEnd returns where the name in raw ends, at a colon or at the end, and whether it has
// upper-case letters.
func hostEnd(raw []byte) (end int, upper bool, err error) {
	for end < len(raw) && raw[end] != ':' {
		switch c := raw[end]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.':
			if end == 0 && len(raw) > 1 || end > 0 && raw[end-1] == '.' {
				return 0, false, ErrHostLabel
			}
		case 'A' <= c && c <= 'Z':
			upper = true
		default:
			return 0, false, ErrHostByte
		}
		end++
	}
	return end, upper, nil
}

func hostIPv6(raw []byte, scratch *[]byte) (host, port []byte, err error) {
	end := bytes.IndexByte(raw, ']')
	// The longest is an IPv4 address written behind six groups, 45 bytes.
	if end < 0 || end > 46 || bytes.IndexByte(raw[:end], '%') >= 0 {
		return nil, nil, ErrHostIPv6
	}
	inner := raw[1:end]
	// ParseAddr keeps the string only in its error and for a zone; neither leaves here.
	addr, parseErr := netip.ParseAddr(unsafe.String(unsafe.SliceData(inner), len(inner)))
	if parseErr != nil || !addr.Is6() {
		return nil, nil, ErrHostIPv6
	}
	if port, err = portOf(raw[end+1:]); err != nil {
		return nil, nil, err
	}
	base := len(*scratch)
	out := append(*scratch, '[')
	out = append(addr.AppendTo(out), ']')
	if bytes.Equal(out[base:], raw[:end+1]) {
		*scratch = out[:base]
		return raw[: end+1 : end+1], port, nil
	}
	*scratch = out
	return out[base:len(out):len(out)], port, nil
}

// portOf reads what stands behind a host: nothing, or a colon and a port that may be empty.
func portOf(rest []byte) ([]byte, error) {
	if len(rest) == 0 {
		return nil, nil
	}
	port := rest[1:]
	if rest[0] != ':' || len(port) > 5 {
		return nil, ErrHostPort
	}
	n := 0
	for _, c := range port {
		if c < '0' || c > '9' {
			return nil, ErrHostPort
		}
		n = n*10 + int(c-'0')
	}
	if n > 65535 {
		return nil, ErrHostPort
	}
	if len(port) == 0 {
		return nil, nil
	}
	for len(port) > 1 && port[0] == '0' {
		port = port[1:]
	}
	return port, nil
}

// SameAuthority reports whether two authorities, as Host gives them, are the same one under a
// scheme: its default port may be written or left out (RFC 9110 section 4.2.3).
func SameAuthority(scheme string, host1, port1, host2, port2 []byte) bool {
	return bytes.Equal(host1, host2) && bytes.Equal(withoutDefault(scheme, port1), withoutDefault(scheme, port2))
}

func withoutDefault(scheme string, port []byte) []byte {
	if scheme == "http" && string(port) == "80" || scheme == "https" && string(port) == "443" {
		return nil
	}
	return port
}
