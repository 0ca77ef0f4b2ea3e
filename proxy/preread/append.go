package preread

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// Append appends a PROXY header, in version 2 where p.Version is 2 and else in version 1, which has
// TCP addresses only. What a version cannot express is sent as unknown; an IPv4 address with an
// IPv6 one is written as IPv6.
func (p *Proxy) Append(dst []byte) []byte {
	if p.Version == 2 {
		return p.append2(dst)
	}
	return p.append1(dst)
}

func (p *Proxy) append1(dst []byte) []byte {
	if p.Local || p.Datagram || !p.Source.IsValid() || !p.Destination.IsValid() {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	source, destination := p.Source.Addr().Unmap().WithZone(""), p.Destination.Addr().Unmap().WithZone("")
	protocol := "TCP4"
	if source.Is6() || destination.Is6() {
		protocol = "TCP6"
		source, destination = netip.AddrFrom16(source.As16()), netip.AddrFrom16(destination.As16())
	}
	return fmt.Appendf(dst, "PROXY %s %s %s %d %d\r\n", protocol, text1(source), text1(destination), p.Source.Port(), p.Destination.Port())
}

// text1 writes an address in groups only, also one that has an IPv4 address at its end: the
// specification knows no dots in IPv6.
func text1(a netip.Addr) string {
	if !a.Is4In6() {
		return a.String()
	}
	b := a.As16()
	return fmt.Sprintf("::ffff:%x:%x", binary.BigEndian.Uint16(b[12:]), binary.BigEndian.Uint16(b[14:]))
}

func (p *Proxy) append2(dst []byte) []byte {
	dst = append(dst, signature2...)
	if p.Local {
		return append(dst, 2<<4, 0, 0, 0)
	}
	family, protocol := byte(familyNone), byte(protocolStream)
	if p.Datagram {
		protocol = protocolDatagram
	}
	source, destination := p.Source.Addr().Unmap(), p.Destination.Addr().Unmap()
	switch {
	case p.Unix:
		family = familyUnix
	case !p.Source.IsValid() || !p.Destination.IsValid():
		protocol = protocolNone
	case source.Is4() && destination.Is4():
		family = family4
	default:
		family = family6
		source, destination = netip.AddrFrom16(source.As16()), netip.AddrFrom16(destination.As16())
	}
	dst = append(dst, 2<<4|1, family<<4|protocol)
	dst = binary.BigEndian.AppendUint16(dst, uint16(addressLength[family]))
	switch family {
	case familyUnix:
		dst = appendPath(dst, p.SourcePath)
		dst = appendPath(dst, p.DestinationPath)
	case family4, family6:
		dst = append(dst, source.AsSlice()...)
		dst = append(dst, destination.AsSlice()...)
		dst = binary.BigEndian.AppendUint16(dst, p.Source.Port())
		dst = binary.BigEndian.AppendUint16(dst, p.Destination.Port())
	}
	return dst
}

func appendPath(dst []byte, path string) []byte {
	var b [pathLength]byte
	switch {
	case strings.HasPrefix(path, "./@"): // see unixPath
		copy(b[:], path[2:])
	case strings.HasPrefix(path, "@"):
		copy(b[1:], path[1:])
	default:
		copy(b[:], path)
	}
	return append(dst, b[:]...)
}
