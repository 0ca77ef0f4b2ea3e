package lab

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	capable4 = []byte{2, 4, 5, 0xb4, 4, 2, 1, 1, optionMPTCP, 4, subCapable<<4 | 1, 1}
	join     = []byte{optionMPTCP, 12, subJoin << 4, 2, 1, 2, 3, 4, 5, 6, 7, 8}
	dss      = []byte{1, 1, optionMPTCP, 10, 0x20, 1, 0, 0, 0, 1, 0, 0}
	plain    = []byte{2, 4, 5, 0xb4}
)

func ipTCP(from, to netip.Addr, flags byte, options, payload []byte) []byte {
	segment := make([]byte, 20, 20+len(options)+len(payload))
	segment[12], segment[13] = byte(20+len(options))/4<<4, flags
	segment = append(append(segment, options...), payload...)
	var head []byte
	if from.Is4() {
		head = make([]byte, 20)
		head[0], head[9] = 0x45, protoTCP
		binary.BigEndian.PutUint16(head[2:], uint16(20+len(segment)))
	} else {
		head = make([]byte, 8)
		head[0], head[6] = 0x60, protoTCP
		binary.BigEndian.PutUint16(head[4:], uint16(len(segment)))
	}
	if from.Is4() {
		copy(head[12:], from.AsSlice())
		copy(head[16:], to.AsSlice())
	} else {
		head = append(append(head, from.AsSlice()...), to.AsSlice()...)
	}
	packet := append(head, segment...)
	binary.BigEndian.PutUint16(packet[len(head)+16:], ^checksum(packet))
	return packet
}

// checksum is 0xffff for a packet that is right.
func checksum(packet []byte) uint16 {
	segment, sum := tcpOf(packet)
	sum += sum16(segment)
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestBoxes(t *testing.T) {
	a4, b4 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	a6, b6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	payload := []byte("an odd one!") // 11 bytes
	const syn, ack = flagSYN, 0x10
	for _, c := range []struct {
		name          string
		box           Box
		flags         byte
		options       []byte
		acted, drop   bool
		leavesOptions []byte
	}{
		{"no box", NoBox, syn, capable4, false, false, capable4},
		{"strip capable", StripMPTCP, syn, capable4, true, false, []byte{2, 4, 5, 0xb4, 4, 2, 1, 1, 1, 1, 1, 1}},
		{"strip dss", StripMPTCP, ack, dss, true, false, bytes.Repeat([]byte{1}, 12)},
		{"strip nothing", StripMPTCP, syn, plain, false, false, plain},
		{"drop capable", DropCapable, syn, capable4, true, true, capable4},
		{"drop capable, not a SYN", DropCapable, ack, capable4, false, false, capable4},
		{"drop capable, a join", DropCapable, syn, join, false, false, join},
		{"drop join", DropJoin, syn, join, true, true, join},
		{"drop join, a capable", DropJoin, syn, capable4, false, false, capable4},
		{"broken option", StripMPTCP, syn, []byte{optionMPTCP, 0, 1, 1}, false, false, []byte{optionMPTCP, 0, 1, 1}},
		{"option beyond the end", StripMPTCP, syn, []byte{optionMPTCP, 8, 1, 1}, false, false, []byte{optionMPTCP, 8, 1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, pair := range [][2]netip.Addr{{a4, b4}, {a6, b6}} {
				p := ipTCP(pair[0], pair[1], c.flags, c.options, payload)
				acted, drop := c.box.apply(p)
				if acted != c.acted || drop != c.drop {
					t.Errorf("acted %v, drop %v; want %v, %v", acted, drop, c.acted, c.drop)
				}
				if got := checksum(p); got != 0xffff {
					t.Errorf("checksum is wrong: %#x", got)
				}
				segment, _ := tcpOf(p)
				if got := segment[20 : 20+len(c.options)]; !bytes.Equal(got, c.leavesOptions) {
					t.Errorf("options % x, want % x", got, c.leavesOptions)
				}
			}
		})
	}
}

func FuzzBox(f *testing.F) {
	a4, b4 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for _, o := range [][]byte{capable4, join, dss, plain} {
		f.Add(ipTCP(a4, b4, flagSYN, o, nil))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		whole := len(packet)
		for _, b := range []Box{DropCapable, DropJoin, StripMPTCP} {
			b.apply(packet)
		}
		if len(packet) != whole {
			t.Fatal("length changed")
		}
		if acted, _ := StripMPTCP.apply(packet); acted {
			t.Error("an option survived")
		}
	})
}
