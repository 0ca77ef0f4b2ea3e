package mptcp

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The structs of <linux/mptcp.h>, declared by hand. They grow from release to
// release, so the sizes here are those that are known, never those that are
// expected: every field is read only if the kernel's length reaches its end.
const (
	infoSize     = 96  // struct mptcp_info, Linux 6.10
	infoMinSize  = 40  // up to rcv_nxt: Linux 5.16 has no less
	sfInfoSize   = 264 // struct mptcp_subflow_info: u32 id, then 8-aligned mptcp_subflow_addrs
	sfAddrsSize  = 256 // struct mptcp_subflow_addrs: two sockaddr_storage
	sockaddrSize = 128
	tcpInfoSize  = 248 // what is asked of struct tcp_info
	fullInfoSize = minFullInfoBytes + infoSize
)

// fullInfo is struct mptcp_full_info.
type fullInfo struct {
	sizeTCPInfoKernel uint32
	sizeTCPInfoUser   uint32
	sizeSFInfoKernel  uint32
	sizeSFInfoUser    uint32
	numSubflows       uint32 // set by the kernel: as many as there are, also beyond the room given
	sizeArraysUser    uint32
	subflowInfo       uint64 // pointers
	tcpInfo           uint64
	info              [infoSize]byte
}

// subflowData is struct mptcp_subflow_data, the head of MPTCP_TCPINFO and MPTCP_SUBFLOW_ADDRS.
type subflowData struct {
	sizeSubflowData uint32
	numSubflows     uint32
	sizeKernel      uint32
	sizeUser        uint32
}

const subflowDataSize = 16

var (
	_ [fullInfoSize]byte    = [unsafe.Sizeof(fullInfo{})]byte{}
	_ [subflowDataSize]byte = [unsafe.Sizeof(subflowData{})]byte{}
)

// u8, u32 and u64 read a field in the byte order of this machine. One that the
// kernel's answer does not hold whole is 0.
func u8(b []byte, off int) uint8 {
	if off+1 > len(b) {
		return 0
	}
	return b[off]
}

func u32(b []byte, off int) uint32 {
	if off+4 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint32(b[off:])
}

func u64(b []byte, off int) uint64 {
	if off+8 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint64(b[off:])
}

func millis(b []byte, off int) time.Duration { return time.Duration(u32(b, off)) * time.Millisecond }
func micros(b []byte, off int) time.Duration { return time.Duration(u32(b, off)) * time.Microsecond }

// decodeInfo reads struct mptcp_info, of which b is what the kernel returned.
func (i *Info) decodeInfo(b []byte) {
	i.SubflowsExtra = int(u8(b, 0))
	i.AddrSignalled = int(u8(b, 1))
	i.AddrAccepted = int(u8(b, 2))
	i.SubflowsMax = int(u8(b, 3))
	i.AddrSignalMax = int(u8(b, 4))
	i.AddrAcceptedMax = int(u8(b, 5))
	flags := u32(b, 8)
	i.FellBack = flags&1 != 0
	i.RemoteKey = flags&2 != 0
	i.Token = u32(b, 12)
	i.WriteSeq = u64(b, 16)
	i.SndUna = u64(b, 24)
	i.RcvNxt = u64(b, 32)
	i.LocalAddrUsed = int(u8(b, 40))
	i.LocalAddrMax = int(u8(b, 41))
	i.Checksum = u8(b, 42) != 0
	i.Retrans = u32(b, 44)
	i.BytesRetrans = u64(b, 48)
	i.BytesSent = u64(b, 56)
	i.BytesReceived = u64(b, 64)
	i.BytesAcked = u64(b, 72)
	i.SubflowsTotal = int(u8(b, 80))
	i.LastDataSent = millis(b, 84)
	i.LastDataReceived = millis(b, 88)
	i.LastAckReceived = millis(b, 92)

	if len(b) >= infoMinSize {
		i.Has |= HasConnection
	}
	if len(b) >= 80 {
		i.Has |= HasBytes
	}
	if len(b) >= 81 {
		i.Has |= HasTotal
	}
	if len(b) >= 96 {
		i.Has |= HasTimes
	}
}

// decodeTCP reads struct tcp_info into the subflow.
func (s *Subflow) decodeTCP(b []byte) {
	s.State = State(u8(b, 0))
	s.Backoff = u8(b, 4)
	s.RTO = micros(b, 8)
	s.SndMSS = u32(b, 16)
	s.Unacked = u32(b, 24)
	s.Sacked = u32(b, 28)
	s.Lost = u32(b, 32)
	s.LastDataSent = millis(b, 44)
	s.LastDataReceived = millis(b, 52)
	s.LastAckReceived = millis(b, 56)
	s.RTT = micros(b, 68)
	s.RTTVar = micros(b, 72)
	s.SndCwnd = u32(b, 80)
	s.Retrans = u32(b, 100)
	s.PacingRate = u64(b, 104)
	s.BytesAcked = u64(b, 120)
	s.BytesReceived = u64(b, 128)
	s.NotSent = u32(b, 144)
	if rtt := u32(b, 148); rtt != ^uint32(0) { // none measured yet
		s.MinRTT = time.Duration(rtt) * time.Microsecond
	}
	s.DeliveryRate = u64(b, 160)
	s.BytesSent = u64(b, 200)
	s.BytesRetrans = u64(b, 208)
}

// decodeAddrs reads struct mptcp_subflow_addrs.
func (s *Subflow) decodeAddrs(b []byte) {
	s.Local = decodeSockaddr(b)
	if len(b) > sockaddrSize {
		s.Remote = decodeSockaddr(b[sockaddrSize:])
	}
}

// decodeSockaddr reads a sockaddr_in or sockaddr_in6. One that is cut short is
// no address rather than a wrong one. Addresses of IPv4 subflows of an IPv6
// socket come as IPv4.
func decodeSockaddr(b []byte) netip.AddrPort {
	if len(b) < 2 {
		return netip.AddrPort{}
	}
	switch binary.NativeEndian.Uint16(b) {
	case unix.AF_INET:
		if len(b) < 8 {
			return netip.AddrPort{}
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:]))
	case unix.AF_INET6:
		if len(b) < 24 {
			return netip.AddrPort{}
		}
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), binary.BigEndian.Uint16(b[2:]))
	}
	return netip.AddrPort{}
}
