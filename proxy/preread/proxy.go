package preread

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// The PROXY protocol, as HAProxy's doc/proxy-protocol.txt of 2020-03-05 has it.

// MaxProxy is the most bytes that a PROXY header may have here. The addresses take 232, the rest is
// for other values, such as the client's certificate.
const MaxProxy = 16 << 10

// ErrNoProxy says that the first bytes are not those of a PROXY header of either version.
var ErrNoProxy = errors.New("PROXY header: there is none")

// Proxy is what a PROXY header says about a connection.
type Proxy struct {
	Version  uint8 // 1 or 2
	Local    bool  // version 2: the sender's own connection, such as a health check
	Datagram bool  // version 2: the client used datagrams

	// The client's connection as the sender saw it. Neither the addresses nor the paths are set for
	// Local, or if the sender did not know them or could not say; then those of the real connection
	// count. IPv4 addresses written as IPv6 ones are IPv4 here.
	Source, Destination         netip.AddrPort
	SourcePath, DestinationPath string // of a Unix socket; "@" begins an abstract one
	Unix                        bool   // the paths are valid, though they may be empty
}

// Known reports whether the header says where the client came from.
func (p *Proxy) Known() bool { return p.Source.IsValid() || p.Unix }

const (
	signature1 = "PROXY"
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
	maxLine1   = 107 // with CRLF
)

// ParseProxy reads a PROXY header at the beginning of b, and returns what it says and its length.
func ParseProxy(b []byte) (p Proxy, n int, err error) {
	if len(b) == 0 {
		return Proxy{}, 0, ErrMore
	}
	if b[0] == signature1[0] {
		p, n, err = parseProxy1(b)
	} else {
		p, n, err = parseProxy2(b)
	}
	if err != nil {
		return Proxy{}, 0, err
	}
	return p, n, nil
}

func parseProxy1(b []byte) (Proxy, int, error) {
	if !matchesPrefix(b, signature1) {
		return Proxy{}, 0, ErrNoProxy
	}
	line, err := line1(b[:min(len(b), maxLine1)])
	if err != nil {
		return Proxy{}, 0, err
	}
	n := len(line) + len("\r\n")
	rest := line[len(signature1):]
	if bytes.Equal(rest, []byte(" UNKNOWN")) || bytes.HasPrefix(rest, []byte(" UNKNOWN ")) {
		return Proxy{Version: 1}, n, nil
	}
	fields := bytes.Split(rest, []byte(" "))
	if len(fields) != 6 {
		return Proxy{}, 0, fmt.Errorf("PROXY header: got %q; want a protocol, two addresses and two ports, each behind one space", line)
	}
	p := Proxy{Version: 1}
	is6 := string(fields[1]) == "TCP6"
	if p.Source, err = address1(fields[2], fields[4], is6); err != nil {
		return Proxy{}, 0, err
	}
	if p.Destination, err = address1(fields[3], fields[5], is6); err != nil {
		return Proxy{}, 0, err
	}
	return p, n, nil
}

// line1 returns the line of a version 1 header without its CRLF. b begins with the signature, or
// with a part of it, and is cut to the length that a line may have.
func line1(b []byte) ([]byte, error) {
	rest := b[min(len(b), len(signature1)):]
	free := bytes.HasPrefix(rest, []byte(" U")) // UNKNOWN: anything may follow
	if !matchesPrefix(rest, " TCP4 ") && !matchesPrefix(rest, " TCP6 ") && !matchesPrefix(rest, " UNKNOWN\r\n") && !matchesPrefix(rest, " UNKNOWN ") {
		return nil, fmt.Errorf(`PROXY header: got %q; want TCP4, TCP6 or UNKNOWN behind "PROXY "`, b)
	}
	for i, c := range b {
		switch {
		case c == '\n' && b[i-1] == '\r':
			return b[:i-1], nil
		case c == '\n' || b[max(i-1, 0)] == '\r':
			return nil, fmt.Errorf("PROXY header: got %q; the line has to end with CR and LF, and has neither within", b)
		case c != '\r' && !free && i >= len(signature1)+len(" TCP4") && !addressByte(c):
			return nil, fmt.Errorf("PROXY header: got %q; want addresses and ports behind the protocol", b)
		}
	}
	if len(b) == maxLine1 {
		return nil, fmt.Errorf("PROXY header: got %q; the line has to end within %d bytes", b, maxLine1)
	}
	return nil, ErrMore
}

func addressByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' || c == '.' || c == ':' || c == ' '
}

func address1(addr, port []byte, is6 bool) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(string(addr))
	if err != nil || a.Is6() != is6 {
		return netip.AddrPort{}, fmt.Errorf("PROXY header: got %q; want an IPv%d address", addr, map[bool]int{false: 4, true: 6}[is6])
	}
	n, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, fmt.Errorf("PROXY header: got %q; want a port up to 65535 without leading zeros", port)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// matchesPrefix reports whether b begins with prefix, or with as much of it as b is long.
func matchesPrefix(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}
