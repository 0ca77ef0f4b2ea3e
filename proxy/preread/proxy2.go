package preread

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// Families and protocols of version 2; the fourteenth byte holds both.
const (
	familyNone = 0
	family4    = 1
	family6    = 2
	familyUnix = 3

	protocolNone     = 0
	protocolStream   = 1
	protocolDatagram = 2
)

const (
	headLength = 16  // signature, version and command, family and protocol, length
	pathLength = 108 // of a Unix socket, filled up with zeros
	typeCRC32C = 3
)

// addressLength of a family.
var addressLength = [...]int{familyNone: 0, family4: 2*4 + 2*2, family6: 2*16 + 2*2, familyUnix: 2 * pathLength}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errShort2 = errors.New("PROXY header: it is too short for the addresses that it announces")

func parseProxy2(b []byte) (Proxy, int, error) {
	if !matchesPrefix(b, signature2) {
		return Proxy{}, 0, ErrNoProxy
	}
	if err := checkHead2(b); err != nil {
		return Proxy{}, 0, err
	}
	if len(b) < headLength {
		return Proxy{}, 0, ErrMore
	}
	local, family, protocol := b[12]&15 == 0, b[13]>>4, b[13]&15
	n := headLength + int(binary.BigEndian.Uint16(b[14:]))
	// What stands behind the head then is to be skipped, whatever it is.
	skip := local || family == familyNone || protocol == protocolNone
	switch {
	case n > MaxProxy:
		return Proxy{}, 0, fmt.Errorf("PROXY header: it announces %d bytes; at most %d are read", n, MaxProxy)
	case !skip && n < headLength+addressLength[family]:
		return Proxy{}, 0, errShort2
	case len(b) < n:
		return Proxy{}, 0, ErrMore
	}
	p := Proxy{Version: 2, Local: local}
	if skip {
		return p, n, nil
	}
	p.Datagram = protocol == protocolDatagram
	addresses := b[headLength:]
	switch family {
	case family4:
		p.Source, p.Destination = addresses2(addresses, 4)
	case family6:
		p.Source, p.Destination = addresses2(addresses, 16)
	case familyUnix:
		p.Unix = true
		p.SourcePath, p.DestinationPath = unixPath(addresses[:pathLength]), unixPath(addresses[pathLength:2*pathLength])
	}
	if err := checkValues(b[:n], headLength+addressLength[family]); err != nil {
		return Proxy{}, 0, err
	}
	return p, n, nil
}

// checkHead2 looks at as much of the two bytes behind the signature as has come.
func checkHead2(b []byte) error {
	if len(b) > 12 && (b[12]>>4 != 2 || b[12]&15 > 1) {
		return fmt.Errorf("PROXY header: got version %d, command %d; want version 2, command 0 (LOCAL) or 1 (PROXY)", b[12]>>4, b[12]&15)
	}
	if len(b) > 13 && (b[13]>>4 > familyUnix || b[13]&15 > protocolDatagram) {
		return fmt.Errorf("PROXY header: got family %d, protocol %d; want a family up to 3, a protocol up to 2", b[13]>>4, b[13]&15)
	}
	return nil
}

func addresses2(b []byte, size int) (source, destination netip.AddrPort) {
	address := func(i int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(b[i*size : (i+1)*size])
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[2*size+2*i:]))
	}
	return address(0), address(1)
}

// unixPath reads the path of a Unix socket. One that begins with a zero, and is not all zeros, is
// abstract. A file whose name begins with "@" gets "./" in front, so that it is not taken for that.
func unixPath(b []byte) string {
	if b[0] == 0 {
		if name := bytes.TrimRight(b[1:], "\x00"); len(name) > 0 {
			return "@" + string(name)
		}
		return ""
	}
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	if b[0] == '@' {
		return "./" + string(b)
	}
	return string(b)
}

// checkValues walks through the type-length-value triples of a header from offset to its end. None
// is used but the checksum.
func checkValues(header []byte, offset int) error {
	checksum := -1
	for offset < len(header) {
		value := offset + 3
		if value > len(header) {
			return fmt.Errorf("PROXY header: %d bytes are left at its end; want a type, a length and a value", len(header)-offset)
		}
		length := int(binary.BigEndian.Uint16(header[offset+1:]))
		if value+length > len(header) {
			return fmt.Errorf("PROXY header: a value of %d bytes runs over its end; %d are left", length, len(header)-value)
		}
		if header[offset] == typeCRC32C {
			if length != crc32.Size || checksum >= 0 {
				return fmt.Errorf("PROXY header: want one checksum of %d bytes, got another or one of %d", crc32.Size, length)
			}
			checksum = value
		}
		offset = value + length
	}
	if checksum < 0 {
		return nil
	}
	// The checksum is that of the header with zeros in its place.
	sum := crc32.Update(0, castagnoli, header[:checksum])
	sum = crc32.Update(sum, castagnoli, make([]byte, crc32.Size))
	sum = crc32.Update(sum, castagnoli, header[checksum+crc32.Size:])
	if got := binary.BigEndian.Uint32(header[checksum:]); got != sum {
		return fmt.Errorf("PROXY header: got checksum %08x; that of its bytes is %08x", got, sum)
	}
	return nil
}
