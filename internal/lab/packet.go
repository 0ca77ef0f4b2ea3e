package lab

import "encoding/binary"

const (
	protoTCP    = 6
	optionMPTCP = 30 // RFC 8684 section 3
	subCapable  = 0
	subJoin     = 1
	flagSYN     = 0x02
)

// tcpOf returns the TCP segment in an IP packet, and the part of the checksum
// that the pseudo-header contributes; nil for anything else, and for fragments
// and IPv6 packets with extension headers.
func tcpOf(packet []byte) (segment []byte, pseudo uint32) {
	if len(packet) < 20 {
		return nil, 0
	}
	var addresses []byte
	switch packet[0] >> 4 {
	case 4:
		head := int(packet[0]&15) * 4
		total := int(binary.BigEndian.Uint16(packet[2:]))
		fragment := binary.BigEndian.Uint16(packet[6:]) & 0x3fff // more fragments, or an offset
		if packet[9] != protoTCP || fragment != 0 || head < 20 || total > len(packet) || total < head {
			return nil, 0
		}
		segment, addresses = packet[head:total], packet[12:20]
	case 6:
		if len(packet) < 40 || packet[6] != protoTCP {
			return nil, 0
		}
		total := 40 + int(binary.BigEndian.Uint16(packet[4:]))
		if total > len(packet) {
			return nil, 0
		}
		segment, addresses = packet[40:total], packet[8:40]
	default:
		return nil, 0
	}
	if len(segment) < 20 || int(segment[12]>>4)*4 > len(segment) || segment[12]>>4 < 5 {
		return nil, 0
	}
	return segment, sum16(addresses) + protoTCP + uint32(len(segment))
}

// sum16 is the one's complement sum before it is folded.
func sum16(b []byte) (sum uint32) {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// mptcpOption walks over the MPTCP options of a segment until f says stop.
func mptcpOption(segment []byte, f func(option []byte) (stop bool)) {
	options := segment[20 : int(segment[12]>>4)*4]
	for len(options) > 0 {
		switch options[0] {
		case 0:
			return
		case 1:
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return
		}
		n := int(options[1])
		if options[0] == optionMPTCP && n >= 3 && f(options[:n]) {
			return
		}
		options = options[n:]
	}
}

// apply lets the box act on an IP packet, in place. acted says whether it did
// something, drop that the packet is to vanish.
func (b Box) apply(packet []byte) (acted, drop bool) {
	if b == NoBox {
		return false, false
	}
	segment, pseudo := tcpOf(packet)
	if segment == nil {
		return false, false
	}
	if b == StripMPTCP {
		mptcpOption(segment, func(option []byte) bool {
			for i := range option {
				option[i] = 1
			}
			acted = true
			return false
		})
		if acted {
			segment[16], segment[17] = 0, 0
			sum := pseudo + sum16(segment)
			for sum>>16 != 0 {
				sum = sum>>16 + sum&0xffff
			}
			binary.BigEndian.PutUint16(segment[16:], ^uint16(sum))
		}
		return acted, false
	}
	if segment[13]&flagSYN == 0 {
		return false, false
	}
	unwanted := byte(subCapable)
	if b == DropJoin {
		unwanted = subJoin
	}
	mptcpOption(segment, func(option []byte) bool {
		drop = option[2]>>4 == unwanted
		return drop
	})
	return drop, drop
}
